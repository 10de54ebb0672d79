// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// serviceView is what the plan found out about one Service.
type serviceView struct {
	group int   // in Result.Groups, or -1
	sets  []int // advertisement set of each assigned address; see selection
}

// Plan says who may announce what in the cluster that s describes. It reads s
// and keeps it: s must not change as long as the result is used.
func Plan(s *lb.Snapshot, self lb.NodeName) Result {
	r := Result{
		Self:      self,
		snapshot:  s,
		services:  make([]serviceView, len(s.Services)),
		byKey:     make(map[lb.ServiceKey]int, len(s.Services)),
		selection: newSelection(s),
	}
	total := 0
	for i := range s.Services {
		total += len(s.Services[i].Assigned)
	}
	sets := make([]int, 0, total) // of all Services, one after the other
	for i := range s.Services {
		svc := &s.Services[i]
		r.byKey[svc.Key] = i
		from := len(sets)
		sets = r.selection.appendSets(sets, svc)
		r.services[i] = serviceView{group: -1, sets: sets[from:len(sets):len(sets)]}
	}
	all := components(s.Services)
	// By key, which is cheaper than to sort the Groups.
	slices.SortFunc(all, func(a, b []int) int { return s.Services[a[0]].Assigned[0].Compare(s.Services[b[0]].Assigned[0]) })
	r.Groups = make([]Group, 0, len(all))
	room := memory{addresses: make([]netip.Addr, 0, total), keys: make([]lb.ServiceKey, 0, len(s.Services))}
	for _, members := range all {
		r.addGroup(members, &room)
	}
	for g := range r.Groups {
		for _, key := range r.Groups[g].Services {
			r.services[r.byKey[key]].group = g
		}
	}
	r.planBGP()
	return r
}

// components returns the indexes of Services that are connected by common
// addresses, each component and the list of them older first. Services without
// an address are in none.
func components(services []lb.Service) [][]int {
	parent := make([]int, len(services))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	first := make(map[netip.Addr]int, len(services))
	for i := range services {
		for _, ip := range services[i].Assigned {
			j, seen := first[ip]
			if !seen {
				first[ip] = i
				continue
			}
			// The older root stays, so that a root is its component's oldest.
			a, b := root(i), root(j)
			parent[max(a, b)] = min(a, b)
		}
	}
	at := make([]int, len(services)) // of a root: its place in out, plus one
	out := make([][]int, 0, len(services))
	backing := make([]int, len(services))
	for i := range services {
		if len(services[i].Assigned) == 0 {
			continue
		}
		if r := root(i); at[r] != 0 {
			out[at[r]-1] = append(out[at[r]-1], i)
		} else {
			backing[i] = i
			out = append(out, backing[i:i+1:i+1])
			at[r] = len(out)
		}
	}
	return out
}

// memory is one piece for what all groups list: thousands of pieces take longer
// to get, and more room.
type memory struct {
	addresses []netip.Addr
	keys      []lb.ServiceKey
}

// addGroup makes the group of one component, if an advertisement covers any of
// its addresses.
func (r *Result) addGroup(members []int, room *memory) {
	services := r.snapshot.Services
	g := Group{Key: services[members[0]].Assigned[0]}
	if i := members[0]; len(members) == 1 && len(services[i].Assigned) == 1 { // nearly always; as below
		if set := r.services[i].sets[0]; set != uncovered {
			room.addresses, room.keys = append(room.addresses, g.Key), append(room.keys, services[i].Key)
			g.Addresses, g.Services = last(room.addresses), last(room.keys)
			if services[i].Move.At.After(g.Move.At) {
				g.Move = services[i].Move
			}
			r.serving(&g, r.selection.sets[set].candidates)
			r.Groups = append(r.Groups, g)
		}
		return
	}
	covered := r.coveredAddresses(members)
	if len(covered) == 0 {
		return
	}
	var sets []int
	alike := true
	for i := range covered {
		g.Addresses = append(g.Addresses, covered[i].ip)
		sets = append(sets, covered[i].sets...)
		alike = alike && slices.Equal(covered[i].sets, covered[0].sets)
	}
	if !alike {
		for i := range covered {
			g.Covers = append(g.Covers, r.selection.candidates(slices.Clone(covered[i].sets)))
		}
	}
	g.Services = make([]lb.ServiceKey, 0, len(members))
	for _, i := range members {
		if len(members) == 1 || slices.ContainsFunc(services[i].Assigned, g.Has) {
			g.Services = append(g.Services, services[i].Key)
			if services[i].Move.At.After(g.Move.At) {
				g.Move = services[i].Move
			}
		}
	}
	r.serving(&g, r.selection.candidates(sets))
	r.Groups = append(r.Groups, g)
}

