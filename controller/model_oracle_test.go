// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

// The oracle: the contract said again, dumbly, about intents. It answers
// questions about a reading (what a replica saw, or what is true now); it
// never makes a plan.

// oracle is the configuration of a reading.
type oracle struct {
	*reading
	frozen map[string]bool // pools that hand out nothing
	ages   []svc           // oldest first
	list   []pool          // oldest first
	anyBad bool            // one of them is frozen
	owners [2][last + 1]*pool

	holders map[netip.Addr]*resvIntent // who keeps an address after the plan
}

func newOracle(r *reading) *oracle {
	o := &oracle{reading: r, frozen: map[string]bool{}, ages: values(r.services), holders: map[netip.Addr]*resvIntent{}}
	slices.SortFunc(o.ages, older)
	o.list = values(r.pools)
	slices.SortFunc(o.list, func(a, b pool) int {
		return cmp.Or(a.obj.CreationTimestamp.Compare(b.obj.CreationTimestamp.Time), strings.Compare(a.in.name, b.in.name))
	})
	for _, h := range r.plan.Reservations {
		for _, a := range h.Addresses {
			o.holders[a.Address] = r.reservations[h.Key.String()].in
		}
	}
	var claimed []segment
	for i := range o.list {
		p := &o.list[i]
		clash := slices.ContainsFunc(p.in.segments, func(s segment) bool { return slices.ContainsFunc(claimed, s.overlaps) })
		if !clash {
			claimed = append(claimed, p.in.segments...)
		}
		if o.frozen[p.in.name] = clash || p.in.typo || p.in.deleting; o.frozen[p.in.name] {
			o.anyBad = true
			continue
		}
		for _, s := range p.in.segments {
			for n := s.from; n <= s.to; n++ {
				o.owners[row(s.family)][n] = p
			}
		}
	}
	return o
}

// row is the position of a family in owners.
func row(f lb.Family) int { return int(f-lb.IPv4) / 2 }

func older(a, b svc) int {
	return cmp.Or(a.obj.CreationTimestamp.Compare(b.obj.CreationTimestamp.Time), keyOf(a.in).Compare(keyOf(b.in)))
}

// assigned is what a Service shows.
func assigned(s svc) []netip.Addr {
	if s.obj == nil {
		return nil
	}
	var out []netip.Addr
	for _, i := range s.obj.Status.LoadBalancer.Ingress {
		out = append(out, netip.MustParseAddr(i.IP))
	}
	return out
}

func mayShare(a, b *svcIntent) bool {
	backend := func(s *svcIntent) string {
		if s.local {
			return s.selector
		}
		return ""
	}
	return a.sharing != "" && a.sharing == b.sharing && backend(a) == backend(b) &&
		!slices.ContainsFunc(a.ports, func(p lb.Port) bool { return slices.Contains(b.ports, p) })
}

func (o *oracle) namespace(s *svcIntent) *nsIntent { return o.namespaces[s.ns].in }

func (o *oracle) admits(p *poolIntent, s *svcIntent) bool { return p.admits(s, o.namespace(s)) }

// valid returns the pool in use that contains a.
func (o *oracle) valid(a netip.Addr) (*poolIntent, bool) {
	p := o.owners[row(lb.FamilyOf(a))][number(a)]
	if p == nil {
		return nil, false
	}
	return p.in, true
}

// frozenAt returns a frozen pool that contains a.
func (o *oracle) frozenAt(a netip.Addr) bool {
	return slices.ContainsFunc(o.list, func(p pool) bool { return o.frozen[p.in.name] && p.in.contains(a) })
}

// shields reports whether a Service keeps a because the configuration cannot
// be read properly: a frozen pool, or a namespace that is not known.
func (o *oracle) shields(s svc, a netip.Addr) bool {
	if len(o.pools) == 0 {
		return true
	}
	if o.unsure(s.in, a) {
		return true
	}
	named := from(s, a)
	return o.frozenAt(a) || (len(named) == 0 && o.anyBad) || slices.ContainsFunc(named, func(n string) bool { return o.frozen[n] })
}

// from returns the pools that a came from, by the annotation of s.
func from(s svc, a netip.Addr) []string {
	var named []string
	for name := range strings.SplitSeq(s.obj.Annotations[api.AnnotationAllocatedFromPool], ",") {
		if name != "" {
			named = append(named, name)
		}
	}
	have := assigned(s)
	if i := slices.Index(have, a); len(named) == len(have) && i >= 0 {
		named = named[i : i+1]
	}
	return named
}

// unsure reports whether the pool of a might be for s, depending on labels of
// a namespace that is not known.
func (o *oracle) unsure(s *svcIntent, a netip.Addr) bool {
	p, ok := o.valid(a)
	return ok && p.gives(a) && p.pin != nil && o.namespace(s) == nil && len(p.pin.nsTiers) > 0 && p.pin.selects(s)
}

