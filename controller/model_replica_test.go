// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/controller"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// A replica of the controller in the model: the pure chain of the product
// between a cache that lags and a writer that is slow and meets errors.

// cache is one kind as a replica sees it: some prefix of the events, and its
// own writes on top until the events have caught up (internal/kube's overlay).
type cache[T versioned] struct {
	at   int // events seen
	have map[string]T
	own  map[types.UID]T
	left func(T) // called when an object is gone; nil: nobody cares
}

// see takes up to n more events.
func (c *cache[T]) see(t *table[T], n int) {
	if c.have == nil {
		c.have = map[string]T{}
	}
	for ; n > 0 && c.at < len(t.log); n-- {
		e := t.log[c.at]
		c.at++
		if e.gone {
			if _, had := c.have[e.key]; had && c.left != nil {
				c.left(e.val)
			}
			delete(c.have, e.key)
		} else {
			c.have[e.key] = e.val
		}
	}
}

func (c *cache[T]) behind(t *table[T]) int { return len(t.log) - c.at }

func (c *cache[T]) remember(v T) {
	if c.own == nil {
		c.own = map[types.UID]T{}
	}
	c.own[v.uid()] = v
}

// read returns the objects by key, the newer of cached and own.
func (c *cache[T]) read() map[string]T {
	out := make(map[string]T, len(c.have))
	kept := map[types.UID]T{}
	for key, v := range c.have {
		if o, ok := c.own[v.uid()]; ok && o.version() > v.version() {
			v, kept[v.uid()] = o, o
		}
		out[key] = v
	}
	c.own = kept
	return out
}

// reading is what a plan was made from, and the plan.
type reading struct {
	services   map[string]svc
	pools      map[string]pool
	namespaces map[string]nsp
	// reservations and what follows is about Services that are not there.
	reservations map[string]resv
	remembered   []lb.Remembered
	known        map[string]departure

	decisions map[string]*ipam.Decision
	plan      ipam.Result
	oracle    *oracle
}

func (r *reading) objects(states map[string]stat) snapshot.Objects {
	var o snapshot.Objects
	for _, s := range values(r.services) {
		o.Services = append(o.Services, s.obj)
	}
	for _, p := range values(r.pools) {
		o.Pools = append(o.Pools, p.obj)
	}
	for _, n := range values(r.namespaces) {
		o.Namespaces = append(o.Namespaces, n.obj)
	}
	for _, v := range values(r.reservations) {
		o.Reservations = append(o.Reservations, v.obj)
	}
	for _, s := range values(states) {
		o.ConfigurationStates = append(o.ConfigurationStates, s.obj)
	}
	return o
}

type replica struct {
	name       string
	services   cache[svc]
	pools      cache[pool]
	namespaces cache[nsp]
	states     cache[stat]

	reservations cache[resv]
	memory       controller.Memory
	witness      map[string]departure // Services that it knows to be gone
	told         map[string]departure // what it would store

	leads    bool // as far as it knows
	journal  *journal.Journal
	store    *journalStore
	caughtUp bool
	lost     bool // it does not lead any more, and knows

	built snapshot.Memo
	shown status.Memo

	basis    *reading
	pending  []status.Write
	recorded bool           // the journal knows of pending
	waiting  map[string]int // rounds that an object is left alone after an error
}

// parallel is how many writes are under way at once.
const parallel = 16

// newReplica is a started program: its first lists are complete.
func newReplica(name string, w *world) *replica {
	r := &replica{name: name, waiting: map[string]int{}}
	r.store = &journalStore{world: w, where: "everybody's "}
	if w.fence {
		r.store.where = fmt.Sprint("start ", w.starts, " ")
	}
	r.journal = journal.New(r.store, home, fmt.Sprint("start ", w.starts), slog.New(slog.DiscardHandler))
	r.memory, r.witness = controller.NewMemory(window, r.journal, slog.New(slog.DiscardHandler)), map[string]departure{}
	if w.store {
		r.memory = controller.NewMemory(window, deaf{}, slog.New(slog.DiscardHandler))
	}
	r.catchUp(&w.apiServer)
	r.services.left = func(s svc) { r.departed(w, s) }
	return r
}

