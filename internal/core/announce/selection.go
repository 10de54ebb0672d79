// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// uncovered stands for the empty set of advertisements.
const uncovered = 0

// selection answers which L2Advertisements cover an address of a Service, and
// which nodes those select. Ten thousand Services usually have a handful of
// different answers, so each is worked out once: a set of advertisements is
// known by a number, and has one list of candidates.
type selection struct {
	snapshot *lb.Snapshot
	pools    poolIndex
	byPools  map[string]poolAds
	numbers  map[string]int // packed list of advertisements -> number of the set
	sets     []adSet        // by number; sets[uncovered] is empty
	joined   map[string][]Candidate
}

// poolAds are the advertisements that cover a pool, and the number of their set
// if they choose no Services, so that all of them hold.
type poolAds struct {
	ads []int
	set int // -1: depends on the Service
}

type adSet struct {
	ads        []int // indexes in L2Advertisements, rising
	candidates []Candidate
}

func newSelection(s *lb.Snapshot) *selection {
	return &selection{
		snapshot: s,
		pools:    newPoolIndex(s.Pools),
		byPools:  map[string]poolAds{},
		numbers:  map[string]int{"": uncovered},
		sets:     make([]adSet, 1),
		joined:   map[string][]Candidate{},
	}
}

// appendSets appends the number of the set that covers each assigned address of
// svc.
func (x *selection) appendSets(out []int, svc *lb.Service) []int {
	for _, ip := range svc.Assigned {
		out = append(out, x.setFor(svc, x.pools.of(ip, svc)))
	}
	return out
}

// setFor gives the number of the set of advertisements that cover any of the
// pools and the Service.
func (x *selection) setFor(svc *lb.Service, pools []string) int {
	pa := x.adsOfPools(pools)
	if pa.set >= 0 {
		return pa.set
	}
	var ads []int
	for _, a := range pa.ads {
		if x.snapshot.L2Advertisements[a].SelectsService(svc.Labels) {
			ads = append(ads, a)
		}
	}
	return x.number(ads)
}

func (x *selection) adsOfPools(pools []string) poolAds {
	var key string
	if len(pools) == 1 {
		key = pools[0]
	} else {
		for _, p := range pools {
			key += p + "\x00"
		}
	}
	if pa, ok := x.byPools[key]; ok {
		return pa
	}
	var pa poolAds
	choosy := false
	for i := range x.snapshot.L2Advertisements {
		ad := &x.snapshot.L2Advertisements[i]
		if ad.AllPools || slices.ContainsFunc(pools, ad.SelectsPool) {
			pa.ads = append(pa.ads, i)
			choosy = choosy || len(ad.ServiceSelectors) > 0
		}
	}
	pa.set = -1
	if !choosy {
		pa.set = x.number(pa.ads)
	}
	x.byPools[key] = pa
	return pa
}

// pack makes a list of small numbers usable as a map key.
func pack(list []int) string {
	var b []byte
	for _, n := range list {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return string(b)
}

// number gives a set its number, and works out its candidates the first time.
func (x *selection) number(ads []int) int {
	key := pack(ads)
	if n, ok := x.numbers[key]; ok {
		return n
	}
	set := adSet{ads: ads}
	for i := range x.snapshot.Nodes {
		node := &x.snapshot.Nodes[i]
		if node.NetworkUnavailable || node.Excluded {
			continue
		}
		if c, ok := x.candidate(ads, node); ok {
			set.candidates = append(set.candidates, c)
		}
	}
	n := len(x.sets)
	x.sets = append(x.sets, set)
	x.numbers[key] = n
	return n
}

// candidate judges a node by a set of advertisements: the best score counts,
// and the interfaces of all that select the node may be used.
func (x *selection) candidate(ads []int, node *lb.Node) (Candidate, bool) {
	c := Candidate{Node: node.Name}
	found := false
	for _, a := range ads {
		ad := &x.snapshot.L2Advertisements[a]
		if !ad.SelectsNode(node.Labels) {
			continue
		}
		score := 0
		for _, p := range ad.Preferred {
			if p.Selector.Matches(node.Labels) {
				score += p.Weight
			}
		}
		if !found {
			c.Score, c.Interfaces = score, ad.Interfaces
			found = true
			continue
		}
		c.Score = max(c.Score, score)
		c.Interfaces = union(c.Interfaces, ad.Interfaces)
	}
	return c, found
}

// union merges two sorted lists of interfaces, where nil means all.
func union(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// candidates lists the nodes that every one of the sets selects. A group has
// several sets when its addresses come from several pools, or its Services are
// chosen by different advertisements.
func (x *selection) candidates(sets []int) []Candidate {
	slices.Sort(sets)
	sets = slices.Compact(sets)
	if len(sets) == 1 {
		return x.sets[sets[0]].candidates
	}
	key := pack(sets)
	if list, ok := x.joined[key]; ok {
		return list
	}
	list := x.sets[sets[0]].candidates
	for _, s := range sets[1:] {
		list = intersect(list, x.sets[s].candidates)
	}
	x.joined[key] = list
	return list
}

func intersect(a, b []Candidate) []Candidate {
	var out []Candidate
	for _, ca := range a {
		i, ok := slices.BinarySearchFunc(b, ca.Node, func(c Candidate, n lb.NodeName) int { return cmp.Compare(c.Node, n) })
		if ok {
			out = append(out, Candidate{Node: ca.Node, Score: max(ca.Score, b[i].Score), Interfaces: union(ca.Interfaces, b[i].Interfaces)})
		}
	}
	return out
}

// poolIndex finds the pool of an address.
type poolIndex struct {
	ranges []pooledRange // of valid pools, sorted by From, disjoint
	frozen []pooledRange // of frozen pools, which may overlap anything
}

type pooledRange struct {
	lb.Range
	pool []string // one name, as a list so that of need not allocate
}

func newPoolIndex(pools []lb.Pool) poolIndex {
	var x poolIndex
	for i := range pools {
		name := []string{pools[i].Name}
		for _, r := range pools[i].Ranges {
			if pools[i].Frozen {
				x.frozen = append(x.frozen, pooledRange{r, name})
			} else {
				x.ranges = append(x.ranges, pooledRange{r, name})
			}
		}
	}
	slices.SortStableFunc(x.ranges, func(a, b pooledRange) int { return a.From.Compare(b.From) })
	return x
}

// of names the pool that ip is in. An address that was given from a pool which
// is frozen now stays with it, whoever else claims to contain it; one whose
// pool is gone or cannot be read belongs to the pools that it was given from.
func (x *poolIndex) of(ip netip.Addr, svc *lb.Service) []string {
	for _, r := range x.frozen {
		if r.Contains(ip) && slices.Contains(svc.AssignedPools, r.pool[0]) {
			return r.pool
		}
	}
	i, found := slices.BinarySearchFunc(x.ranges, ip, func(r pooledRange, ip netip.Addr) int { return r.From.Compare(ip) })
	if !found {
		i--
	}
	if i >= 0 && x.ranges[i].Contains(ip) {
		return x.ranges[i].pool
	}
	if len(svc.AssignedPools) == 0 {
		for _, r := range x.frozen {
			if r.Contains(ip) {
				return r.pool
			}
		}
	}
	return svc.AssignedPools
}
