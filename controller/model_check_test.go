// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// What must hold. A plan and a write are judged against what the replica saw
// when it decided; a settled cluster is judged against what is true.

// checkPlan: nobody goes without an address that it could have, except for one
// that an older Service has got or that somebody keeps.
func (w *world) checkPlan(r *reading) {
	r.oracle = newOracle(r)
	for _, s := range r.oracle.ages {
		d := r.decisions[s.in.key()]
		if d == nil || s.in.deleting || !s.in.balancer {
			if d == nil && s.in.balancer && !s.in.foreign && !s.in.deleting {
				w.fail("no decision for %s", s.in.key())
			}
			continue
		}
		if s.in.foreign {
			w.fail("a decision for %s, which is of another class", s.in.key())
		}
		var missing []lb.Family
		for _, f := range s.in.wants() {
			if !slices.ContainsFunc(d.Addresses, func(a netip.Addr) bool { return lb.FamilyOf(a) == f }) {
				missing = append(missing, f)
			}
		}
		if a := r.oracle.starved(s, missing); a.IsValid() {
			w.fail("%s has no %v address (%s: %s), but could have had %s before younger Services", s.in.key(), missing, d.Reason.Code, d.Reason.Text, a)
		}
	}
}

// starved returns an address that s could have of a missing family if younger
// Services got nothing new; with RequireDualStack only if it could have both.
func (o *oracle) starved(s svc, missing []lb.Family) netip.Addr {
	before := func(t svc, a netip.Addr) bool {
		return slices.Contains(assigned(t), a) || older(t, s) < 0
	}
	all := s.in.policy == lb.RequireDualStack && len(s.in.wants()) == 2
	var found netip.Addr
	for _, f := range missing {
		a, ok := o.could(s, f, before)
		if !ok && all {
			return netip.Addr{}
		}
		if ok {
			found = a
		}
	}
	return found
}

// checkWrite judges a write that has just been carried out, decided on r.
func (w *world) checkWrite(r *reading, before, after svc) {
	o := r.oracle
	seen := r.services[after.in.key()]
	had, has := assigned(before), assigned(after)
	for _, a := range had {
		if !slices.Contains(has, a) && !o.mayTake(seen, a) {
			w.fail("%s loses %s, which the configuration allows", after.in.key(), a)
		}
	}
	for _, a := range has {
		if slices.Contains(had, a) {
			continue
		}
		w.checkPromises(o, seen, a)
		if !o.offered(seen.in, a) {
			w.fail("%s gets %s, which the configuration does not offer it", after.in.key(), a)
		}
		for _, t := range w.services.sorted() {
			if t.in.key() != after.in.key() && slices.Contains(assigned(t), a) {
				w.checkSecond(r, seen, t, a)
			}
		}
	}
	if find(before, announced) != find(after, announced) {
		w.fail("%s: the condition of the speakers was touched", after.in.key())
	}
}

// checkSecond: s has been given a, which t has. That is right only if the
// replica knew, and the two may share it as far as it knew.
func (w *world) checkSecond(r *reading, s, t svc, a netip.Addr) {
	seen, ok := r.services[t.in.key()]
	switch {
	case !ok || seen.uid() != t.uid():
		w.fail("%s given twice: to %s while %s has it, of which the replica does not know", a, s.in.key(), t.in.key())
	case !slices.Contains(assigned(seen), a) && !r.oracle.decided(t, a):
		w.fail("%s given twice: to %s while %s has it, which the replica does not know", a, s.in.key(), t.in.key())
	case !r.oracle.decided(t, a):
		w.fail("%s given twice: to %s before it has been taken from %s", a, s.in.key(), t.in.key())
	case !mayShare(s.in, seen.in):
		w.fail("%s given twice: to %s and to %s, which may not share it", a, s.in.key(), t.in.key())
	case r.oracle.onlyKept(seen, a):
		w.fail("%s given twice: to %s, although %s only keeps it from a frozen pool", a, s.in.key(), t.in.key())
	}
}

