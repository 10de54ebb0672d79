// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// settle is the end of a plan for reservations: those that are still short
// hold what their Services have got since; then it is known who uses what.
func (p *planner) settle() []Holding {
	if len(p.reservations) == 0 {
		return nil
	}
	for _, r := range p.reservations {
		if x := p.pools.byName[r.Pool]; r.Invalid == "" && len(r.Addresses) == 0 && x != nil && r.fills(x) {
			p.adopt(r, x)
		}
	}
	for i := range p.work {
		w := &p.work[i]
		p.eachOf(w, func(a netip.Addr) {
			if h := p.ledger.holds[a]; h != nil && !slices.Contains(h.users, w) {
				h.users = append(h.users, w)
			}
		})
	}
	out := make([]Holding, 0, len(p.reservations))
	for _, r := range p.reservations {
		out = append(out, p.holding(r))
	}
	slices.SortFunc(out, func(a, b Holding) int { return a.Key.Compare(b.Key) })
	return out
}

// eachOf goes through what w has in the end.
func (p *planner) eachOf(w *work, do func(netip.Addr)) {
	if w.svc.Deleting {
		for _, a := range w.svc.Assigned {
			do(a)
		}
		return
	}
	for f := range w.have {
		if a := w.have[f].addr; a.IsValid() {
			do(a)
		}
	}
}

func (p *planner) holding(r *reservation) Holding {
	out := Holding{Key: r.Key, Wanted: len(r.Addresses)}
	if out.Wanted == 0 {
		out.Wanted = r.IPv4 + r.IPv6
	}
	slices.SortFunc(r.holds, func(a, b *hold) int { return a.addr.Compare(b.addr) })
	var foreign []string
	for _, h := range r.holds {
		held := p.held(r, h)
		if held.State == Waiting {
			foreign = append(foreign, fmt.Sprintf("%s is still used by Service %s", h.addr, held.UsedBy[0]))
		}
		out.Addresses = append(out.Addresses, held)
	}
	out.Reason = p.holdingReason(r, &out, foreign)
	return out
}

// held says what an address of the reservation is doing.
func (p *planner) held(r *reservation, h *hold) Held {
	out := Held{Address: h.addr, Last: slices.Clone(h.last)}
	if h.home != nil {
		out.Pool = h.home.Name
	}
	var mine []string
	for _, w := range h.users {
		out.UsedBy = append(out.UsedBy, w.svc.Key)
		if r.isFor(w) {
			mine = append(mine, w.svc.Key.Name)
		}
	}
	slices.SortFunc(out.UsedBy, lb.ServiceKey.Compare)
	switch {
	case len(mine) > 0:
		out.State, out.Last = InUse, append(mine, p.former(r, h, mine)...)
		slices.Sort(out.Last)
	case len(h.users) > 0:
		out.State = Waiting
	}
	return out
}

// mostFormer bounds the Services that an address which others use is kept in
// mind for.
const mostFormer = 8

// former returns those who had the address together with some that still have
// it, and may come back to share it. If all who have it are new, it has been
// given to somebody else. Who uses another address of the reservation does not
// come back for this one.
func (p *planner) former(r *reservation, h *hold, mine []string) []string {
	if !slices.ContainsFunc(mine, func(name string) bool { return slices.Contains(h.last, name) }) {
		return nil
	}
	out := slices.DeleteFunc(slices.Clone(h.last), func(name string) bool {
		return slices.Contains(mine, name) || r.uses(name, familyOf(h.addr))
	})
	if len(out) <= mostFormer {
		return out
	}
	// There will be others whose name comes first and who left long ago.
	older := func(name string) int {
		if p.ledger.memory.remembers(lb.ServiceKey{Namespace: r.Key.Namespace, Name: name}, h.addr) {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(older(a), older(b)), strings.Compare(a, b)) })
	return out[:mostFormer]
}

// uses reports whether the Service of the name has an address of the
// reservation.
func (r *reservation) uses(name string, f family) bool {
	return slices.ContainsFunc(r.holds, func(h *hold) bool {
		return familyOf(h.addr) == f && slices.ContainsFunc(h.users, func(w *work) bool {
			return w.svc.Key == lb.ServiceKey{Namespace: r.Key.Namespace, Name: name}
		})
	})
}

func (p *planner) holdingReason(r *reservation, out *Holding, foreign []string) reason.Reason {
	text := fmt.Sprintf("holds %d of %d", len(out.Addresses), out.Wanted)
	if len(r.Addresses) == 0 {
		p.explainShort(r)
	}
	switch {
	case len(r.bad) > 0:
		for _, b := range r.bad {
			text += "; " + b.Text
		}
		return because(r.bad[0].Code, text)
	case len(foreign) > 0:
		return because(reason.ReservationWaits, text+"; "+strings.Join(foreign, "; "))
	}
	return because(reason.ObjectValid, text)
}

// explainShort says, when everything has been given, why a reservation holds
// less than the number it wants.
func (p *planner) explainShort(r *reservation) {
	x := p.pools.byName[r.Pool]
	if len(r.bad) > 0 || x == nil {
		return
	}
	for _, f := range []family{v4, v6} {
		switch {
		case r.count[f] >= r.wants(f):
		case x.spent(r.ns, f):
			r.fail(reason.ReservationQuota, "%s", x.overQuota(r.ns, f))
		default:
			r.fail(reason.ReservationShort, "%s", x.shortOf(only(f), false, nil))
		}
	}
}

// unsettled is what reservations hold when there is no pool to check against:
// what is recorded. Services keep what they have, so it is known who uses it.
// What one has recorded and does not name any more may be on its way to another.
func (p *planner) unsettled(list []lb.Reservation) []Holding {
	if len(list) == 0 {
		return nil
	}
	users := map[netip.Addr][]*work{}
	for i := range p.work {
		w := &p.work[i]
		for _, a := range w.svc.Assigned {
			if !slices.Contains(users[a], w) {
				users[a] = append(users[a], w)
			}
		}
	}
	out := make([]Holding, 0, len(list))
	taken := map[netip.Addr]bool{}
	for i := range list {
		r := &reservation{Reservation: &list[i]}
		for _, held := range r.Held {
			named := len(r.Addresses) == 0 || r.Invalid != "" || slices.Contains(r.Addresses, held.Address)
			if !named || taken[held.Address] {
				continue
			}
			taken[held.Address] = true
			r.holds = append(r.holds, &hold{by: r, addr: held.Address, last: held.Last, users: users[held.Address]})
		}
		slices.SortStableFunc(r.holds, func(a, b *hold) int { return a.addr.Compare(b.addr) })
		h := Holding{Key: r.Key, Wanted: cmp.Or(len(r.Addresses), r.IPv4+r.IPv6)}
		for _, x := range r.holds {
			h.Addresses = append(h.Addresses, p.held(r, x))
		}
		h.Reason = because(reason.AddressOutsidePool, fmt.Sprintf("holds %d of %d; there is no IPAddressPool", len(h.Addresses), h.Wanted))
		if r.Invalid != "" {
			h.Reason = because(reason.BadField, fmt.Sprintf("holds %d of %d; %s", len(h.Addresses), h.Wanted, r.Invalid))
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Holding) int { return a.Key.Compare(b.Key) })
	return out
}
