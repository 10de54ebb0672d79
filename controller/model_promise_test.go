// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// What must hold of reservations and quotas. Whoever asks here what a namespace
// holds of a pool gets one of two answers, because an address may be kept from
// one pool while another one contains it: all that may count, to say that there
// certainly is room; or only what certainly counts, to say that there is none.

// holder returns the reservation that holds a after the plan.
func (o *oracle) holder(a netip.Addr) *resvIntent { return o.holders[a] }

// mine reports whether a is reserved for s.
func (o *oracle) mine(s *svcIntent, a netip.Addr) bool {
	in := o.holder(a)
	return in != nil && in.admits(s)
}

// promised reports whether a is reserved for others than s.
func (o *oracle) promised(s *svcIntent, a netip.Addr) bool {
	in := o.holder(a)
	return in != nil && !in.admits(s)
}

// count returns what a namespace holds of a pool after the plan, its Services
// only as far as they satisfy counts.
func (o *oracle) count(ns string, p *poolIntent, f lb.Family, certain bool, counts func(t svc, a netip.Addr) bool) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, t := range o.ages {
		d := o.decisions[t.in.key()]
		if d == nil || t.in.ns != ns {
			continue
		}
		for i, a := range d.Addresses {
			q, _ := o.valid(a)
			pools := d.Pools
			if len(pools) == len(d.Addresses) {
				pools = pools[i : i+1]
			}
			named := len(pools) == 0 || slices.Contains(pools, p.name)
			if lb.FamilyOf(a) == f && ((q == p && named) || (!certain && (q == p || named))) && counts(t, a) {
				out[a] = true
			}
		}
	}
	for a, in := range o.holders {
		if q, ok := o.valid(a); ok && q == p && in.ns == ns && lb.FamilyOf(a) == f {
			out[a] = true
		}
	}
	return out
}

func everybody(svc, netip.Addr) bool { return true }

// room reports whether a namespace certainly may hold a.
func (o *oracle) room(ns string, a netip.Addr, counts func(t svc, a netip.Addr) bool) bool {
	p, _ := o.valid(a)
	limit := p.limit(ns, o.namespaces[ns].in, lb.FamilyOf(a))
	if limit < 0 {
		return true
	}
	return o.count(ns, p, lb.FamilyOf(a), true, counts)[a] || len(o.count(ns, p, lb.FamilyOf(a), false, counts)) < limit
}

// spent reports whether the quota for addresses of the pool may have no room, or
// has none for certain.
func (o *oracle) spent(ns string, p *poolIntent, f lb.Family, certain bool) bool {
	limit := p.limit(ns, o.namespaces[ns].in, f)
	return limit >= 0 && len(o.count(ns, p, f, certain, everybody)) >= limit
}

// open reports whether the namespace may have a of the pool reserved. One that
// is not known may have any labels.
func (o *oracle) open(p *poolIntent, in *resvIntent, a netip.Addr) bool {
	return p.gives(a) && (o.namespaces[in.ns].in == nil || o.openTo(p, in.ns))
}

func (o *oracle) openTo(p *poolIntent, ns string) bool {
	return p.pin == nil || (&poolIntent{pin: &pinIntent{namespaces: p.pin.namespaces, nsTiers: p.pin.nsTiers}}).admits(&svcIntent{ns: ns}, o.namespaces[ns].in)
}

// stillWanted reports whether the configuration allows the reservation to hold
// on to a.
func (o *oracle) stillWanted(v resv, a netip.Addr) bool {
	in := v.in
	p, ok := o.valid(a)
	if in.pool == "" {
		return slices.Contains(in.addrs, a) && (!ok || o.open(p, in, a))
	}
	n := 0
	for _, b := range recorded(v) {
		if lb.FamilyOf(b) == lb.FamilyOf(a) {
			n++
		}
	}
	if n > in.n[row(lb.FamilyOf(a))] {
		return false // some have to go
	}
	named := o.pools[in.pool].in
	return named == nil || o.frozen[in.pool] || (ok && p == named && o.open(p, in, a))
}

// free reports whether nobody has a or keeps it.
func (o *oracle) free(a netip.Addr) bool {
	return o.holder(a) == nil && !slices.ContainsFunc(o.ages, func(t svc) bool { return o.decided(t, a) })
}