// checkSettled judges a cluster in which the controller has nothing to do: r is
// what it saw last.
func (w *world) checkSettled(r *reading) {
	o := r.oracle
	all := w.services.sorted()
	for i, s := range all {
		seen, ok := r.services[s.in.key()]
		switch {
		case !s.in.balancer:
			if len(assigned(s)) > 0 || find(s, api.ConditionAllocated) != (metav1.Condition{}) || s.obj.Annotations[api.AnnotationAllocatedFromPool] != "" {
				w.fail("%s is no load balancer, but something is left on it: %v %v", s.in.key(), s.obj.Annotations, s.obj.Status)
			}
			continue
		case !ok || seen.version() != s.version():
			w.fail("%s has not been seen as it is", s.in.key())
			continue
		case s.in.foreign:
			if len(s.obj.Status.LoadBalancer.Ingress)+len(s.obj.Status.Conditions) > 0 {
				w.fail("%s is of another class, but was written to", s.in.key())
			}
			continue
		}
		w.checkHeld(o, s, all[i+1:])
		if !s.in.deleting {
			w.checkReason(o, s)
		}
	}
	for _, v := range w.reservations.sorted() {
		w.checkReservation(o, v)
	}
	w.countSpent(o)
}

// checkHeld: without any pool nothing is taken from anybody, even if users make
// two Services stop sharing then; once there is a pool it is put right. From one
// that is being deleted nothing is taken either.
func (w *world) checkHeld(o *oracle, s svc, others []svc) {
	if len(o.pools) == 0 {
		return
	}
	for _, a := range assigned(s) {
		if !o.allows(s.in, a) && !o.shields(s, a) && !s.in.deleting {
			w.fail("%s has %s, which the configuration does not allow", s.in.key(), a)
		}
		for _, t := range others {
			if slices.Contains(assigned(t), a) && !mayShare(s.in, t.in) && !s.in.deleting && !t.in.deleting {
				w.fail("%s and %s both have %s and may not share it", s.in.key(), t.in.key(), a)
			}
		}
	}
}

// find returns the condition of that type, without its time.
func find(s svc, kind string) metav1.Condition {
	for _, c := range s.obj.Status.Conditions {
		if c.Type == kind {
			c.LastTransitionTime = metav1.Time{}
			return c
		}
	}
	return metav1.Condition{}
}

// checkReason: exactly one, true, and in agreement with what the Service has.
func (w *world) checkReason(o *oracle, s svc) {
	count := 0
	for _, c := range s.obj.Status.Conditions {
		if c.Type == api.ConditionAllocated {
			count++
		}
	}
	c := find(s, api.ConditionAllocated)
	code := reason.Code(c.Reason)
	if count != 1 || c.Message == "" {
		w.fail("%s has %d reasons: %q %q", s.in.key(), count, code, c.Message)
		return
	}
	w.seen[string(code)]++
	if !o.holds(s, code) {
		w.fail("%s: the reason %s is not true: %s", s.in.key(), code, c.Message)
	}
	if have := len(assigned(s)); (c.Status == metav1.ConditionTrue) != good(code) || (good(code) && have == 0) {
		w.fail("%s: %s is %s, with %d addresses", s.in.key(), code, c.Status, have)
	}
	for _, a := range assigned(s) {
		if !strings.Contains(c.Message, a.String()) {
			w.fail("%s: the reason does not name the address %s: %s", s.in.key(), a, c.Message)
		}
	}
}

func good(code reason.Code) bool {
	return code == reason.AddressAssigned || code == reason.AddressKept || code == reason.SecondFamilyMissing
}