func (r *replica) catchUp(a *apiServer) {
	r.services.see(&a.services, r.services.behind(&a.services))
	r.pools.see(&a.pools, r.pools.behind(&a.pools))
	r.namespaces.see(&a.namespaces, r.namespaces.behind(&a.namespaces))
	r.states.see(&a.states, r.states.behind(&a.states))
	r.reservations.see(&a.reservations, r.reservations.behind(&a.reservations))
}

// takeOver makes one step on the way to the first plan, as kube.Writer.TakeOver
// and kube.Cluster.CatchUp do, and reports whether there was one.
func (r *replica) takeOver(w *world, d dice) bool {
	switch {
	case r.caughtUp:
		return false
	case !r.journal.Taken():
		r.store.fate = w.fate(d)
		if err := r.journal.Take(context.Background()); err == nil {
			w.tell("%s has the journal, with %d writes", r.name, len(r.journal.Open()))
			r.inherits(w)
			for _, e := range r.journal.Open() {
				if w.forget {
					r.journal.Close(e.UID, e.Version)
				}
			}
		}
	default:
		if !w.without.catchUp {
			r.catchUp(&w.apiServer)
		}
		r.caughtUp = true
	}
	return true
}

// look finds out what has become of writes that were not answered, as
// kube.Writer.Settle does.
func (r *replica) look(w *world) {
	for _, e := range r.journal.Open() {
		if w.without.look {
			r.journal.Close(e.UID, e.Version)
			continue
		}
		live, ok := w.services.live[e.Key().String()]
		if ok && e.MayReach(live.uid(), live.obj.ResourceVersion) {
			continue
		}
		r.journal.Close(e.UID, e.Version)
		if ok && live.uid() == e.UID {
			r.services.remember(live)
		}
	}
}

// decide plans from what the replica sees. most bounds the writes of a round.
func (r *replica) decide(w *world, most int, d dice) {
	if len(r.pending) > 0 || r.lost || r.takeOver(w, d) {
		return // a round ends before the next one begins
	}
	var open []status.Underway
	if r.journal != nil {
		r.look(w)
		for _, e := range r.journal.Open() {
			open = append(open, status.Underway{Namespace: e.Namespace, UID: e.UID, Version: e.Version, Addresses: e.Addresses})
		}
	}
	b := &reading{services: r.services.read(), pools: r.pools.read(), namespaces: r.namespaces.read(), reservations: r.reservations.read(), decisions: map[string]*ipam.Decision{}}
	states := r.states.read()
	objs := b.objects(states)
	b.remembered, b.known = r.memory.Recall(objs.Services, w.now), r.knows(b.services)
	from := snapshot.Options{Namespace: home, Remembered: b.remembered, Memo: &r.built}
	snap, problems := snapshot.Build(objs, from)
	w.spoil(&snap)
	b.plan = ipam.Plan(snap)
	for i := range b.plan.Services {
		d := &b.plan.Services[i]
		b.decisions[d.Key.String()] = d
	}
	w.checkPlan(b)
	w.checkReserving(b.oracle)
	w.checkQuotas(b.oracle)
	w.checkComeback(b.oracle)
	opt := status.ControllerOptions{Namespace: home, Now: w.now, Underway: open, Memo: &r.shown}
	sorted := objs
	sorted.Services = r.built.ByKey()
	writes := status.Controller(sorted, w.impatient(b.plan), problems, opt)
	w.checkMemo(objs, from, opt, snap, writes)
	for _, write := range writes {
		id := objectID(&write)
		if r.waiting[id] > 0 {
			r.waiting[id]--
			continue
		}
		r.pending = append(r.pending, write)
	}
	r.pending = r.pending[:min(most, len(r.pending))]
	r.basis, r.recorded, r.told = b, false, maps.Clone(b.known)
	if len(r.pending) == 0 && r.journal != nil {
		r.record(w, w.fate(d)) // what is to be remembered
	}
	for i := range r.pending {
		w.bases[string(r.pending[i].Patch)] = b
	}
}

