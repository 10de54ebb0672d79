// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"

	"github.com/heraldlb/herald/internal/core/lb"
)

// offer is an address that a Service could have.
type offer struct {
	addr netip.Addr // zero: none
	home *pool
}

func (w *work) bothOrNothing() bool {
	return len(w.want) == 2 && w.svc.FamilyPolicy == lb.RequireDualStack
}

// choose gives w the addresses that it lacks. With RequireDualStack a Service
// without any gets both or none; one that already has an address keeps it
// while it waits for the other.
func (p *planner) choose(w *work) {
	missing := w.missing()
	if len(missing) == 0 || w.ask.refused() {
		return
	}
	offers := p.search(w, missing)
	for _, f := range missing {
		if w.bothOrNothing() && !offers[f].addr.IsValid() {
			return
		}
	}
	for _, f := range missing {
		if o := offers[f]; o.addr.IsValid() {
			w.have[f] = held{addr: o.addr, home: o.home, added: true}
			p.ledger.take(w, o.addr, o.home, false)
		}
	}
}

// search finds an address for each of the missing families, as far as there
// is one: both out of one pool if possible, else each out of the first pool
// that has one.
func (p *planner) search(w *work, missing []family) [2]offer {
	if w.ask.addrs != [2]netip.Addr{} {
		return p.asked(w, missing)
	}
	lists := p.candidates(w)
	if len(missing) == 2 {
		if both, ok := p.first(w, lists, missing); ok {
			return both
		}
	}
	var out [2]offer
	for _, f := range missing {
		found, ok := p.beside(w, f)
		if !ok {
			found, _ = p.first(w, lists, []family{f})
		}
		out[f] = found[f]
	}
	return out
}

// asked offers the very addresses that w asks for.
func (p *planner) asked(w *work, missing []family) [2]offer {
	var out [2]offer
	for _, f := range missing {
		a := w.ask.addrs[f]
		if s := p.ledger.slots[a]; s == nil || s.canShare(w) {
			out[f] = offer{a, p.pools.poolOf(a)}
		}
	}
	return out
}

func (p *planner) candidates(w *work) []*candidates {
	if w.ask.pool != nil {
		return []*candidates{{pools: []*pool{w.ask.pool}}}
	}
	return p.pools.candidates(w.ns, w.svc.Labels)
}

// beside looks in the pool of the address that w has of the other family.
func (p *planner) beside(w *work, f family) ([2]offer, bool) {
	x := w.have[1-f].home
	if x == nil || x.frozen || !x.AutoAssign || !x.admits(w.ns, w.svc.Labels) || (w.ask.pool != nil && w.ask.pool != x) {
		return [2]offer{}, false
	}
	return p.from(w, x, []family{f})
}

// first returns what the first pool offers that has all of the families.
func (p *planner) first(w *work, lists []*candidates, families []family) ([2]offer, bool) {
	sharing := p.ledger.shares(w)
	for _, list := range lists {
		pools := list.pools
		if !sharing {
			pools = list.open(families)
		}
		for _, x := range pools {
			if found, ok := p.from(w, x, families); ok {
				return found, true
			}
		}
	}
	return [2]offer{}, false
}

// from returns what one pool offers, if it has all of the families.
func (p *planner) from(w *work, x *pool, families []family) ([2]offer, bool) {
	var out [2]offer
	for _, f := range families {
		a, ok := p.ledger.lowest(w, x, f)
		if !ok {
			return [2]offer{}, false
		}
		out[f] = offer{a, x}
	}
	return out, true
}
