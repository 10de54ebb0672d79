// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// conflicts finds advertisements that would send one prefix to one peer from
// one node with different localPref.
type conflicts struct {
	s *lb.Snapshot
}

// find returns the first of the accepted advertisements that a contradicts.
func (c *conflicts) find(accepted []lb.BGPAdvertisement, a *lb.BGPAdvertisement) *lb.BGPAdvertisement {
	for i := range accepted {
		o := &accepted[i]
		if o.LocalPref != a.LocalPref && c.sharePath(o, a) && c.sharePrefix(o, a) && c.shareService(o, a) {
			return o
		}
	}
	return nil
}

// sharePath reports whether a node has a session with a peer that both use.
func (c *conflicts) sharePath(a, b *lb.BGPAdvertisement) bool {
	for i := range c.s.Peers {
		p := &c.s.Peers[i]
		if !usesPeer(a, p.Name) || !usesPeer(b, p.Name) {
			continue
		}
		for _, n := range c.s.Nodes {
			if (len(p.NodeSelectors) == 0 || lb.MatchesAny(p.NodeSelectors, n.Labels)) && a.SelectsNode(n.Labels) && b.SelectsNode(n.Labels) {
				return true
			}
		}
	}
	return false
}

func usesPeer(a *lb.BGPAdvertisement, name string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, name)
}

// sharePrefix reports whether the pools of both can give the same prefix:
// their aggregates have the same length and touch.
func (c *conflicts) sharePrefix(a, b *lb.BGPAdvertisement) bool {
	v4 := a.AggregationLength == b.AggregationLength
	v6 := a.AggregationLengthV6 == b.AggregationLengthV6
	if !v4 && !v6 {
		return false
	}
	var ra, rb []lb.Range
	for i := range c.s.Pools {
		p := &c.s.Pools[i]
		if a.SelectsPool(p.Name) {
			ra = aggregates(ra, p.Ranges, a, v4, v6)
		}
		if b.SelectsPool(p.Name) {
			rb = aggregates(rb, p.Ranges, b, v4, v6)
		}
	}
	// Pools are disjoint, so both ends of the widened ranges ascend together.
	slices.SortFunc(ra, compareRanges)
	slices.SortFunc(rb, compareRanges)
	for i, j := 0, 0; i < len(ra) && j < len(rb); {
		if overlap(ra[i], rb[j]) {
			return true
		}
		if ra[i].To.Less(rb[j].To) {
			i++
		} else {
			j++
		}
	}
	return false
}

// aggregates appends the ranges, each widened to whole prefixes of the
// advertisement's length.
func aggregates(out, ranges []lb.Range, a *lb.BGPAdvertisement, v4, v6 bool) []lb.Range {
	for _, r := range ranges {
		bits, wanted := a.AggregationLength, v4
		if lb.FamilyOf(r.From) == lb.IPv6 {
			bits, wanted = a.AggregationLengthV6, v6
		}
		if wanted {
			from := netip.PrefixFrom(r.From, bits).Masked()
			to := netip.PrefixFrom(r.To, bits).Masked()
			// The first address of each prefix is enough to compare by.
			out = append(out, lb.Range{From: from.Addr(), To: to.Addr()})
		}
	}
	return out
}

// shareService reports whether the selectors of both admit the same Service.
// Without selectors that is so for Services yet to come, too.
func (c *conflicts) shareService(a, b *lb.BGPAdvertisement) bool {
	if len(a.ServiceSelectors) == 0 && len(b.ServiceSelectors) == 0 {
		return true
	}
	return slices.ContainsFunc(c.s.Services, func(s lb.Service) bool {
		return a.SelectsService(s.Labels) && b.SelectsService(s.Labels)
	})
}
