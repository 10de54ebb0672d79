// SPDX-License-Identifier: Apache-2.0

// Package announce decides which nodes may announce which addresses.
//
// It is a planner: a snapshot goes in, a plan comes out, and nothing else is
// read. What changes too fast for the API server (which nodes are alive, which
// interfaces are up, who claimed what) is not here; core/ownership combines it
// with this plan.
//
//	lb.Snapshot --announce.Plan--> Group: key, addresses, candidates --> core/ownership
//	                          \--> verdict per Service, Explain(service, node)
//
// Announcements by BGP need no owner. They are the part of the plan that is for
// one node alone:
//
//	lb.Snapshot --announce.Plan--> Announcement: address, advertisement --> core/bgp
package announce

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Result is a plan.
type Result struct {
	// Self is the node that the plan was made for. The L2 part is the same for
	// every node, because each must know who may succeed whom.
	Self lb.NodeName

	// Groups are the addresses to announce by ARP and NDP, by Key. Groups
	// without a candidate are listed too.
	Groups []Group

	// BGP is what Self announces as routes, Services in the order of the
	// snapshot.
	BGP []Announcement

	snapshot  *lb.Snapshot
	services  []serviceView // parallel to snapshot.Services
	byKey     map[lb.ServiceKey]int
	selection *selection
	// shared are the Services of each address that several have; nil without
	// BGPAdvertisements.
	shared map[netip.Addr][]int
}

// Group is a set of addresses with one owner: addresses that share a Service
// share an owner, so that all of a Service's traffic arrives at one node.
type Group struct {
	// Key is the first address of the group's oldest Service.
	Key netip.Addr
	// Addresses to answer for, sorted. An address that no L2Advertisement
	// covers is left out.
	Addresses []netip.Addr
	// Services that use the addresses, older first.
	Services []lb.ServiceKey
	// Candidates may own the group, sorted by node name. Groups that are
	// selected alike share one slice: it is not to be changed.
	Candidates []Candidate
	// Local is set when it depends on its endpoints whether a node is a
	// candidate (externalTrafficPolicy Local).
	Local bool
	// Draining nodes are no candidates, because their endpoints terminate while
	// others are ready; but these still serve. Sorted by node name.
	Draining []Candidate
	// Covers is set when the addresses are not covered alike, and is parallel
	// to Addresses: the nodes that may answer for each, and where. An owner
	// must be able to answer for all of them.
	Covers [][]Candidate
	// Move is the newest wish to have the group owned by a certain node; zero
	// if there is none.
	Move lb.Move
}

// Candidate is a node that may own a group as far as the API server knows.
type Candidate struct {
	Node lb.NodeName
	// Score is the sum of the weights of the preferredNodeSelectors that match
	// the node; the highest score wins the election.
	Score int
	// Interfaces that may answer, sorted; nil means every usable one.
	Interfaces []string
}

// Candidate finds a node among the group's candidates.
func (g *Group) Candidate(node lb.NodeName) (Candidate, bool) { return find(g.Candidates, node) }

// CandidateFor finds a node among those that may answer for the i-th address:
// its Interfaces are those for this address alone.
func (g *Group) CandidateFor(i int, node lb.NodeName) (Candidate, bool) {
	if g.Covers == nil {
		return g.Candidate(node)
	}
	return find(g.Covers[i], node)
}

func find(sorted []Candidate, node lb.NodeName) (Candidate, bool) {
	i, ok := slices.BinarySearchFunc(sorted, node, func(c Candidate, n lb.NodeName) int {
		return cmp.Compare(c.Node, n)
	})
	if !ok {
		return Candidate{}, false
	}
	return sorted[i], true
}

// Has reports whether the group answers for an address.
func (g *Group) Has(ip netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(g.Addresses, ip, netip.Addr.Compare)
	return ok
}

// Verdict says why nobody can announce a Service, judged by the API server's
// objects alone. The zero Reason means that there are candidates: what becomes
// of them is ownership's to say.
func (r *Result) Verdict(key lb.ServiceKey) reason.Reason {
	i, ok := r.byKey[key]
	if !ok {
		return reason.Reason{}
	}
	return r.verdict(i)
}

// Group finds the group that announces a Service. A Service without addresses,
// or with none that an advertisement covers, has no group.
func (r *Result) Group(key lb.ServiceKey) (*Group, bool) {
	i, ok := r.byKey[key]
	if !ok || r.services[i].group < 0 {
		return nil, false
	}
	return &r.Groups[r.services[i].group], true
}

// Explain says why a node is no candidate for a Service. The zero Reason means
// that it is one: ask ownership whether it is the owner.
func (r *Result) Explain(key lb.ServiceKey, node lb.NodeName) reason.Reason {
	i, ok := r.byKey[key]
	if !ok {
		return reason.Reason{}
	}
	return r.explain(i, node)
}
