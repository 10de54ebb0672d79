// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"errors"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Requests on their way to the API server of the model.

// abandon is the end of a replica with requests under way.
func (r *replica) abandon(w *world) {
	if !r.recorded {
		return
	}
	for i := range r.pending[:min(parallel, len(r.pending))] {
		if write := r.pending[i]; write.Moves || isReservation(&write) {
			w.delay(r, &write)
		}
	}
}

func isReservation(write *status.Write) bool {
	_, ok := write.Object.(*v1alpha1.IPReservation)
	return ok
}

// delay lets a write arrive later.
func (w *world) delay(r *replica, write *status.Write) {
	w.requests = append(w.requests, func() {
		if isReservation(write) {
			_ = r.writeReservation(w, write, lost)
			return
		}
		_, _ = w.carryOut(r, write, arrives)
	})
}

// carryOut is a write to a Service on its way, and its answer.
func (w *world) carryOut(r *replica, write *status.Write, f fate) (svc, error) {
	switch f {
	case refused:
		return svc{}, errRefused
	case dropped:
		return svc{}, errUnknown
	case delayed:
		w.delay(r, write)
		return svc{}, errUnknown
	}
	key := write.Object.GetNamespace() + "/" + write.Object.GetName()
	before := w.services.live[key]
	after, err := w.patchService(key, write)
	if err != nil {
		if !errors.Is(err, errConflict) && !errors.Is(err, errNotFound) {
			w.fail("%s: %v", r.name, err)
		}
		return after, err
	}
	w.tell("%s writes %s: %v, was %v", r.name, key, assigned(after), assigned(before))
	w.checkWrite(w.bases[string(write.Patch)], before, after)
	if f == lost {
		return svc{}, errUnknown
	}
	return after, nil
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
