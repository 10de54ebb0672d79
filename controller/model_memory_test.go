// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// What replicas know of Services that are gone. The model keeps its own record
// of that: what a replica has seen go, and what the last leader has stored.

// window is how long the controller remembers a Service that is gone.
const window = time.Minute

// departure is a Service that has gone.
type departure struct {
	addrs []netip.Addr
	at    time.Time // when the replica saw it
}

// deaf is a store that keeps nothing.
type deaf struct{}

func (deaf) Remembered() string         { return "" }
func (deaf) SetRemembered(string) error { return nil }
func (deaf) TrimRemembered(string)      {}

// departed is called when a Service leaves the cache of a replica.
func (r *replica) departed(w *world, s svc) {
	r.memory.Gone(s.obj, w.now)
	if has := assigned(s); len(has) > 0 {
		r.witness[s.in.key()] = departure{has, w.now}
	}
}

// inherits: r has become the holder of the journal, with what is stored in it.
func (r *replica) inherits(w *world) {
	if w.fence {
		return // it is not the same journal
	}
	for key, d := range w.stored {
		if _, ok := r.witness[key]; !ok {
			r.witness[key] = d
		}
	}
}

// knows returns what r knows of Services that are gone, and forgets those that
// are back and have an address.
func (r *replica) knows(services map[string]svc) map[string]departure {
	for key, s := range services {
		if len(assigned(s)) > 0 {
			delete(r.witness, key)
		}
	}
	return maps.Clone(r.witness)
}

// fresh reports whether a departure is certainly remembered: one that is told
// twice may be dated back by half of the window.
func (d departure) fresh(now time.Time) bool { return now.Before(d.at.Add(window / 2)) }

// checkComeback: a Service that is back has its address back, unless somebody
// else has needed it.
func (w *world) checkComeback(o *oracle) {
	for _, s := range o.ages {
		d, was := o.known[s.in.key()]
		if !was || !d.fresh(w.now) || o.decisions[s.in.key()] == nil || s.in.deleting || len(assigned(s)) > 0 {
			continue
		}
		got := o.decisions[s.in.key()].Addresses
		for _, a := range d.addrs {
			switch {
			case slices.Contains(got, a):
				w.seen["came back"]++
				if o.lower(s, a) {
					w.seen["came back although others were lower"]++
				}
			case o.denied(s, a, got):
				w.fail("%s does not get %s back, but %v", s.in.key(), a, got)
			}
		}
	}
	for _, s := range o.ages {
		w.checkNeed(o, s)
	}
}

// denied: s could have a, which it had, but has got something else.
func (o *oracle) denied(s svc, a netip.Addr, got []netip.Addr) bool {
	f := lb.FamilyOf(a)
	sibling := slices.IndexFunc(got, func(b netip.Addr) bool { return lb.FamilyOf(b) == f })
	if sibling < 0 || o.mine(s.in, got[sibling]) || !o.offered(s.in, a) || o.holder(a) != nil {
		return false // if it has got nothing, checkPlan looks why
	}
	others := func(t svc, _ netip.Addr) bool { return t.uid() != s.uid() }
	return o.room(s.in.ns, a, others) && !slices.ContainsFunc(o.ages, func(t svc) bool {
		return t.uid() != s.uid() && o.decided(t, a) && (!mayShare(t.in, s.in) || o.onlyKept(t, a))
	})
}

// lower reports whether s could have had a lower address of the same pool.
func (o *oracle) lower(s svc, a netip.Addr) bool {
	p, _ := o.valid(a)
	for n := range number(a) {
		b := address(lb.FamilyOf(a), n)
		if q, _ := o.valid(b); q == p && o.plainly(s.in, b) && o.free(b) {
			return true
		}
	}
	return false
}

// checkNeed: who takes what somebody else may come back for has no choice in
// that pool.
func (w *world) checkNeed(o *oracle, s svc) {
	d := o.decisions[s.in.key()]
	if d == nil || len(s.in.askAddrs) > 0 {
		return
	}
	for _, a := range d.Added {
		p, _ := o.valid(a)
		if o.holder(a) != nil || slices.Contains(o.known[s.in.key()].addrs, a) || slices.ContainsFunc(o.remembered, func(m lb.Remembered) bool {
			return m.Key == keyOf(s.in) && slices.Contains(m.Addresses, a)
		}) {
			continue
		}
		if !slices.ContainsFunc(values(o.known), func(d departure) bool { return d.fresh(w.now) && slices.Contains(d.addrs, a) }) {
			continue
		}
		if slices.ContainsFunc(o.ages, func(t svc) bool { return t.uid() != s.uid() && o.decided(t, a) }) {
			continue // shared
		}
		w.seen["needed by another"]++
		for n := range last + 1 {
			b := address(lb.FamilyOf(a), n)
			if q, _ := o.valid(b); q == p && p.gives(b) && o.free(b) && !slices.ContainsFunc(o.remembered, func(m lb.Remembered) bool { return slices.Contains(m.Addresses, b) }) {
				w.fail("%s takes %s, which somebody may come back for, although %s is free", s.in.key(), a, b)
			}
		}
	}
}

func conditionOf(kind string) func(metav1.Condition) bool {
	return func(c metav1.Condition) bool { return c.Type == kind }
}
