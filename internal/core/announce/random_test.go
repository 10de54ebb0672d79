// SPDX-License-Identifier: Apache-2.0

package announce_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestRandom compares plans of random clusters with a second implementation
// that asks the questions of the contract one by one.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	for i := range 300 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		s := randomCluster(rng)
		r := announce.Plan(s, "n0")
		got := render(s, &r)
		again := announce.Plan(s, "n0")
		if diff := cmp.Diff(got, render(s, &again)); diff != "" {
			t.Fatalf("seed %d/%d: two plans of one snapshot differ:\n%s", seed, i, diff)
		}
		if diff := cmp.Diff(dumbPlan(s), candidatesOf(&r)); diff != "" {
			t.Fatalf("seed %d/%d: candidates (-want +got):\n%s", seed, i, diff)
		}
		for j := range s.Services {
			checkReasons(t, s, &r, &s.Services[j])
		}
	}
}

// checkReasons asserts that whoever is not announced, or may not announce, has
// a reason, and nobody else.
func checkReasons(t *testing.T, s *lb.Snapshot, r *announce.Result, svc *lb.Service) {
	t.Helper()
	g, ok := r.Group(svc.Key)
	announced := ok && len(g.Candidates) > 0
	if v := r.Verdict(svc.Key); v.Code == "" && !announced {
		t.Errorf("%v is not announced without a reason", svc.Key)
	}
	for _, n := range s.Nodes {
		candidate := false
		if ok {
			_, candidate = g.Candidate(n.Name)
		}
		if why := r.Explain(svc.Key, n.Name); (why.Code == "") != candidate {
			t.Errorf("%v, %s: candidate is %v, but the reason is %q", svc.Key, n.Name, candidate, why)
		}
	}
}

func candidatesOf(r *announce.Result) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, g := range r.Groups {
		for _, ip := range g.Addresses {
			out[ip] = ""
			for _, c := range g.Candidates {
				out[ip] += fmt.Sprintf("%s/%d%v ", c.Node, c.Score, c.Interfaces)
			}
		}
	}
	return out
}

func dumbPlan(s *lb.Snapshot) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for i := range s.Services {
		for _, ip := range s.Services[i].Assigned {
			group := closure(s, ip)
			if !covered(s, ip) {
				continue
			}
			out[ip] = ""
			for n := range s.Nodes {
				out[ip] += dumbCandidate(s, &s.Nodes[n], group)
			}
		}
	}
	return out
}

// closure finds all Services that are connected with ip by common addresses.
func closure(s *lb.Snapshot, ip netip.Addr) []*lb.Service {
	ips := []netip.Addr{ip}
	var group []*lb.Service
	for grown := true; grown; {
		grown = false
		for i := range s.Services {
			svc := &s.Services[i]
			if slices.Contains(group, svc) || !slices.ContainsFunc(svc.Assigned, func(a netip.Addr) bool { return slices.Contains(ips, a) }) {
				continue
			}
			group, ips, grown = append(group, svc), append(ips, svc.Assigned...), true
		}
	}
	return group
}

func dumbAds(s *lb.Snapshot, svc *lb.Service, ip netip.Addr) []*lb.L2Advertisement {
	var out []*lb.L2Advertisement
	for i := range s.L2Advertisements {
		ad := &s.L2Advertisements[i]
		if !ad.SelectsService(svc.Labels) {
			continue
		}
		for p := range s.Pools {
			if s.Pools[p].Contains(ip) && ad.SelectsPool(s.Pools[p].Name) {
				out = append(out, ad)
			}
		}
	}
	return out
}

func covered(s *lb.Snapshot, ip netip.Addr) bool {
	for i := range s.Services {
		if svc := &s.Services[i]; slices.Contains(svc.Assigned, ip) && len(dumbAds(s, svc, ip)) == 0 {
			return false
		}
	}
	return true
}

func dumbCandidate(s *lb.Snapshot, node *lb.Node, group []*lb.Service) string {
	if node.NetworkUnavailable || node.Excluded {
		return ""
	}
	best, serving, all := 0, false, false
	var interfaces []string
	for _, svc := range group {
		used := false
		for _, ip := range svc.Assigned {
			if !covered(s, ip) {
				continue
			}
			used = true
			selected := false
			for _, ad := range dumbAds(s, svc, ip) {
				if !ad.SelectsNode(node.Labels) {
					continue
				}
				selected = true
				score := 0
				for _, p := range ad.Preferred {
					if p.Selector.Matches(node.Labels) {
						score += p.Weight
					}
				}
				best = max(best, score)
				all = all || ad.Interfaces == nil
				interfaces = append(interfaces, ad.Interfaces...)
			}
			if !selected {
				return ""
			}
		}
		for _, e := range svc.Endpoints {
			serving = serving || used && e.Count > 0 && (!svc.Local || e.Node == node.Name)
		}
	}
	if !serving {
		return ""
	}
	slices.Sort(interfaces)
	interfaces = slices.Compact(interfaces)
	if all {
		interfaces = nil
	}
	return fmt.Sprintf("%s/%d%v ", node.Name, best, interfaces)
}