// checkReserving: a reservation keeps what it has, and gets what it can.
func (w *world) checkReserving(o *oracle) {
	seen := map[netip.Addr]bool{}
	for _, h := range o.plan.Reservations {
		for _, a := range h.Addresses {
			if seen[a.Address] {
				w.fail("%s is reserved twice", a.Address)
			}
			seen[a.Address] = true
		}
	}
	if len(o.pools) == 0 {
		return
	}
	for _, v := range values(o.reservations) {
		for _, a := range recorded(v) {
			if o.holder(a) == nil && o.stillWanted(v, a) {
				w.fail("reservation %s does not hold %s any longer", v.in.key(), a)
			}
		}
		for _, a := range v.in.addrs {
			if p, ok := o.valid(a); ok && o.holder(a) == nil && o.open(p, v.in, a) && o.room(v.in.ns, a, everybody) {
				w.fail("reservation %s does not hold %s", v.in.key(), a)
			}
		}
		w.checkShort(o, v.in)
	}
}

// checkShort: a reservation does not go short while there are free addresses.
func (w *world) checkShort(o *oracle, in *resvIntent) {
	p := o.pools[in.pool].in
	if p == nil || o.frozen[in.pool] || !o.openTo(p, in.ns) {
		return
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		if o.holding(in, f) >= in.n[row(f)] {
			continue
		}
		for n := range last + 1 {
			a := address(f, n)
			if q, _ := o.valid(a); q == p && p.gives(a) && o.free(a) && o.room(in.ns, a, everybody) {
				w.fail("reservation %s is short, although %s is free", in.key(), a)
			}
		}
	}
}

// holding counts what a reservation holds after the plan.
func (o *oracle) holding(in *resvIntent, f lb.Family) int {
	n := 0
	for a, r := range o.holders {
		if r == in && lb.FamilyOf(a) == f {
			n++
		}
	}
	return n
}

// checkQuotas: no plan exceeds a quota by something new.
func (w *world) checkQuotas(o *oracle) {
	for i := range o.list {
		p := o.list[i].in
		if o.frozen[p.name] || len(p.quotas) == 0 {
			continue
		}
		for _, ns := range nsNames() {
			for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
				limit := p.limit(ns, o.namespaces[ns].in, f)
				has := o.count(ns, p, f, true, everybody)
				if limit < 0 || len(has) <= limit {
					continue
				}
				for a := range has {
					if !o.had(ns, a) {
						w.fail("quota exceeded: %s gets %s, and holds %d of pool %s, more than %d", ns, a, len(has), p.name, limit)
					}
				}
			}
		}
	}
}

// had reports whether the namespace held a before the plan.
func (o *oracle) had(ns string, a netip.Addr) bool {
	return slices.ContainsFunc(o.ages, func(t svc) bool { return t.in.ns == ns && slices.Contains(assigned(t), a) }) || o.wasReserved(ns, a)
}

func (o *oracle) wasReserved(ns string, a netip.Addr) bool {
	return slices.ContainsFunc(values(o.reservations), func(v resv) bool { return v.in.ns == ns && slices.Contains(recorded(v), a) })
}

// checkPromises judges that a has been given to s, decided on o, by what the
// API server has now.
func (w *world) checkPromises(o *oracle, s svc, a netip.Addr) {
	if o.promised(s.in, a) {
		w.fail("%s gets %s, which is reserved for others", s.in.key(), a)
	}
	for _, v := range w.reservations.sorted() {
		seen := o.reservations[v.in.key()]
		if in := o.holder(a); in != nil && in != seen.in {
			continue // it was about to give it up when its user changed his mind
		}
		if seen.in == v.in && slices.Contains(recorded(v), a) && slices.Contains(recorded(seen), a) && o.stillWanted(seen, a) && !v.in.admits(s.in) {
			w.fail("%s gets %s, which reservation %s has recorded", s.in.key(), a, v.in.key())
		}
	}
	p, ok := o.valid(a)
	limit := -1
	if ok {
		limit = p.limit(s.in.ns, o.namespace(s.in), lb.FamilyOf(a))
	}
	// What the namespace had when it was decided is nothing new for it, even if the Service that it was to be shared with
	// was deleted just before the write.
	if limit < 0 || o.had(s.in.ns, a) {
		return
	}
	has := map[netip.Addr]bool{}
	for _, t := range w.services.sorted() {
		for _, b := range assigned(t) {
			if q, _ := o.valid(b); t.in.ns != s.in.ns || q != p || lb.FamilyOf(b) != lb.FamilyOf(a) {
				continue
			}
			if b == a && t.in.key() != s.in.key() {
				// Shared in the namespace, which does not hold more now; also if the other Service still says that it
				// is from a pool that is gone, and will say otherwise in a moment.
				return
			}
			if slices.Contains(from(t, b), p.name) {
				has[b] = true
			}
		}
	}
	if len(has) > limit {
		w.fail("quota exceeded: %s has got %s, and its namespace holds %d of pool %s now, more than %d", s.in.key(), a, len(has), p.name, limit)
	}
}

