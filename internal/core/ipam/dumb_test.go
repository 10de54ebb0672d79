// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// dumb is a second implementation of the rules. It walks whole pools, looks at
// every other Service for each question, remembers nothing and explains
// nothing. It shares no code with the first one.
type dumb struct {
	snap lb.Snapshot
	svcs []*dumbService // oldest first

	reservations []*dumbReservation // oldest first
}

type dumbService struct {
	*lb.Service
	families []lb.Family
	has      map[lb.Family]dumbAddress
	cleared  []netip.Addr
	code     reason.Code
}

type dumbAddress struct {
	addr   netip.Addr
	pool   string // "": unknown
	frozen bool
}

func dumbPlan(snap lb.Snapshot) *dumb {
	d := &dumb{snap: snap}
	for i := range snap.Services {
		s := &dumbService{Service: &snap.Services[i], has: map[lb.Family]dumbAddress{}}
		s.families = s.Families
		if s.FamilyPolicy == lb.SingleStack && len(s.families) > 1 {
			s.families = s.families[:1]
		}
		d.svcs = append(d.svcs, s)
	}
	slices.SortFunc(d.svcs, func(a, b *dumbService) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	for _, s := range d.svcs {
		if !s.Deleting {
			d.keep(s)
		}
	}
	d.reserve()
	for _, s := range d.svcs {
		if !s.Deleting {
			d.give(s)
		}
	}
	for _, r := range d.reservations {
		d.adopt(r)
	}
	for _, s := range d.svcs {
		s.code = d.code(s)
	}
	return d
}

func (d *dumb) pool(name string) *lb.Pool {
	for i := range d.snap.Pools {
		if d.snap.Pools[i].Name == name {
			return &d.snap.Pools[i]
		}
	}
	return nil
}

// addresses lists what a pool may hand out of a family.
func addresses(p *lb.Pool, f lb.Family) []netip.Addr {
	var out []netip.Addr
	for _, r := range p.Ranges {
		for a := r.From; a.IsValid() && a.Compare(r.To) <= 0; a = a.Next() {
			ends := a.AsSlice()[len(a.AsSlice())-1]
			if lb.FamilyOf(a) == f && !(p.AvoidBuggyIPs && a.Is4() && (ends == 0 || ends == 255)) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (d *dumb) admits(p *lb.Pool, s *dumbService) bool {
	for _, ns := range d.snap.Namespaces {
		if ns.Name == s.Key.Namespace {
			return p.Pin == nil || p.Pin.Allows(ns, s.Labels)
		}
	}
	panic("the random clusters know all namespaces")
}

// home is the valid pool that hands out a.
func (d *dumb) home(a netip.Addr) *lb.Pool {
	for i := range d.snap.Pools {
		p := &d.snap.Pools[i]
		if !p.Frozen && slices.Contains(addresses(p, lb.FamilyOf(a)), a) {
			return p
		}
	}
	return nil
}

// mayJoin: a is free, or all who have it share it with s.
func (d *dumb) mayJoin(s *dumbService, a netip.Addr, fresh bool) bool {
	for i, o := range d.svcs {
		h := o.has[lb.FamilyOf(a)]
		if o.Deleting && slices.Contains(o.Assigned, a) && (fresh || i < slices.Index(d.svcs, s)) {
			h = d.origin(o, slices.Index(o.Assigned, a))
			h.addr = a
			clash := slices.ContainsFunc(d.svcs[:i], func(q *dumbService) bool { return !d.tolerates(o, q, a) })
			if clash && !fresh {
				continue
			}
			h.frozen = h.frozen || clash
		}
		if o == s || h.addr != a {
			continue
		}
		if s.SharingKey == "" || s.SharingKey != o.SharingKey || s.BackendKey != o.BackendKey || (fresh && h.frozen) {
			return false
		}
		for _, p := range s.Ports {
			if slices.Contains(o.Ports, p) {
				return false
			}
		}
	}
	return true
}

// tolerates: o, which is being deleted, could share a with the older q.
func (d *dumb) tolerates(o, q *dumbService, a netip.Addr) bool {
	if q.has[lb.FamilyOf(a)].addr != a && !(q.Deleting && slices.Contains(q.Assigned, a)) {
		return true
	}
	return o.SharingKey != "" && o.SharingKey == q.SharingKey && o.BackendKey == q.BackendKey &&
		!slices.ContainsFunc(o.Ports, func(p lb.Port) bool { return slices.Contains(q.Ports, p) })
}

// hopeless returns why a request can never be granted.
func (d *dumb) hopeless(s *dumbService) reason.Code {
	r := s.Request
	if r.Invalid != "" {
		return reason.InvalidRequest
	}
	var asked *lb.Pool
	if r.Pool != "" {
		asked = d.pool(r.Pool)
		if asked == nil {
			return reason.UnknownPool
		}
		if asked.Frozen {
			return reason.PoolInvalid
		}
		if !d.admits(asked, s) {
			return reason.PoolNotAllowed
		}
	}
	if len(r.Addresses) > 0 {
		return d.hopelessAddress(s, asked)
	}
	if asked == nil {
		return ""
	}
	empty := 0
	for _, f := range s.families {
		if len(addresses(asked, f)) == 0 {
			empty++
		}
	}
	if s.FamilyPolicy == lb.RequireDualStack && len(s.families) == 2 && empty > 0 {
		return reason.DualStackUnavailable
	}
	if empty == len(s.families) {
		return reason.NoPoolFits
	}
	return ""
}

func (d *dumb) hopelessAddress(s *dumbService, asked *lb.Pool) reason.Code {
	for _, f := range s.families {
		n := 0
		for _, a := range s.Request.Addresses {
			if lb.FamilyOf(a) == f {
				n++
			}
		}
		if n != 1 || len(s.Request.Addresses) != len(s.families) {
			return reason.FamilyMismatch
		}
	}
	for _, f := range s.families {
		a := s.asks(f)
		p := d.home(a)
		if asked != nil && (p == nil || p.Name != asked.Name) {
			return reason.AddressNotInPool
		}
		if p == nil {
			for i := range d.snap.Pools {
				if d.snap.Pools[i].Frozen && d.snap.Pools[i].Contains(a) {
					return reason.PoolInvalid
				}
			}
			return reason.AddressNotInPool
		}
		if !d.admits(p, s) {
			return reason.PoolNotAllowed
		}
	}
	return ""
}

func (s *dumbService) asks(f lb.Family) netip.Addr {
	for _, a := range s.Request.Addresses {
		if lb.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

func (d *dumb) keep(s *dumbService) {
	for i, a := range s.Assigned {
		if slices.Contains(s.Assigned[:i], a) {
			continue
		}
		h := d.origin(s, i)
		f := lb.FamilyOf(a)
		ok := h.addr.IsValid() && slices.Contains(s.families, f) && !s.has[f].addr.IsValid()
		if d.hopeless(s) == "" {
			ok = ok && (!s.asks(f).IsValid() || s.asks(f) == a)
			ok = ok && (s.Request.Pool == "" || s.Request.Pool == h.pool)
		}
		if ok && d.mayJoin(s, a, false) {
			s.has[f] = h
		} else {
			s.cleared = append(s.cleared, a)
		}
	}
}

func (d *dumb) origin(s *dumbService, i int) dumbAddress {
	a := s.Assigned[i]
	if p := d.home(a); p != nil && d.admits(p, s) {
		return dumbAddress{a, p.Name, false}
	}
	names := s.AssignedPools
	if len(names) == len(s.Assigned) {
		names = names[i : i+1]
	}
	for _, n := range names {
		if p := d.pool(n); p != nil && p.Frozen {
			return dumbAddress{a, n, true}
		}
	}
	frozen := false
	for _, p := range d.snap.Pools {
		if p.Frozen && p.Contains(a) {
			return dumbAddress{a, p.Name, true}
		}
		frozen = frozen || p.Frozen
	}
	if frozen && len(s.AssignedPools) == 0 {
		return dumbAddress{a, "", true}
	}
	return dumbAddress{}
}

// choice lists the pools that may serve s, in order.
func (d *dumb) choice(s *dumbService) []*lb.Pool {
	var out []*lb.Pool
	for i := range d.snap.Pools {
		p := &d.snap.Pools[i]
		switch {
		case p.Frozen || !d.admits(p, s):
		case s.Request.Pool == p.Name || (s.Request.Pool == "" && p.AutoAssign):
			out = append(out, p)
		}
	}
	order := func(p *lb.Pool) (int, int) {
		switch {
		case p.Pin == nil:
			return 2, 0
		case p.Pin.Priority == 0:
			return 1, 0
		}
		return 0, p.Pin.Priority
	}
	slices.SortFunc(out, func(a, b *lb.Pool) int {
		a1, a2 := order(a)
		b1, b2 := order(b)
		return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// lowest is the lower one of the lowest free address and the lowest that can be
// shared. Free ones that somebody may come back for count only if there is
// neither.
func (d *dumb) lowest(s *dumbService, p *lb.Pool, f lb.Family) netip.Addr {
	best := d.lowestFree(p, f)
	if best.IsValid() && !d.quotaAllows(s.Key.Namespace, p, best) {
		best = netip.Addr{}
	}
	last := best.IsValid() && d.isRemembered(best)
	for _, a := range addresses(p, f) {
		if d.had(a) && d.holder(a) == nil && d.mayJoin(s, a, true) && d.quotaAllows(s.Key.Namespace, p, a) && (!best.IsValid() || last || a.Less(best)) {
			best, last = a, false
		}
	}
	return best
}

func (s *dumbService) lacks() []lb.Family {
	return slices.DeleteFunc(slices.Clone(s.families), func(f lb.Family) bool { return s.has[f].addr.IsValid() })
}

func (d *dumb) give(s *dumbService) {
	lacks := s.lacks()
	if len(lacks) == 0 || d.hopeless(s) != "" {
		return
	}
	offers := d.offers(s, lacks)
	if s.FamilyPolicy == lb.RequireDualStack && len(offers) < len(lacks) && len(s.families) == 2 {
		return
	}
	for f, o := range offers {
		s.has[f] = o
	}
}

func (d *dumb) offers(s *dumbService, lacks []lb.Family) map[lb.Family]dumbAddress {
	out := map[lb.Family]dumbAddress{}
	if len(s.Request.Addresses) > 0 {
		for _, f := range lacks {
			a := s.asks(f)
			r := d.holder(a)
			if d.mayJoin(s, a, true) && (r == nil || r.admits(s)) && d.quotaAllows(s.Key.Namespace, d.home(a), a) {
				out[f] = dumbAddress{a, d.home(a).Name, false}
			}
		}
		return out
	}
	for _, f := range lacks {
		if o := d.own(s, f); o.addr.IsValid() {
			out[f] = o
		}
	}
	pools := d.choice(s)
	lacks = slices.DeleteFunc(slices.Clone(lacks), func(f lb.Family) bool { return out[f].addr.IsValid() })
	if len(lacks) == 2 {
		for _, p := range pools {
			a, b := d.lowest(s, p, lacks[0]), d.lowest(s, p, lacks[1])
			if a.IsValid() && b.IsValid() {
				return map[lb.Family]dumbAddress{lacks[0]: {a, p.Name, false}, lacks[1]: {b, p.Name, false}}
			}
		}
	} else if len(lacks) == 1 && len(s.families) == 2 {
		other := s.families[0]
		if other == lacks[0] {
			other = s.families[1]
		}
		near := func(p *lb.Pool) bool { return p.Name == cmp.Or(out[other].pool, s.has[other].pool) }
		pools = append(slices.DeleteFunc(slices.Clone(pools), func(p *lb.Pool) bool { return !near(p) }),
			slices.DeleteFunc(slices.Clone(pools), near)...)
	}
	for _, f := range lacks {
		for _, p := range pools {
			if a := d.lowest(s, p, f); a.IsValid() {
				out[f] = dumbAddress{a, p.Name, false}
				break
			}
		}
	}
	return out
}

// code is the reason of a Service that has all it wants.
func (d *dumb) code(s *dumbService) reason.Code {
	if s.Deleting {
		return reason.ServiceDeleting
	}
	if len(s.families) == 0 || len(s.lacks()) > 0 {
		return ""
	}
	if why := d.hopeless(s); why != "" {
		// It may still be content: what it asked for is what it has.
		for _, h := range s.has {
			if s.Request.Invalid != "" || why == reason.FamilyMismatch ||
				(s.Request.Pool != "" && s.Request.Pool != h.pool) ||
				(len(s.Request.Addresses) > 0 && !slices.Contains(s.Request.Addresses, h.addr)) {
				return ""
			}
		}
	}
	for _, h := range s.has {
		if h.frozen {
			return reason.AddressKept
		}
	}
	return reason.AddressAssigned
}
