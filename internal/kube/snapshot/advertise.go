// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// scope reads what L2 and BGP advertisements have in common.
//
// A pool that does not exist makes the advertisement invalid in its status,
// but it stays in use: deleting one pool must not take the addresses of
// another one off the network, nor those that Services keep from it.
func (s *subject) scope(poolNames []string, poolSelectors, nodes, services []v1beta1.LabelSelector, pools []*v1beta1.IPAddressPool) lb.Scope {
	return lb.Scope{
		AllPools:         len(poolNames) == 0 && len(poolSelectors) == 0,
		Pools:            s.selectPools(poolSelectors, pools, poolNames),
		NodeSelectors:    s.selectors("spec.nodeSelectors", nodes),
		ServiceSelectors: s.selectors("spec.serviceSelectors", services),
	}
}

// selectPools returns the union of the pools selected and those named, also
// those that do not exist: a Service may still have an address of one.
func (s *subject) selectPools(selectors []v1beta1.LabelSelector, pools []*v1beta1.IPAddressPool, named []string) []string {
	var out []string
	for _, sel := range s.selectors("spec.ipAddressPoolSelectors", selectors) {
		for _, p := range pools {
			if sel.Matches(p.Labels) {
				out = append(out, p.Name)
			}
		}
	}
	for i, n := range named {
		out = append(out, n)
		if slices.ContainsFunc(pools, func(p *v1beta1.IPAddressPool) bool { return p.Name == n }) {
			continue
		}
		s.note(reason.UnknownReference, fmt.Sprintf("spec.ipAddressPools[%d]", i), n, "%s", among(KindPool, names(pools)))
	}
	return sorted(out)
}

func (b *builder) l2Advertisements(objs []*v1beta1.L2Advertisement, pools []*v1beta1.IPAddressPool) []lb.L2Advertisement {
	var out []lb.L2Advertisement
	for _, obj := range objs {
		sub := b.subject(KindL2Advertisement, obj)
		spec := &obj.Spec
		a := lb.L2Advertisement{
			Name:       obj.Name,
			Scope:      sub.scope(spec.IPAddressPools, spec.IPAddressPoolSelectors, spec.NodeSelectors, spec.ServiceSelectors, pools),
			Interfaces: sorted(spec.Interfaces),
		}
		if len(a.Interfaces) == 0 {
			a.Interfaces = nil
		}
		for i := range spec.PreferredNodeSelectors {
			p := &spec.PreferredNodeSelectors[i]
			field := fmt.Sprintf("spec.preferredNodeSelectors[%d]", i)
			if p.Weight < 1 || p.Weight > 100 {
				sub.fail(reason.BadField, field+".weight", strconv.Itoa(int(p.Weight)), "a weight is a number from 1 to 100")
			}
			a.Preferred = append(a.Preferred, lb.Preference{Weight: int(p.Weight), Selector: sub.selector(field+".preference", &p.Preference)})
		}
		if !sub.bad {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b lb.L2Advertisement) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (b *builder) bgpAdvertisements(objs []*v1beta1.BGPAdvertisement, pools []*v1beta1.IPAddressPool, aliases map[string]community, s *lb.Snapshot) []lb.BGPAdvertisement {
	peerNames := make([]string, len(s.Peers))
	for i, p := range s.Peers {
		peerNames[i] = p.Name
	}
	conflicts := conflicts{s}
	var out []lb.BGPAdvertisement
	for _, obj := range objs {
		sub := b.subject(KindBGPAdvertisement, obj)
		a, ok := sub.bgpAdvertisement(obj, pools, aliases, peerNames)
		if !ok {
			continue
		}
		if other := conflicts.find(out, &a); other != nil {
			sub.fail(reason.ConflictingLocal, "spec.localPref", strconv.FormatUint(uint64(a.LocalPref), 10),
				"the older advertisement %q gives the same prefix, to the same peer from the same node, localPref %d: use the same value, or limit nodeSelectors or peers of one of the two",
				other.Name, other.LocalPref)
			continue
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b lb.BGPAdvertisement) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// defaultLocalPref is what a BGP speaker assumes without the attribute.
const defaultLocalPref = 100

func (s *subject) bgpAdvertisement(obj *v1beta1.BGPAdvertisement, pools []*v1beta1.IPAddressPool, aliases map[string]community, peers []string) (lb.BGPAdvertisement, bool) {
	spec := &obj.Spec
	a := lb.BGPAdvertisement{
		Name:                obj.Name,
		Scope:               s.scope(spec.IPAddressPools, spec.IPAddressPoolSelectors, spec.NodeSelectors, spec.ServiceSelectors, pools),
		AggregationLength:   s.number("spec.aggregationLength", spec.AggregationLength, 32, 1, 32),
		AggregationLengthV6: s.number("spec.aggregationLengthV6", spec.AggregationLengthV6, 128, 1, 128),
		LocalPref:           defaultLocalPref,
		WeightByEndpoints:   spec.Weighted == v1beta1.BGPWeightedEndpoints,
	}
	if spec.LocalPref != nil {
		a.LocalPref = *spec.LocalPref
	}
	if len(a.ServiceSelectors) > 0 {
		if a.AggregationLength != 32 {
			s.fail(reason.BadField, "spec.aggregationLength", strconv.Itoa(a.AggregationLength), "an aggregate would announce Services that serviceSelectors does not select: use 32, or remove serviceSelectors")
		}
		if a.AggregationLengthV6 != 128 {
			s.fail(reason.BadField, "spec.aggregationLengthV6", strconv.Itoa(a.AggregationLengthV6), "an aggregate would announce Services that serviceSelectors does not select: use 128, or remove serviceSelectors")
		}
	}
	if w := spec.Weighted; w != v1beta1.BGPWeightedNone && w != v1beta1.BGPWeightedEndpoints {
		s.fail(reason.BadField, "spec.weighted", string(w), "the only value is %q", v1beta1.BGPWeightedEndpoints)
	}
	s.resolveCommunities(&a, spec.Communities, aliases)
	for i, p := range spec.Peers {
		if slices.Contains(peers, p) {
			a.Peers = append(a.Peers, p)
			continue
		}
		s.note(reason.UnknownReference, fmt.Sprintf("spec.peers[%d]", i), p, "%s", among("valid "+KindPeer, peers))
	}
	a.Peers = sorted(a.Peers)
	// No peer at all means every peer; only unknown ones means none.
	return a, !s.bad && (len(a.Peers) > 0 || len(spec.Peers) == 0)
}

// number reads an optional number.
func (s *subject) number(field string, value *int32, def, low, high int) int {
	if value == nil {
		return def
	}
	n := int(*value)
	if n < low || n > high {
		s.fail(reason.BadField, field, strconv.Itoa(n), "it must be a number from %d to %d", low, high)
		return def
	}
	return n
}
