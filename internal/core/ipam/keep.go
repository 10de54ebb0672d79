// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"slices"
)

const headless = "the Service has no ClusterIP"

// keep goes through what w has been assigned before and takes away what the
// configuration does not allow. Older Services have been here already: of two
// that cannot share an address, the older one keeps it.
func (p *planner) keep(w *work) {
	if w.svc.Deleting {
		p.keepAll(w)
		return
	}
	for i, a := range w.svc.Assigned {
		if slices.Contains(w.svc.Assigned[:i], a) {
			continue // listed twice
		}
		h, why := p.home(w, i)
		if why == "" {
			why = w.outgrown(h)
		}
		if s := p.ledger.slots[a]; why == "" && s != nil {
			if r := s.refuses(w); r.code != "" {
				why = fmt.Sprintf("the older Service %s, which has it too, %s", r.by.svc.Key, r.why)
			}
		}
		if why != "" {
			w.cleared = append(w.cleared, Cleared{Address: a, Why: bound(why)})
			continue
		}
		w.have[familyOf(a)] = h
		p.ledger.take(w, a, h.home, h.frozen)
	}
}

// keepAll notes what a Service has that is being deleted: all of it, whatever
// the configuration says. It cannot be told of a change any more, and until its
// finalizers are done, others may still send traffic to it.
func (p *planner) keepAll(w *work) {
	for i, a := range w.svc.Assigned {
		if !a.IsValid() || slices.Contains(w.svc.Assigned[:i], a) {
			continue
		}
		h := p.lastHome(w, i)
		if h.home != nil && !slices.Contains(w.homes, h.home) {
			w.homes = append(w.homes, h.home)
		}
		if s := p.ledger.slots[a]; s != nil && s.refuses(w).code != "" {
			s.clash = w
			h.home.charge(w.ns, a) // it has it all the same
			continue
		}
		p.ledger.take(w, a, h.home, h.frozen)
	}
}

// lastHome is home for a Service that is being deleted, whose annotation is not written any more: the pool that it names, if that has
// the address still.
func (p *planner) lastHome(w *work, i int) held {
	a := w.svc.Assigned[i]
	for _, name := range w.annotated(i) {
		if x := p.pools.byName[name]; x != nil && x.space[familyOf(a)].contains(a) {
			return held{addr: a, home: x, frozen: x.frozen}
		}
	}
	h, _ := p.home(w, i)
	if h.home == nil {
		h.home = p.pools.poolOf(a)
	}
	return h
}

// home finds the pool that the i-th assigned address belongs to, or says why
// there is none. An address stays in the frozen pool that it was given from,
// unless the Service asks for another pool that contains it. Else pools that
// can be used come first; then frozen ones again, from which nothing is taken:
// the one that the annotation names (its ranges may be unreadable), one that
// contains the address, or, if the annotation is not there, any.
func (p *planner) home(w *work, i int) (held, string) {
	a := w.svc.Assigned[i]
	in := p.pools.poolOf(a)
	if in != nil && in == w.ask.pool && !in.leavesOut(a) {
		return held{addr: a, home: in}, "" // it has what it asks for
	}
	for _, name := range w.annotated(i) {
		// Not even a pool that has grown over the frozen one takes it: the
		// mistake may be in either of them.
		if x := p.pools.byName[name]; x != nil && x.frozen && x.space[familyOf(a)].contains(a) {
			return held{addr: a, home: x, frozen: true}, ""
		}
	}
	if in != nil && !in.leavesOut(a) && in.keeps(w.ns, w.svc.Labels) {
		return held{addr: a, home: in}, ""
	}
	for _, name := range w.annotated(i) {
		if x := p.pools.byName[name]; x != nil && x.frozen {
			return held{addr: a, home: x, frozen: true}, ""
		}
	}
	if x := p.pools.frozenAt(a); x != nil {
		return held{addr: a, home: x, frozen: true}, ""
	}
	switch {
	case len(w.svc.AssignedPools) == 0 && len(p.pools.frozen) > 0:
		return held{addr: a, frozen: true}, ""
	case in == nil:
		return held{}, "no pool contains it"
	case in.leavesOut(a):
		return held{}, in.skips(a)
	}
	return held{}, in.only()
}

// annotated returns the pools that the i-th address came from, according to
// the annotation: one name for each address, or names for all of them.
func (w *work) annotated(i int) []string {
	pools := w.svc.AssignedPools
	if len(pools) == len(w.svc.Assigned) {
		return pools[i : i+1]
	}
	return pools
}

// outgrown says why the Service itself does not want an address any longer.
func (w *work) outgrown(h held) string {
	f := familyOf(h.addr)
	switch {
	case w.want.n == 0:
		return headless
	case !w.want.has(f):
		return fmt.Sprintf("the Service has no %s family", f)
	case w.have[f].addr.IsValid():
		return fmt.Sprintf("the Service has the %s address %s already", f, w.have[f].addr)
	case w.ask.refused():
		return ""
	case w.ask.addrs[f].IsValid() && w.ask.addrs[f] != h.addr:
		return fmt.Sprintf("the Service asks for %s", w.ask.addrs[f])
	case w.ask.pool != nil && w.ask.pool != h.home:
		return fmt.Sprintf("the Service asks for pool %q", w.ask.pool.Name)
	}
	return ""
}