// holds reports whether what the reason says is so. Each reason is judged by
// itself; that it is the most useful of several true ones is for the text
// cases of ipam to say.
func (o *oracle) holds(s svc, code reason.Code) bool {
	in, have, wants := s.in, assigned(s), s.in.wants()
	lacks := func(f lb.Family) bool {
		return !slices.ContainsFunc(have, func(a netip.Addr) bool { return lb.FamilyOf(a) == f })
	}
	anyAsked := func(ok func(a netip.Addr) bool) bool { return slices.ContainsFunc(in.askAddrs, ok) }
	switch code {
	case reason.AddressAssigned:
		return len(have) == len(wants) && !slices.ContainsFunc(have, func(a netip.Addr) bool { return !o.allows(in, a) && !o.unsure(in, a) })
	case reason.AddressKept:
		return len(have) > 0 && slices.ContainsFunc(have, func(a netip.Addr) bool { return o.shields(s, a) })
	case reason.SecondFamilyMissing:
		return len(have) == 1 && len(wants) == 2 && in.policy == lb.PreferDualStack
	case reason.NoPools:
		return len(o.pools) == 0
	case reason.HeadlessService:
		return in.headless
	case reason.InvalidRequest:
		return in.invalid
	case reason.FamilyMismatch:
		return len(in.askAddrs) != len(wants) || anyAsked(func(a netip.Addr) bool { return !slices.Contains(wants, lb.FamilyOf(a)) })
	case reason.UnknownPool:
		return in.askPool != "" && o.pools[in.askPool].in == nil
	case reason.PoolNotAllowed:
		return o.notFor(s)
	case reason.PoolInvalid:
		return o.frozen[in.askPool] || anyAsked(o.frozenAt)
	case reason.AddressNotInPool:
		return anyAsked(func(a netip.Addr) bool {
			p, ok := o.valid(a)
			return !ok || !p.gives(a) || (in.askPool != "" && p.name != in.askPool)
		})
	case reason.AddressInUse, reason.SharingRefused:
		return anyAsked(func(a netip.Addr) bool { return lacks(lb.FamilyOf(a)) && o.blocked(s, a, code) })
	case reason.AddressReserved:
		return anyAsked(func(a netip.Addr) bool { return lacks(lb.FamilyOf(a)) && o.promised(in, a) })
	case reason.QuotaExceeded:
		return slices.ContainsFunc(wants, func(f lb.Family) bool { return lacks(f) && o.overQuota(in, f) })
	case reason.NoPoolFits:
		return !slices.ContainsFunc(wants, func(f lb.Family) bool { return lacks(f) && o.served(in, f) })
	case reason.PoolsExhausted:
		return slices.ContainsFunc(wants, func(f lb.Family) bool { return lacks(f) && o.served(in, f) })
	case reason.DualStackUnavailable:
		return in.policy == lb.RequireDualStack && len(wants) == 2 && (len(have) < 2 || o.halfPool(in))
	}
	return false
}

// halfPool: s asks for a pool that has not both of its families, and keeps
// what it has.
func (o *oracle) halfPool(s *svcIntent) bool {
	p := o.pools[s.askPool].in
	return p != nil && slices.ContainsFunc(s.wants(), func(f lb.Family) bool { return !hasAny(p, f) })
}

// notFor: a pool that s asks for, by name or address, is not for it.
func (o *oracle) notFor(s svc) bool {
	if p := o.pools[s.in.askPool].in; p != nil && !o.admits(p, s.in) {
		return true
	}
	return slices.ContainsFunc(s.in.askAddrs, func(a netip.Addr) bool {
		p, ok := o.valid(a)
		return ok && !o.admits(p, s.in)
	})
}

// blocked: another Service has a and does not share it at all (AddressInUse),
// or not with s (SharingRefused).
func (o *oracle) blocked(s svc, a netip.Addr, code reason.Code) bool {
	return slices.ContainsFunc(o.ages, func(t svc) bool {
		if t.uid() == s.uid() || !slices.Contains(assigned(t), a) {
			return false
		}
		if code == reason.AddressInUse {
			return t.in.sharing == "" || o.onlyKept(t, a)
		}
		return t.in.sharing != "" && !mayShare(s.in, t.in)
	})
}

// served reports whether a pool that s may use has addresses of the family.
func (o *oracle) served(s *svcIntent, f lb.Family) bool {
	for n := range last + 1 {
		if o.plainly(s, address(f, n)) {
			return true
		}
	}
	return false
}