// allows reports whether the configuration allows s to have a, whoever else
// has it.
func (o *oracle) allows(s *svcIntent, a netip.Addr) bool {
	p, ok := o.valid(a)
	return ok && p.gives(a) && o.admits(p, s) && slices.Contains(s.wants(), lb.FamilyOf(a))
}

// feasible reports whether the request can be met if nobody else is served.
func (o *oracle) feasible(s *svcIntent) bool {
	if s.invalid {
		return false
	}
	wants := s.wants()
	if s.askPool != "" {
		p, ok := o.pools[s.askPool]
		if !ok || o.frozen[s.askPool] || !o.admits(p.in, s) {
			return false
		}
		if len(s.askAddrs) == 0 && len(wants) > 0 {
			lacks := 0
			for _, f := range wants {
				if !hasAny(p.in, f) {
					lacks++
				}
			}
			return lacks < len(wants) && (lacks == 0 || s.policy != lb.RequireDualStack)
		}
	}
	if len(s.askAddrs) == 0 || len(wants) == 0 {
		return true
	}
	if len(s.askAddrs) != len(wants) {
		return false
	}
	for _, a := range s.askAddrs {
		p, _ := o.valid(a)
		if !o.allows(s, a) || (s.askPool != "" && p.name != s.askPool) {
			return false
		}
	}
	return true
}

// hasAny reports whether the pool has addresses of the family at all.
func hasAny(p *poolIntent, f lb.Family) bool {
	for n := range last + 1 {
		if p.gives(address(f, n)) {
			return true
		}
	}
	return false
}

// last is the highest number of an address in the model.
const last = 19

// offered reports whether s could be given a if nobody had it.
func (o *oracle) offered(s *svcIntent, a netip.Addr) bool {
	return o.plainly(s, a) || (o.mine(s, a) && len(s.askAddrs) == 0 && s.askPool == "" && o.feasible(s) && o.allows(s, a))
}

// plainly is offered without reservations.
func (o *oracle) plainly(s *svcIntent, a netip.Addr) bool {
	if !o.allows(s, a) || !o.feasible(s) {
		return false
	}
	p, _ := o.valid(a)
	switch {
	case len(s.askAddrs) > 0:
		return slices.Contains(s.askAddrs, a)
	case s.askPool != "":
		return p.name == s.askPool
	}
	return !p.manual
}

// mayTake reports whether a decision that takes a from s is right.
func (o *oracle) mayTake(s svc, a netip.Addr) bool {
	have := assigned(s)
	twin := slices.ContainsFunc(have, func(b netip.Addr) bool { return b != a && b.Is4() == a.Is4() })
	switch {
	case len(o.pools) == 0:
		return false
	case !slices.Contains(s.in.wants(), lb.FamilyOf(a)) || twin:
		return true
	case !o.allows(s.in, a) && !o.shields(s, a):
		return true
	case o.feasible(s.in) && len(s.in.askAddrs) > 0 && !slices.Contains(s.in.askAddrs, a):
		return true
	case o.feasible(s.in) && s.in.askPool != "" && !o.pools[s.in.askPool].in.gives(a):
		return true
	}
	return slices.ContainsFunc(o.ages, func(t svc) bool {
		return older(t, s) < 0 && o.decided(t, a) && slices.Contains(assigned(t), a) && !mayShare(t.in, s.in)
	})
}

// decided reports whether the plan lets t have a.
func (o *oracle) decided(t svc, a netip.Addr) bool {
	d := o.decisions[t.in.key()]
	return d != nil && slices.Contains(d.Addresses, a)
}

// could returns an address of the family that s could be given, if only the
// Services that satisfy before had what the plan lets them have.
func (o *oracle) could(s svc, f lb.Family, before func(t svc, a netip.Addr) bool) (netip.Addr, bool) {
	if !slices.Contains(s.in.wants(), f) || !o.feasible(s.in) {
		return netip.Addr{}, false
	}
	for n := range last + 1 {
		a := address(f, n)
		if o.offered(s.in, a) && !o.promised(s.in, a) && o.room(s.in.ns, a, before) && !slices.ContainsFunc(o.ages, func(t svc) bool {
			return t.uid() != s.uid() && o.decided(t, a) && before(t, a) && (!mayShare(t.in, s.in) || o.onlyKept(t, a))
		}) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// onlyKept reports whether t has a because of a frozen pool: nobody may join.
func (o *oracle) onlyKept(t svc, a netip.Addr) bool {
	if !o.allows(t.in, a) && !o.unsure(t.in, a) && !t.in.deleting { // which keeps all
		return true
	}
	if p, ok := o.valid(a); ok && p.name == t.in.askPool {
		return false // it has what it asks for
	}
	return slices.Contains(assigned(t), a) && slices.ContainsFunc(from(t, a), func(name string) bool {
		return o.frozen[name] && o.pools[name].in.contains(a)
	})
}