// countSpent counts quotas that are used up.
func (w *world) countSpent(o *oracle) {
	for i := range o.list {
		for _, ns := range nsNames() {
			for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
				p := o.list[i].in
				if n := len(o.count(ns, p, f, true, everybody)); n > 0 && n == p.limit(ns, o.namespaces[ns].in, f) {
					w.seen["settled at the limit of a quota"]++
				}
			}
		}
	}
}

// checkReservation judges a reservation in a settled cluster.
func (w *world) checkReservation(o *oracle, v resv) {
	seen, ok := o.reservations[v.in.key()]
	if !ok || seen.version() != v.version() {
		w.fail("reservation %s has not been seen as it is", v.in.key())
		return
	}
	waits, held := false, v.obj.Status.Addresses
	for i := range held {
		a := netip.MustParseAddr(held[i].Address)
		if o.holder(a) != seen.in {
			w.fail("reservation %s says that it holds %s", v.in.key(), a)
		}
		var users []string
		state := v1alpha1.ReservedFree
		for _, t := range w.services.sorted() {
			if !slices.Contains(assigned(t), a) {
				continue
			}
			users = append(users, t.in.key())
			if v.in.admits(t.in) {
				state = v1alpha1.ReservedInUse
			} else if state == v1alpha1.ReservedFree {
				state = v1alpha1.ReservedWaiting
			}
		}
		waits = waits || state == v1alpha1.ReservedWaiting
		if state == v1alpha1.ReservedInUse {
			w.seen["reserved and in use"]++
		}
		if held[i].State != state || !slices.Equal(held[i].UsedBy, users) {
			w.fail("reservation %s: %s is %s by %v, but says %s by %v", v.in.key(), a, state, users, held[i].State, held[i].UsedBy)
		}
	}
	if n := o.holding(v.in, lb.IPv4) + o.holding(v.in, lb.IPv6); n != len(held) {
		w.fail("reservation %s holds %d addresses, and says %d", v.in.key(), n, len(held))
	}
	i := slices.IndexFunc(v.obj.Status.Conditions, isValid)
	if i < 0 || v.obj.Status.Conditions[i].Message == "" {
		w.fail("reservation %s has no reason", v.in.key())
		return
	}
	c := v.obj.Status.Conditions[i]
	w.seen[c.Reason]++
	if len(o.pools) > 0 && !o.holdsFor(v.in, reason.Code(c.Reason), len(held), waits) {
		w.fail("reservation %s: the reason %s is not true: %s", v.in.key(), c.Reason, c.Message)
	}
}

// holdsFor reports whether what the reason of a reservation says is so.
func (o *oracle) holdsFor(in *resvIntent, code reason.Code, held int, waits bool) bool {
	p := o.pools[in.pool].in
	anyNamed := func(ok func(a netip.Addr) bool) bool { return slices.ContainsFunc(in.addrs, ok) }
	short := func(ok func(f lb.Family) bool) bool {
		return slices.ContainsFunc([]lb.Family{lb.IPv4, lb.IPv6}, func(f lb.Family) bool { return p != nil && o.holding(in, f) < in.n[row(f)] && ok(f) })
	}
	switch code {
	case reason.ObjectValid:
		return held == in.wanted() && !waits
	case reason.ReservationWaits:
		return held == in.wanted() && waits
	case reason.UnknownReference:
		return in.pool != "" && p == nil
	case reason.AddressOutsidePool:
		return (p != nil && (o.frozen[in.pool] || !o.openTo(p, in.ns))) || anyNamed(func(a netip.Addr) bool {
			q, ok := o.valid(a)
			return !ok || !o.open(q, in, a)
		})
	case reason.ReservedByOther:
		return anyNamed(func(a netip.Addr) bool { return o.holder(a) != nil && o.holder(a) != in })
	case reason.ReservationQuota:
		return short(func(f lb.Family) bool { return o.spent(in.ns, p, f, false) }) || anyNamed(func(a netip.Addr) bool {
			q, ok := o.valid(a)
			return ok && o.spent(in.ns, q, lb.FamilyOf(a), false)
		})
	case reason.ReservationShort:
		return short(func(f lb.Family) bool { return !o.spent(in.ns, p, f, true) })
	}
	return false
}

// overQuota: s lacks an address of the family that only the quota keeps it from.
func (o *oracle) overQuota(s *svcIntent, f lb.Family) bool {
	for n := range last + 1 {
		a := address(f, n)
		if p, ok := o.valid(a); ok && o.plainly(s, a) && !o.promised(s, a) && o.spent(s.ns, p, f, false) {
			return true
		}
	}
	return false
}

var isValid = conditionOf(api.ConditionValid)