// last is the last element as a list of its own.
func last[T any](list []T) []T {
	n := len(list)
	return list[n-1 : n : n]
}

// coverage is an address and the sets of advertisements that cover it.
type coverage struct {
	ip   netip.Addr
	sets []int // sorted
}

// coveredAddresses lists, sorted, the addresses of a component that are covered
// for every Service that uses them. To announce an address for only some of
// those who share it would take the others' traffic along although no
// advertisement says so.
func (r *Result) coveredAddresses(members []int) []coverage {
	var out []coverage
	if len(members) == 1 { // nearly always; without a map
		i := members[0]
		for j, ip := range r.snapshot.Services[i].Assigned {
			known := slices.ContainsFunc(out, func(c coverage) bool { return c.ip == ip })
			if set := r.services[i].sets[j]; set != uncovered && !known {
				out = append(out, coverage{ip, []int{set}})
			}
		}
	} else {
		byAddress := make(map[netip.Addr][]int)
		for _, i := range members {
			for j, ip := range r.snapshot.Services[i].Assigned {
				byAddress[ip] = append(byAddress[ip], r.services[i].sets[j])
			}
		}
		for ip, sets := range byAddress { // sorted below
			if !slices.Contains(sets, uncovered) {
				slices.Sort(sets)
				out = append(out, coverage{ip, slices.Compact(sets)})
			}
		}
	}
	slices.SortFunc(out, func(a, b coverage) int { return a.ip.Compare(b.ip) })
	return out
}

// serving narrows candidates to the nodes that traffic may be sent to: with
// externalTrafficPolicy Cluster all, if an endpoint serves anywhere, with Local
// those where one serves.
func (r *Result) serving(g *Group, candidates []Candidate) {
	var merged []lb.NodeEndpoints
	for _, key := range g.Services {
		svc := &r.snapshot.Services[r.byKey[key]]
		switch {
		case svc.Local && len(g.Services) == 1: // nearly always; without a copy
			merged = svc.Endpoints
		case svc.Local:
			merged = append(merged, svc.Endpoints...)
		case serves(svc):
			g.Candidates, g.Local = candidates, false
			return
		}
		g.Local = g.Local || svc.Local
	}
	if len(g.Services) > 1 {
		slices.SortFunc(merged, func(a, b lb.NodeEndpoints) int { return cmp.Compare(a.Node, b.Node) })
	}
	g.Candidates, g.Draining = local(candidates, merged)
}

// serves reports whether any endpoint of the Service serves.
func serves(svc *lb.Service) bool {
	return slices.ContainsFunc(svc.Endpoints, func(e lb.NodeEndpoints) bool { return e.Count > 0 })
}

// local returns the candidates with a serving endpoint, and those that have only
// draining ones. Both lists are sorted by node; endpoints may list a node more
// than once.
func local(candidates []Candidate, endpoints []lb.NodeEndpoints) (serving, draining []Candidate) {
	c := 0
	for e := 0; e < len(endpoints); {
		sum := lb.NodeEndpoints{Node: endpoints[e].Node}
		for ; e < len(endpoints) && endpoints[e].Node == sum.Node; e++ {
			sum.Count += endpoints[e].Count
			sum.Draining += endpoints[e].Draining
		}
		for c < len(candidates) && candidates[c].Node < sum.Node {
			c++
		}
		switch {
		case c == len(candidates) || candidates[c].Node != sum.Node:
		case sum.Count > 0:
			if serving == nil {
				serving = make([]Candidate, 0, min(len(candidates)-c, len(endpoints)))
			}
			serving = append(serving, candidates[c])
		case sum.Draining > 0:
			draining = append(draining, candidates[c])
		}
	}
	return serving, draining
}
