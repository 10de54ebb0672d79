// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// memory knows what Services had that are gone.
type memory struct {
	of map[lb.ServiceKey][]netip.Addr
	// by has the Services that remember an address.
	by map[netip.Addr][]lb.ServiceKey
}

// remember fills the memory, and tells pools which of their addresses somebody
// may come back for.
func (p *planner) remember(list []lb.Remembered) {
	if len(list) == 0 {
		return
	}
	m := memory{of: make(map[lb.ServiceKey][]netip.Addr, len(list)), by: make(map[netip.Addr][]lb.ServiceKey, len(list))}
	for i := range list {
		k := list[i].Key
		for _, a := range list[i].Addresses {
			x := p.pools.poolOf(a)
			if x == nil || x.leavesOut(a) || slices.Contains(m.of[k], a) {
				continue
			}
			m.of[k] = append(m.of[k], a)
			if m.by[a] == nil {
				s := &x.space[familyOf(a)]
				s.spared = append(s.spared, a)
			}
			m.by[a] = append(m.by[a], k)
		}
	}
	for _, x := range p.pools.all {
		for f := range x.space {
			slices.SortFunc(x.space[f].spared, netip.Addr.Compare)
		}
	}
	p.ledger.memory = m
	p.remembered = slices.SortedFunc(maps.Keys(m.of), lb.ServiceKey.Compare)
}

// own finds what is meant for w, whatever the order of pools says: an address
// that is reserved for it, else one that it had before it was deleted.
func (p *planner) own(w *work, f family) offer {
	if o := p.reserved(w, f); o.addr.IsValid() {
		return o
	}
	for _, a := range p.ledger.memory.of[w.svc.Key] {
		if familyOf(a) != f || p.ledger.holds[a] != nil {
			continue
		}
		x := p.pools.poolOf(a)
		if !x.admits(w.ns, w.svc.Labels) || !(w.ask.pool == x || (w.ask.pool == nil && x.AutoAssign)) {
			continue
		}
		if s := p.ledger.slots[a]; (s == nil || s.canShare(w)) && x.allows(w.ns, a) {
			return offer{a, x}
		}
	}
	return offer{}
}

// remembers reports whether the Service had the address before it was deleted.
func (m *memory) remembers(k lb.ServiceKey, a netip.Addr) bool {
	return slices.Contains(m.of[k], a)
}

// spareLowest returns the lowest free address that is only kept in mind for
// Services that may come back. Others get those last.
func (s *space) spareLowest(unavailable func(netip.Addr) bool) (netip.Addr, bool) {
	for ; s.spare < len(s.spared); s.spare++ {
		if a := s.spared[s.spare]; !unavailable(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}
