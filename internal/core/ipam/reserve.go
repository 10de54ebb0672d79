// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// hold is an address that a reservation keeps for its Services.
type hold struct {
	by    *reservation
	addr  netip.Addr
	home  *pool // nil: in no pool that can be used now
	last  []string
	users []*work // who has it; filled in at the end
}

// reservation is a reservation on its way through a plan.
type reservation struct {
	*lb.Reservation
	ns    *namespace
	holds []*hold
	count [2]int          // of holds
	bad   []reason.Reason // why it holds less than it wants
}

// isFor reports whether the reservation is for w.
func (r *reservation) isFor(w *work) bool {
	return r.Key.Namespace == w.svc.Key.Namespace && r.Admits(w.svc.Key.Name, w.svc.Labels)
}

// wants is how many addresses of the family the reservation wants, unless it
// names them.
func (r *reservation) wants(f family) int {
	if f == v4 {
		return r.IPv4
	}
	return r.IPv6
}

// reserve gives reservations what they want, before any Service gets something
// new. Recorded addresses come first, so that who has held one first keeps it;
// then older reservations come before younger ones.
func (p *planner) reserve(list []lb.Reservation) {
	if len(list) == 0 {
		return
	}
	for i := range list {
		r := &reservation{Reservation: &list[i], ns: p.namespaceOf(list[i].Key.Namespace)}
		r.ns.reservations = append(r.ns.reservations, r)
		p.reservations = append(p.reservations, r)
	}
	byAge := func(a, b *reservation) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	}
	slices.SortStableFunc(p.reservations, byAge)
	for ns := range p.reservedNamespaces() {
		slices.SortStableFunc(ns.reservations, byAge)
	}
	for _, r := range p.reservations {
		p.keepHolds(r)
	}
	for _, r := range p.reservations {
		switch {
		case r.Invalid != "":
			r.fail(reason.BadField, "%s", r.Invalid)
		case len(r.Addresses) > 0:
			p.claim(r)
		default:
			p.fill(r)
		}
	}
}

func (p *planner) reservedNamespaces() map[*namespace]bool {
	out := map[*namespace]bool{}
	for _, r := range p.reservations {
		out[r.ns] = true
	}
	return out
}

func (r *reservation) fail(code reason.Code, format string, args ...any) {
	r.bad = append(r.bad, because(code, fmt.Sprintf(format, args...)))
}

// keepHolds takes over what is recorded in the status, as far as the
// reservation still wants it.
func (p *planner) keepHolds(r *reservation) {
	held := slices.Clone(r.Held)
	slices.SortStableFunc(held, func(a, b lb.HeldAddress) int { return a.Address.Compare(b.Address) })
	held = slices.CompactFunc(held, func(a, b lb.HeldAddress) bool { return a.Address == b.Address })
	if len(r.Addresses) == 0 && r.Invalid == "" {
		// If the number was lowered, those in use are the last to go.
		slices.SortStableFunc(held, func(a, b lb.HeldAddress) int { return cmp.Compare(p.idle(r, a), p.idle(r, b)) })
	}
	for _, h := range held {
		if p.ledger.holds[h.Address] == nil && p.stillHeld(r, h.Address) {
			p.hold(r, h.Address, h.Last)
		}
	}
}

// idle sorts recorded addresses: in use by Services of the reservation, used
// before, never used.
func (p *planner) idle(r *reservation, h lb.HeldAddress) int {
	switch s := p.ledger.slots[h.Address]; {
	case s != nil && r.isFor(s.first):
		return 0
	case s == nil && len(h.Last) > 0:
		return 1
	case s == nil:
		return 2
	}
	return 3
}

// stillHeld reports whether the configuration still allows what is recorded.
func (p *planner) stillHeld(r *reservation, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	f := familyOf(a)
	if r.Invalid != "" {
		return true
	}
	x := p.pools.poolOf(a)
	if len(r.Addresses) > 0 {
		return slices.Contains(r.Addresses, a) && (x == nil || r.mayUse(x, a))
	}
	if r.count[f] >= r.wants(f) {
		return false
	}
	named := p.pools.byName[r.Pool]
	if named == nil || named.frozen {
		return true
	}
	return x == named && r.mayUse(x, a)
}

// mayUse reports whether the pool has the address for the namespace. A
// namespace that the cache does not know yet may have any labels.
func (r *reservation) mayUse(x *pool, a netip.Addr) bool {
	return !x.leavesOut(a) && (x.Pin == nil || x.Pin.AllowsNamespace(r.ns.Namespace) || !r.ns.known)
}

func (p *planner) hold(r *reservation, a netip.Addr, last []string) {
	h := &hold{by: r, addr: a, home: p.pools.poolOf(a), last: last}
	r.holds = append(r.holds, h)
	r.count[familyOf(a)]++
	if p.ledger.holds == nil {
		p.ledger.holds = map[netip.Addr]*hold{}
	}
	p.ledger.holds[a] = h
	if h.home != nil && !h.home.leavesOut(a) && p.ledger.slots[a] == nil {
		h.home.space[familyOf(a)].held++
	}
	h.home.charge(r.ns, a)
}

