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
	return w.want.n == 2 && w.svc.FamilyPolicy == lb.RequireDualStack
}

// choose gives w the addresses that it lacks. With RequireDualStack a Service
// without any gets both or none; one that already has an address keeps it
// while it waits for the other.
func (p *planner) choose(w *work) {
	missing := w.missing()
	if missing.n == 0 || w.ask.refused() || w.svc.Deleting {
		return
	}
	offers := p.search(w, missing)
	for _, f := range missing.list() {
		if w.bothOrNothing() && !offers[f].addr.IsValid() {
			return
		}
	}
	for _, f := range missing.list() {
		if o := offers[f]; o.addr.IsValid() {
			w.have[f] = held{addr: o.addr, home: o.home, added: true}
			p.ledger.take(w, o.addr, o.home, false)
		}
	}
}

// search finds an address for each of the missing families, as far as there
// is one: what is meant for w; then both out of one pool if possible, else each
// out of the first pool that has one.
func (p *planner) search(w *work, missing families) [2]offer {
	if w.ask.addrs != [2]netip.Addr{} {
		return p.asked(w, missing)
	}
	var out [2]offer
	var open families // with nothing that is meant for w
	for _, f := range missing.list() {
		if out[f] = p.own(w, f); !out[f].addr.IsValid() {
			open.add(f)
		}
	}
	if open.n == 0 {
		return out
	}
	lists := p.candidates(w)
	if open.n == 2 {
		if both, ok := p.first(w, lists, open); ok {
			return both
		}
	}
	for _, f := range open.list() {
		other := w.have[1-f].home
		if out[1-f].addr.IsValid() && open.n == 1 {
			other = out[1-f].home
		}
		found, ok := p.beside(w, other, f)
		if !ok {
			found, _ = p.first(w, lists, only(f))
		}
		out[f] = found[f]
	}
	return out
}

func only(f family) families { return families{n: 1, of: [2]family{f}} }

// asked offers the very addresses that w asks for.
func (p *planner) asked(w *work, missing families) [2]offer {
	var out [2]offer
	for _, f := range missing.list() {
		a := w.ask.addrs[f]
		if p.mayHave(w, a) {
			out[f] = offer{a, p.pools.poolOf(a)}
		}
	}
	return out
}

// mayHave reports whether w, which asks for a, can have it now.
func (p *planner) mayHave(w *work, a netip.Addr) bool {
	if h := p.ledger.holds[a]; h != nil && !h.by.isFor(w) {
		return false
	}
	if s := p.ledger.slots[a]; s != nil && !s.canShare(w) {
		return false
	}
	return p.pools.poolOf(a).allows(w.ns, a)
}

// candidates returns the pools that w may get an address from.
func (p *planner) candidates(w *work) [2]*candidates {
	if w.ask.pool != nil {
		return [2]*candidates{{pools: []*pool{w.ask.pool}}, {}}
	}
	return p.pools.candidates(w.ns, w.svc.Labels)
}

// beside looks in the pool of the address that w has, or is to have, of the
// other family.
func (p *planner) beside(w *work, x *pool, f family) ([2]offer, bool) {
	if x == nil || x.frozen || !x.AutoAssign || !x.admits(w.ns, w.svc.Labels) || (w.ask.pool != nil && w.ask.pool != x) {
		return [2]offer{}, false
	}
	return p.from(w, x, only(f))
}

// first returns what the first pool offers that has all of the families.
func (p *planner) first(w *work, lists [2]*candidates, fs families) ([2]offer, bool) {
	hunger := appetite{families: fs}
	if w.sharers != nil && len(w.sharers.groups) > 0 {
		hunger.sharers, hunger.ports = w.sharers, w.ports
	}
	if p.quotas {
		hunger.ns = w.ns
	}
	for _, list := range lists {
		i := list.passed[hunger]
		for ; i < len(list.pools); i++ {
			if found, ok := p.from(w, list.pools[i], fs); ok {
				list.pass(hunger, i)
				return found, true
			}
		}
		list.pass(hunger, i)
	}
	return [2]offer{}, false
}

func (c *candidates) pass(hunger appetite, i int) {
	if i == c.passed[hunger] {
		return
	}
	if c.passed == nil {
		c.passed = map[appetite]int{}
	}
	c.passed[hunger] = i
}

// from returns what one pool offers, if it has all of the families.
func (p *planner) from(w *work, x *pool, fs families) ([2]offer, bool) {
	var out [2]offer
	for _, f := range fs.list() {
		a, ok := p.ledger.lowest(w, x, f)
		if !ok {
			return [2]offer{}, false
		}
		out[f] = offer{a, x}
	}
	return out, true
}