// impatient takes from a plan what the writer shall not know.
func (w *world) impatient(plan ipam.Result) ipam.Result {
	if !w.patience {
		return plan
	}
	plan.Pools = slices.Clone(plan.Pools)
	for i := range plan.Pools {
		plan.Pools[i].Quotas = nil
	}
	return plan
}

// spoil takes from a snapshot what the planner shall not know.
func (w *world) spoil(snap *lb.Snapshot) {
	if w.memory {
		snap.Remembered = nil
	}
	if w.reserve {
		snap.Reservations = nil
	}
	for i := range snap.Reservations {
		if w.record {
			snap.Reservations[i].Held = nil
		}
		if w.whom {
			snap.Reservations[i].Services, snap.Reservations[i].ServiceSelectors = nil, nil
		}
	}
	for i := range snap.Pools {
		if w.quotas {
			snap.Pools[i].Quotas = nil
		}
	}
}

func objectID(w *status.Write) string {
	return fmt.Sprintf("%T %s/%s", w.Object, w.Object.GetNamespace(), w.Object.GetName())
}

// record puts the round into the journal and reports whether that took a
// request.
func (r *replica) record(w *world, f fate) bool {
	r.recorded = true
	before := r.store.requests
	r.store.fate = f
	err := r.journal.Commit(context.Background(), r.pending)
	if err == nil {
		switch err = r.journal.Store(context.Background()); {
		case err == nil:
			w.stored = maps.Clone(r.told)
		case !errors.Is(err, journal.ErrLost):
			err = nil // addresses do not depend on it
			// Whether it is stored or what was before, nobody knows.
			maps.DeleteFunc(w.stored, func(key string, d departure) bool { return !r.told[key].at.Equal(d.at) })
		}
	}
	r.store.fate = arrives
	switch {
	case err == nil:
	case errors.Is(err, journal.ErrLost):
		r.lost, r.pending = true, nil
	default:
		r.pending = slices.DeleteFunc(r.pending, func(x status.Write) bool { return x.Moves })
	}
	return r.store.requests > before
}

// write carries out one of the requests under way.
func (r *replica) write(w *world, pick int, f fate) {
	if len(r.pending) == 0 || (!r.recorded && r.record(w, f)) || len(r.pending) == 0 {
		return
	}
	i := pick % min(parallel, len(r.pending))
	write := r.pending[i]
	r.pending = slices.Delete(slices.Clone(r.pending), i, i+1)
	switch obj := write.Object.(type) {
	case *corev1.Service:
		after, err := w.carryOut(r, &write, f)
		if err == nil {
			r.services.remember(after)
		}
		switch { // as kube.Writer does
		case !write.Moves:
		case err == nil, errors.Is(err, errNotFound):
			r.journal.Close(obj.UID, obj.ResourceVersion)
		case errors.Is(err, errRefused):
			r.journal.Refused(&write)
		}
		r.answered(w, &write, pick, err)
	case *v1beta1.IPAddressPool:
		r.answered(w, &write, pick, unimportant(f, func() error {
			after, err := w.patchPool(&write)
			if err == nil && f == arrives {
				r.pools.remember(after)
			}
			return err
		}))
	case *v1alpha1.IPReservation:
		r.answered(w, &write, pick, r.writeReservation(w, &write, f))
	case *v1beta1.ConfigurationState:
		r.answered(w, &write, pick, unimportant(f, func() error {
			after, err := w.patchState(&write)
			if err == nil && f == arrives {
				r.states.remember(after)
			}
			return err
		}))
	default:
		w.fail("unexpected write to %T", obj)
	}
}

// unimportant is a request that moves no address.
func unimportant(f fate, do func() error) error {
	switch f {
	case arrives:
		return do()
	case lost:
		_ = do()
		return errUnknown
	}
	return errRefused
}

func (r *replica) answered(w *world, write *status.Write, pick int, err error) {
	switch {
	case err == nil:
	case errors.Is(err, errConflict), errors.Is(err, errNotFound), errors.Is(err, errRefused), errors.Is(err, errUnknown):
		r.waiting[objectID(write)] = pick % 4
	default:
		w.fail("%s: %v", r.name, err)
	}
}