// claim holds the addresses that the reservation names. That another one has an address is the last thing to say: it may
// get it in this very plan, after this one could not.
func (p *planner) claim(r *reservation) {
	for _, a := range r.Addresses {
		x, other := p.pools.poolOf(a), p.ledger.holds[a]
		switch {
		case other != nil && other.by == r && x != nil:
		case x == nil && p.pools.frozenAt(a) != nil:
			r.fail(reason.AddressOutsidePool, "%s is in pool %q, which is invalid and hands out nothing", a, p.pools.frozenAt(a).Name)
		case x == nil:
			r.fail(reason.AddressOutsidePool, "%s is in no pool", a)
		case x.leavesOut(a):
			r.fail(reason.AddressOutsidePool, "%s", x.skips(a))
		case !r.mayUse(x, a):
			r.fail(reason.AddressOutsidePool, "%s is in a pool for others: %s", a, x.only())
		case !x.allows(r.ns, a):
			r.fail(reason.ReservationQuota, "%s is not reserved: %s", a, x.overQuota(r.ns, familyOf(a)))
		case other != nil:
			r.fail(reason.ReservedByOther, "%s is reserved by %s", a, other.by.Key)
		default:
			p.hold(r, a, nil)
		}
	}
}

// fills reports whether the reservation may get more addresses of the pool. One
// whose namespace the cache does not know yet may not: see mayUse.
func (r *reservation) fills(x *pool) bool {
	return !x.frozen && (x.Pin == nil || x.Pin.AllowsNamespace(r.ns.Namespace))
}

// fill holds a number of addresses of a pool: those that Services of the
// reservation have already, those that such Services had before they were
// deleted, then the lowest free ones.
func (p *planner) fill(r *reservation) {
	x := p.pools.byName[r.Pool]
	switch {
	case x == nil:
		r.fail(reason.UnknownReference, "there is no pool %q; there are: %s", r.Pool, p.pools.listed())
		return
	case x.frozen:
		r.fail(reason.AddressOutsidePool, "pool %q is invalid and hands out nothing: its condition Valid says why", r.Pool)
		return
	case !r.fills(x):
		r.fail(reason.AddressOutsidePool, "%s", x.only())
		return
	}
	p.adopt(r, x)
	p.recallFor(r, x)
	for _, f := range []family{v4, v6} {
		for r.count[f] < r.wants(f) && !x.spent(r.ns, f) {
			a, ok := p.ledger.free(x, f)
			if !ok {
				break
			}
			p.hold(r, a, nil)
		}
	}
}

// adopt holds what Services of the reservation have of the pool. What one has
// from a frozen pool that overlaps with this one counts there, so that here
// there may be no room for it.
func (p *planner) adopt(r *reservation, x *pool) {
	if !r.short() {
		return
	}
	for _, w := range r.ns.work {
		if !r.isFor(w) {
			continue
		}
		p.eachOf(w, func(a netip.Addr) {
			f := familyOf(a)
			if r.count[f] < r.wants(f) && p.ledger.holds[a] == nil && p.pools.poolOf(a) == x && !x.leavesOut(a) && x.allows(r.ns, a) {
				p.hold(r, a, nil)
			}
		})
	}
}

func (r *reservation) short() bool { return r.count[v4] < r.IPv4 || r.count[v6] < r.IPv6 }

// recallFor holds what Services of the reservation had. Those that are gone
// are known by name only.
func (p *planner) recallFor(r *reservation, x *pool) {
	for _, key := range p.remembered {
		if !r.short() || key.Namespace != r.Key.Namespace || !r.Admits(key.Name, nil) {
			continue
		}
		for _, a := range p.ledger.memory.of[key] {
			f := familyOf(a)
			if r.count[f] < r.wants(f) && p.pools.poolOf(a) == x && !p.ledger.taken(a) && x.allows(r.ns, a) {
				p.hold(r, a, []string{key.Name})
			}
		}
	}
}

// reserved finds an address that a reservation keeps for w: best the one that
// w had last.
func (p *planner) reserved(w *work, f family) offer {
	var best offer
	bestRank := 0
	for _, r := range w.ns.reservations {
		if !r.isFor(w) {
			continue
		}
		for _, h := range r.holds {
			x := h.home
			if familyOf(h.addr) != f || x == nil || x.leavesOut(h.addr) || !x.admits(w.ns, w.svc.Labels) || (w.ask.pool != nil && w.ask.pool != x) {
				continue
			}
			if s := p.ledger.slots[h.addr]; s != nil && !s.canShare(w) {
				continue
			}
			rank := p.rank(w, h)
			if !best.addr.IsValid() || rank < bestRank || (rank == bestRank && h.addr.Less(best.addr)) {
				best, bestRank = offer{h.addr, x}, rank
			}
		}
	}
	return best
}

// rank says how well a reserved address suits w.
func (p *planner) rank(w *work, h *hold) int {
	switch {
	case slices.Contains(h.last, w.svc.Key.Name):
		return 0
	case p.ledger.memory.remembers(w.svc.Key, h.addr):
		return 1
	case len(h.last) == 0:
		return 2
	}
	return 3
}

// reservedInVain says which addresses are reserved for w that others have.
func (p *planner) reservedInVain(w *work, short families) string {
	text := ""
	for _, r := range w.ns.reservations {
		if !r.isFor(w) {
			continue
		}
		for _, h := range r.holds {
			if s := p.ledger.slots[h.addr]; s != nil && short.has(familyOf(h.addr)) && len(text) < maxText/4 {
				text += fmt.Sprintf("; %s is reserved for it, but Service %s has it", h.addr, s.first.svc.Key)
			}
		}
	}
	return text
}
