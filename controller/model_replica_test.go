// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
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
	decisions  map[string]*ipam.Decision
	plan       ipam.Result
	oracle     *oracle
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

	basis   *reading
	pending []status.Write
	waiting map[string]int // rounds that an object is left alone after an error
}

// parallel is how many writes are under way at once.
const parallel = 16

// newReplica is a started program: its first lists are complete.
func newReplica(name string, a *apiServer) *replica {
	r := &replica{name: name, waiting: map[string]int{}}
	r.catchUp(a)
	return r
}

func (r *replica) catchUp(a *apiServer) {
	r.services.see(&a.services, r.services.behind(&a.services))
	r.pools.see(&a.pools, r.pools.behind(&a.pools))
	r.namespaces.see(&a.namespaces, r.namespaces.behind(&a.namespaces))
	r.states.see(&a.states, r.states.behind(&a.states))
}

// decide plans from what the replica sees. most bounds the writes of a round.
func (r *replica) decide(w *world, most int) {
	if len(r.pending) > 0 {
		return // a round ends before the next one begins
	}
	b := &reading{services: r.services.read(), pools: r.pools.read(), namespaces: r.namespaces.read(), decisions: map[string]*ipam.Decision{}}
	states := r.states.read()
	objs := b.objects(states)
	snap, problems := snapshot.Build(objs, snapshot.Options{Namespace: home})
	b.plan = ipam.Plan(snap)
	for i := range b.plan.Services {
		d := &b.plan.Services[i]
		b.decisions[d.Key.String()] = d
	}
	w.checkPlan(b)
	plan := b.plan
	if w.takeFirst {
		plan = takeFirst(b)
	}
	for _, write := range status.Controller(objs, plan, problems, status.ControllerOptions{Namespace: home, Now: w.now}) {
		id := objectID(&write)
		if r.waiting[id] > 0 {
			r.waiting[id]--
			continue
		}
		r.pending = append(r.pending, write)
	}
	r.pending = r.pending[:min(most, len(r.pending))]
	r.basis = b
}

func objectID(w *status.Write) string {
	return fmt.Sprintf("%T %s/%s", w.Object, w.Object.GetNamespace(), w.Object.GetName())
}

// fate is what happens to a request on its way.
type fate int

const (
	arrives fate = iota
	refused      // never carried out
	lost         // carried out, but the program does not learn of it
)

// write carries out one of the requests under way.
func (r *replica) write(w *world, pick int, f fate) {
	if len(r.pending) == 0 {
		return
	}
	i := pick % min(parallel, len(r.pending))
	write := r.pending[i]
	r.pending = slices.Delete(slices.Clone(r.pending), i, i+1)
	err := errRefused
	if f != refused {
		err = r.send(w, &write, f == lost)
	}
	switch {
	case err == nil:
	case errors.Is(err, errConflict), errors.Is(err, errNotFound), errors.Is(err, errRefused), errors.Is(err, errLost):
		r.waiting[objectID(&write)] = pick % 4
	default:
		w.fail("%s: %v", r.name, err)
	}
}

// send is a request and its answer.
func (r *replica) send(w *world, write *status.Write, lose bool) error {
	var err error
	learn := func() {}
	switch obj := write.Object.(type) {
	case *corev1.Service:
		key := obj.Namespace + "/" + obj.Name
		before := w.services.live[key]
		var after svc
		if after, err = w.patchService(key, write); err == nil {
			w.tell("%s writes %s: %v, was %v", r.name, key, assigned(after), assigned(before))
			w.checkWrite(r.basis, before, after)
			learn = func() { r.services.remember(after) }
			if lose && w.reread {
				learn()
			}
		}
	case *v1beta1.IPAddressPool:
		var after pool
		if after, err = w.patchPool(write); err == nil {
			learn = func() { r.pools.remember(after) }
		}
	case *v1beta1.ConfigurationState:
		var after stat
		if after, err = w.patchState(write); err == nil {
			learn = func() { r.states.remember(after) }
		}
	default:
		return fmt.Errorf("unexpected write to %T", obj)
	}
	if err == nil && lose {
		return errLost
	}
	if err == nil {
		learn()
	}
	return err
}

// takeFirst holds back what cannot be given yet: an address that somebody has
// who is to lose it, until that is seen to have happened.
func takeFirst(b *reading) ipam.Result {
	out := ipam.Result{Services: slices.Clone(b.plan.Services), Pools: b.plan.Pools}
	for i := range out.Services {
		d := &out.Services[i]
		var busy []netip.Addr
		why := ""
		for _, a := range d.Added {
			if t, ok := leaving(b, d.Key.String(), a); ok {
				busy = append(busy, a)
				why = fmt.Sprintf("%s has not been taken from Service %s yet", a, t)
			}
		}
		if len(busy) == 0 {
			continue
		}
		s := b.services[d.Key.String()]
		if s.in.policy == lb.RequireDualStack {
			busy = d.Added // both or nothing
		}
		d.Reason = reason.Reason{Code: reason.AddressInUse, Text: why}
		var pools []string
		var addrs []netip.Addr
		for n, a := range d.Addresses {
			if slices.Contains(busy, a) {
				continue
			}
			addrs = append(addrs, a)
			d.Reason.Text += "; has " + a.String()
			if p := d.Pools[min(n, len(d.Pools)-1)]; !slices.Contains(pools, p) {
				pools = append(pools, p)
			}
		}
		d.Addresses, d.Pools = addrs, pools
		d.Added = slices.DeleteFunc(slices.Clone(d.Added), func(a netip.Addr) bool { return slices.Contains(busy, a) })
	}
	return out
}

// leaving returns a Service that has a and is not to keep it.
func leaving(b *reading, other string, a netip.Addr) (string, bool) {
	for key, t := range b.services {
		if key != other && slices.Contains(assigned(t), a) && !b.oracle.decided(t, a) {
			return key, true
		}
	}
	return "", false
}

// release cleans up what is no longer a load balancer, reading live objects as
// the product does.
func release(w *world) (writes int) {
	for _, s := range w.services.sorted() {
		if s.in.balancer {
			continue
		}
		write, ok := status.Release(s.obj)
		if !ok {
			continue
		}
		writes++
		if _, err := w.patchService(s.in.key(), &write); err != nil {
			w.fail("release %s: %v", s.in.key(), err)
		}
	}
	return writes
}

func keyOf(in *svcIntent) lb.ServiceKey { return lb.ServiceKey{Namespace: in.ns, Name: in.name} }
