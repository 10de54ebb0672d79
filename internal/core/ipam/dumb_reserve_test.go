// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// dumbReservation is a reservation of the dumb implementation.
type dumbReservation struct {
	*lb.Reservation
	holds map[netip.Addr][]string // with the last users
}

func (r *dumbReservation) admits(s *dumbService) bool {
	return r.Key.Namespace == s.Key.Namespace && r.Admits(s.Key.Name, s.Labels)
}

// sorted lists what the reservation holds.
func (r *dumbReservation) sorted() []netip.Addr {
	var out []netip.Addr
	for a := range r.holds {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (r *dumbReservation) lacks(f lb.Family) bool {
	n := 0
	for a := range r.holds {
		if lb.FamilyOf(a) == f {
			n++
		}
	}
	if f == lb.IPv4 {
		return n < r.IPv4
	}
	return n < r.IPv6
}

// holder returns the reservation that holds an address.
func (d *dumb) holder(a netip.Addr) *dumbReservation {
	for _, r := range d.reservations {
		if _, ok := r.holds[a]; ok {
			return r
		}
	}
	return nil
}

// reserve is what happens between keeping and giving.
func (d *dumb) reserve() {
	for i := range d.snap.Reservations {
		d.reservations = append(d.reservations, &dumbReservation{&d.snap.Reservations[i], map[netip.Addr][]string{}})
	}
	slices.SortFunc(d.reservations, func(a, b *dumbReservation) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	for _, r := range d.reservations {
		d.recorded(r)
	}
	for _, r := range d.reservations {
		switch {
		case r.Invalid != "":
		case len(r.Addresses) > 0:
			for _, a := range r.Addresses {
				if d.holder(a) == nil && d.home(a) != nil && d.open(r, d.home(a)) && d.quotaAllows(r.Key.Namespace, d.home(a), a) {
					r.holds[a] = nil
				}
			}
		default:
			d.fill(r)
		}
	}
}

func (d *dumb) open(r *dumbReservation, p *lb.Pool) bool {
	return p.Pin == nil || p.Pin.AllowsNamespace(d.namespace(r.Key.Namespace))
}

func (d *dumb) recorded(r *dumbReservation) {
	held := slices.Clone(r.Held)
	class := func(h lb.HeldAddress) int {
		users := d.users(h.Address)
		switch {
		case len(users) > 0 && r.admits(users[0]):
			return 0
		case len(users) > 0:
			return 3
		case len(h.Last) > 0:
			return 1
		}
		return 2
	}
	if len(r.Addresses) == 0 && r.Invalid == "" {
		slices.SortFunc(held, func(a, b lb.HeldAddress) int {
			return cmp.Or(cmp.Compare(class(a), class(b)), a.Address.Compare(b.Address))
		})
	}
	for _, h := range held {
		if d.holder(h.Address) != nil {
			continue
		}
		in := d.container(h.Address)
		fits := in != nil && d.home(h.Address) == in && d.open(r, in)
		switch named := d.pool(r.Pool); {
		case r.Invalid != "":
			r.holds[h.Address] = h.Last
		case len(r.Addresses) > 0:
			if slices.Contains(r.Addresses, h.Address) && (in == nil || fits) {
				r.holds[h.Address] = h.Last
			}
		case !r.lacks(lb.FamilyOf(h.Address)):
		case named == nil || named.Frozen || (fits && in == named):
			r.holds[h.Address] = h.Last
		}
	}
}

// container is the valid pool with a in its ranges.
func (d *dumb) container(a netip.Addr) *lb.Pool {
	for i := range d.snap.Pools {
		if p := &d.snap.Pools[i]; !p.Frozen && p.Contains(a) {
			return p
		}
	}
	return nil
}

// users lists who has an address, oldest first. Of those that are being
// deleted, only ones that do not clash with older ones count as users here.
func (d *dumb) users(a netip.Addr) []*dumbService {
	var out []*dumbService
	for i, s := range d.svcs {
		if s.has[lb.FamilyOf(a)].addr == a {
			out = append(out, s)
		}
		if s.Deleting && slices.Contains(s.Assigned, a) &&
			!slices.ContainsFunc(d.svcs[:i], func(q *dumbService) bool { return !d.tolerates(s, q, a) }) {
			out = append(out, s)
		}
	}
	return out
}

func (d *dumb) fill(r *dumbReservation) {
	p := d.pool(r.Pool)
	if p == nil || p.Frozen || !d.open(r, p) {
		return
	}
	d.adopt(r)
	for _, m := range d.snap.Remembered {
		for i, a := range m.Addresses {
			if m.Key.Namespace == r.Key.Namespace && r.Admits(m.Key.Name, nil) && r.lacks(lb.FamilyOf(a)) && d.home(a) == p &&
				d.holder(a) == nil && !d.had(a) && d.quotaAllows(r.Key.Namespace, p, a) && !slices.Contains(m.Addresses[:i], a) {
				r.holds[a] = []string{m.Key.Name}
			}
		}
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		for r.lacks(f) {
			a := d.lowestFree(p, f)
			if !a.IsValid() || !d.quotaAllows(r.Key.Namespace, p, a) {
				break
			}
			r.holds[a] = nil
		}
	}
}

// adopt holds what the Services of the reservation have.
func (d *dumb) adopt(r *dumbReservation) {
	p := d.pool(r.Pool)
	if r.Invalid != "" || len(r.Addresses) > 0 || p == nil || p.Frozen || !d.open(r, p) {
		return
	}
	for _, s := range d.svcs {
		var has []netip.Addr
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			has = append(has, s.has[f].addr)
		}
		if s.Deleting {
			has = s.Assigned
		}
		for _, a := range has {
			if a.IsValid() && r.admits(s) && r.lacks(lb.FamilyOf(a)) && d.home(a) == p && d.holder(a) == nil && d.quotaAllows(r.Key.Namespace, p, a) {
				r.holds[a] = nil
			}
		}
	}
}

// last is who used an address of a reservation last. The random clusters have
// too few Services for the bound on those.
func (d *dumb) last(r *dumbReservation, a netip.Addr) []string {
	uses := map[string]bool{}
	another := map[string]bool{}
	stays := false
	for _, s := range d.svcs {
		for _, x := range r.sorted() {
			switch {
			case s.Key.Namespace != r.Key.Namespace || lb.FamilyOf(x) != lb.FamilyOf(a):
			case s.has[lb.FamilyOf(x)].addr != x && !(s.Deleting && slices.Contains(s.Assigned, x)):
			case x != a:
				another[s.Key.Name] = true
			case r.admits(s):
				uses[s.Key.Name] = true
				stays = stays || slices.Contains(r.holds[a], s.Key.Name)
			default:
				another[s.Key.Name] = true // it has it as anybody might
			}
		}
	}
	var out []string
	for _, name := range r.holds[a] {
		if len(uses) == 0 || (stays && !uses[name] && !another[name]) {
			out = append(out, name)
		}
	}
	for name := range uses {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// had: a Service has the address.
func (d *dumb) had(a netip.Addr) bool {
	return slices.ContainsFunc(d.svcs, func(s *dumbService) bool {
		return s.has[lb.FamilyOf(a)].addr == a || (s.Deleting && slices.Contains(s.Assigned, a))
	})
}

func (d *dumb) isRemembered(a netip.Addr) bool {
	return slices.ContainsFunc(d.snap.Remembered, func(m lb.Remembered) bool { return slices.Contains(m.Addresses, a) })
}

func (d *dumb) lowestFree(p *lb.Pool, f lb.Family) netip.Addr {
	for _, remembered := range []bool{false, true} {
		for _, a := range addresses(p, f) {
			if !d.had(a) && d.holder(a) == nil && d.isRemembered(a) == remembered {
				return a
			}
		}
	}
	return netip.Addr{}
}

func (d *dumb) namespace(name string) lb.Namespace {
	for _, ns := range d.snap.Namespaces {
		if ns.Name == name {
			return ns
		}
	}
	panic("the random clusters know all namespaces")
}

// quotaAllows: the namespace holds the address of the pool, or may hold one
// more.
func (d *dumb) quotaAllows(ns string, p *lb.Pool, a netip.Addr) bool {
	limit := int64(-1)
	for _, specific := range []func(q lb.Quota) bool{
		func(q lb.Quota) bool { return slices.Contains(q.Namespaces, ns) },
		func(q lb.Quota) bool { return lb.MatchesAny(q.NamespaceSelectors, d.namespace(ns).Labels) },
		func(q lb.Quota) bool { return len(q.Namespaces)+len(q.NamespaceSelectors) == 0 },
	} {
		for _, q := range p.Quotas {
			n := map[bool]int64{true: q.IPv4, false: q.IPv6}[a.Is4()]
			if n >= 0 && specific(q) && (limit < 0 || n < limit) {
				limit = n
			}
		}
		if limit >= 0 {
			break
		}
	}
	holds := d.holdings(ns, p, lb.FamilyOf(a))
	return limit < 0 || holds[a] || int64(len(holds)) < limit
}

// holdings is what the namespace holds of a pool.
func (d *dumb) holdings(ns string, p *lb.Pool, f lb.Family) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, s := range d.svcs {
		if h := s.has[f]; s.Key.Namespace == ns && h.addr.IsValid() && h.pool == p.Name {
			out[h.addr] = true
		}
		for i, a := range s.Assigned {
			if s.Deleting && s.Key.Namespace == ns && lb.FamilyOf(a) == f && d.lastHome(s, i) == p.Name && slices.Contains(d.users(a), s) {
				out[a] = true
			}
		}
	}
	for _, r := range d.reservations {
		for a := range r.holds {
			if r.Key.Namespace == ns && lb.FamilyOf(a) == f && d.container(a) == p {
				out[a] = true
			}
		}
	}
	return out
}

// lastHome is the pool of what a Service has that is being deleted.
func (d *dumb) lastHome(s *dumbService, i int) string {
	if h := d.origin(s, i); h.pool != "" {
		return h.pool
	}
	if p := d.container(s.Assigned[i]); p != nil {
		return p.Name
	}
	return ""
}

// own is what is meant for s: reserved for it, or remembered.
func (d *dumb) own(s *dumbService, f lb.Family) dumbAddress {
	suits := func(p *lb.Pool) bool {
		return p != nil && d.admits(p, s) && (s.Request.Pool == "" || s.Request.Pool == p.Name)
	}
	var mine []netip.Addr
	for _, m := range d.snap.Remembered {
		if m.Key == s.Key {
			mine = append(mine, m.Addresses...)
		}
	}
	var best netip.Addr
	bestRank := 9
	for _, r := range d.reservations {
		for _, a := range r.sorted() {
			if !r.admits(s) || lb.FamilyOf(a) != f || !suits(d.home(a)) || !d.mayJoin(s, a, true) {
				continue
			}
			rank := 3
			switch {
			case slices.Contains(r.holds[a], s.Key.Name):
				rank = 0
			case slices.Contains(mine, a) && d.home(a) != nil:
				rank = 1
			case len(r.holds[a]) == 0:
				rank = 2
			}
			if rank < bestRank || (rank == bestRank && a.Less(best)) {
				best, bestRank = a, rank
			}
		}
	}
	if best.IsValid() {
		return dumbAddress{best, d.container(best).Name, false}
	}
	for _, a := range mine {
		p := d.home(a)
		if lb.FamilyOf(a) == f && suits(p) && (p.AutoAssign || s.Request.Pool != "") && d.holder(a) == nil &&
			d.mayJoin(s, a, true) && d.quotaAllows(s.Key.Namespace, p, a) {
			return dumbAddress{a, p.Name, false}
		}
	}
	return dumbAddress{}
}