// randomCluster makes a small cluster in which everything collides with
// everything.
func randomCluster(rng *rand.Rand) *lb.Snapshot {
	s := &lb.Snapshot{}
	chance := func(n int) bool { return rng.IntN(n) == 0 }
	label := func() string { return string(rune('a' + rng.IntN(2))) }
	selectors := func() []lb.Selector {
		if chance(2) {
			return nil
		}
		return []lb.Selector{parseSelector("k:" + label())}
	}
	for i := range 1 + rng.IntN(4) {
		s.Nodes = append(s.Nodes, lb.Node{
			Name: lb.NodeName(fmt.Sprint("n", i)), Labels: map[string]string{"k": label()},
			Excluded: chance(8), NetworkUnavailable: chance(8),
		})
	}
	for i, name := range []string{"p0", "p1"} {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(8 * i)})
		s.Pools = append(s.Pools, lb.Pool{Name: name, Ranges: []lb.Range{{From: from, To: netip.AddrFrom4([4]byte{192, 0, 2, byte(8*i + 7)})}}})
	}
	for i := range rng.IntN(4) {
		ad := lb.L2Advertisement{Name: fmt.Sprint("ad", i), Scope: lb.Scope{AllPools: true, NodeSelectors: selectors(), ServiceSelectors: selectors()}}
		if chance(2) {
			ad.AllPools, ad.Pools = false, []string{fmt.Sprint("p", rng.IntN(2))}
		}
		if chance(2) {
			ad.Interfaces = strings.Split([]string{"eth0", "eth0,eth1", "eth1"}[rng.IntN(3)], ",")
		}
		if chance(2) {
			ad.Preferred = []lb.Preference{{Weight: 1 + rng.IntN(9), Selector: parseSelector("k:" + label())}}
		}
		s.L2Advertisements = append(s.L2Advertisements, ad)
	}
	for i := range rng.IntN(6) {
		svc := lb.Service{
			Key:    lb.ServiceKey{Namespace: "ns", Name: fmt.Sprint("s", i)},
			Labels: map[string]string{"k": label()}, Local: chance(2),
		}
		for range rng.IntN(3) {
			ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(5 + rng.IntN(6))})
			if !slices.Contains(svc.Assigned, ip) {
				svc.Assigned = append(svc.Assigned, ip)
			}
		}
		for _, n := range s.Nodes {
			if chance(2) {
				svc.Endpoints = append(svc.Endpoints, lb.NodeEndpoints{Node: n.Name, Count: rng.IntN(3)})
			}
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// benchCluster has n Services of all sorts on a number of nodes.
func benchCluster(services, nodes int) *lb.Snapshot {
	s := &lb.Snapshot{
		Pools:            []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: netip.MustParseAddr("10.0.0.0"), To: netip.MustParseAddr("10.0.255.255")}}}},
		L2Advertisements: []lb.L2Advertisement{{Name: "all", Scope: lb.Scope{AllPools: true}}, {Name: "web", Scope: lb.Scope{AllPools: true, ServiceSelectors: []lb.Selector{parseSelector("app:web")}}}},
	}
	for i := range nodes {
		s.Nodes = append(s.Nodes, lb.Node{Name: lb.NodeName(fmt.Sprintf("node-%03d", i)), Labels: map[string]string{"zone": "a"}})
	}
	for i := range services {
		svc := lb.Service{
			Key:      lb.ServiceKey{Namespace: "ns", Name: fmt.Sprintf("s-%05d", i)},
			Labels:   map[string]string{"app": []string{"web", "db"}[i%2]},
			Assigned: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			Local:    i%3 == 0,
		}
		for e := range 3 {
			svc.Endpoints = append(svc.Endpoints, lb.NodeEndpoints{Node: s.Nodes[(i%(nodes-3))+e].Name, Count: 1})
		}
		if i%10 == 9 { // shares the address of the one before
			svc.Assigned = s.Services[i-1].Assigned
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

func BenchmarkPlan10k(b *testing.B) {
	for _, nodes := range []int{10, 100} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			s := benchCluster(10_000, nodes)
			b.ReportAllocs()
			for b.Loop() {
				if r := announce.Plan(s, "node-000"); len(r.Groups) != 9_000 {
					b.Fatalf("%d groups", len(r.Groups))
				}
			}
		})
	}
}
