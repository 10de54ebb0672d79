// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"encoding/json"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Reservations and quotas: what users mean, and the objects that say so.

type resv = stored[*v1alpha1.IPReservation, resvIntent]

// resvIntent is what a user wants of a reservation: either addresses, or a
// number of a pool's.
type resvIntent struct {
	ns, name string
	addrs    []netip.Addr
	pool     string
	n        [2]int // by row

	services, tiers []string
}

func (in *resvIntent) key() string { return in.ns + "/" + in.name }

// admits reports whether the reservation is for a Service.
func (in *resvIntent) admits(s *svcIntent) bool {
	return in.ns == s.ns && (len(in.services)+len(in.tiers) == 0 || slices.Contains(in.services, s.name) || (s.tier != "" && slices.Contains(in.tiers, s.tier)))
}

// wanted is how many addresses it wants.
func (in *resvIntent) wanted() int { return len(in.addrs) + in.n[0] + in.n[1] }

func (in *resvIntent) object() *v1alpha1.IPReservation {
	r := &v1alpha1.IPReservation{ObjectMeta: metav1.ObjectMeta{Namespace: in.ns, Name: in.name}}
	r.Spec = v1alpha1.IPReservationSpec{Services: in.services, ServiceSelectors: tierSelectors(in.tiers), Pool: in.pool}
	for _, a := range in.addrs {
		r.Spec.Addresses = append(r.Spec.Addresses, a.String())
	}
	if in.pool != "" {
		r.Spec.IPv4, r.Spec.IPv6 = new(int32(in.n[0])), new(int32(in.n[1]))
	}
	return r
}

// recorded is what the status of a reservation says that it holds.
func recorded(v resv) []netip.Addr {
	var out []netip.Addr
	for _, a := range v.obj.Status.Addresses {
		out = append(out, netip.MustParseAddr(a.Address))
	}
	return out
}

// quotaIntent is a limit for each namespace that it is for; -1 is none.
type quotaIntent struct {
	namespaces []string
	tiers      []string // of namespaces
	limit      [2]int   // by row
}

func (q *quotaIntent) object() v1beta1.NamespaceQuota {
	out := v1beta1.NamespaceQuota{Namespaces: q.namespaces, NamespaceSelectors: tierSelectors(q.tiers)}
	for i, field := range []**int32{&out.IPv4, &out.IPv6} {
		if q.limit[i] >= 0 {
			*field = new(int32(q.limit[i]))
		}
	}
	return out
}

// limit returns how many addresses a namespace may hold, -1 for any number;
// labels are nil as long as they are not known.
func (in *poolIntent) limit(ns string, labels *nsIntent, f lb.Family) int {
	limits := [3]int{-1, -1, -1} // by name, by labels, for all
	for i := range in.quotas {
		q := &in.quotas[i]
		n := q.limit[row(f)]
		if n < 0 {
			continue
		}
		if labels == nil && len(q.tiers) > 0 {
			return 0 // until it is known
		}
		for i, fits := range []bool{
			slices.Contains(q.namespaces, ns),
			labels != nil && labels.tier != "" && slices.Contains(q.tiers, labels.tier),
			len(q.namespaces)+len(q.tiers) == 0,
		} {
			if fits && (limits[i] < 0 || n < limits[i]) {
				limits[i] = n
			}
		}
	}
	for _, n := range limits {
		if n >= 0 {
			return n
		}
	}
	return -1
}

func (a *apiServer) putReservation(in *resvIntent) {
	next := in.object()
	if old, ok := a.reservations.live[in.key()]; ok {
		next.ObjectMeta = *old.obj.ObjectMeta.DeepCopy()
		next.Status = *old.obj.Status.DeepCopy()
		next.Generation++
	}
	a.stamp(&next.ObjectMeta)
	a.reservations.put(in.key(), resv{next, in}, true)
}

// patchReservation carries out a patch that has the whole status in it.
func (a *apiServer) patchReservation(w *status.Write) (resv, error) {
	key := w.Object.GetNamespace() + "/" + w.Object.GetName()
	old, ok := a.reservations.live[key]
	if !ok {
		return resv{}, errNotFound
	}
	var fields map[string]json.RawMessage
	var p wire
	if err := strict(w.Patch, &p); err != nil {
		return resv{}, err
	}
	if p.Metadata.UID != string(old.uid()) {
		return resv{}, errConflict
	}
	next := old.obj.DeepCopy()
	if err := json.Unmarshal(p.Status, &fields); err != nil {
		return resv{}, err
	}
	if len(fields) == 5 { // a merge patch replaces lists
		next.Status = v1alpha1.IPReservationStatus{}
	}
	if err := mergeStatus(w, next.ResourceVersion, &next.Status); err != nil {
		return resv{}, err
	}
	a.stamp(&next.ObjectMeta)
	v := resv{next, old.in}
	a.reservations.put(key, v, true)
	return v, nil
}

// writeReservation is a write to a reservation on its way, and its answer.
func (r *replica) writeReservation(w *world, write *status.Write, f fate) error {
	switch f {
	case refused:
		return errRefused
	case dropped:
		return errUnknown
	case delayed:
		w.delay(r, write)
		return errUnknown
	}
	after, err := w.patchReservation(write)
	if err != nil {
		return err
	}
	w.tell("%s writes reservation %s: holds %v", r.name, after.in.key(), recorded(after))
	if f == lost {
		return errUnknown
	}
	r.reservations.remember(after)
	return nil
}

// What users do with them.

func (w *world) promises(do string, r dice) {
	ns, name, pool := pick(r, nsNames()), pick(r, []string{"r0", "r1"}), pick(r, poolNames())
	v, exists := w.reservations.live[ns+"/"+name]
	p, has := w.pools.live[pool]
	switch {
	case do == "return":
		w.comeback(r)
	case do == "reserve":
		in := resvIntent{ns: ns, name: name}
		if exists {
			in = *v.in
		}
		if !exists || r.one(2) {
			in.setWhat(r)
		}
		if !exists || r.one(2) {
			in.setWhom(r)
		}
		w.tell("reservation %s: %+v", in.key(), in)
		w.putReservation(&in)
	case do == "drop reservation" && exists:
		w.tell("reservation %s is deleted", v.in.key())
		w.reservations.remove(v.in.key())
	case do == "quota" && has:
		in := *p.in
		in.setQuotas(r)
		w.tell("pool %s: quotas %+v", in.name, in.quotas)
		w.putPool(&in)
	}
}

// comeback creates a Service as it was before it was deleted.
func (w *world) comeback(r dice) {
	gone := values(w.gone)
	if len(gone) == 0 {
		return
	}
	in := *pick(r, gone)
	delete(w.gone, in.key())
	if _, exists := w.services.live[in.key()]; !exists {
		in.deleting = false
		w.tell("Service %s comes back: %+v", in.key(), in)
		w.putService(&in)
	}
}

func (in *resvIntent) setWhat(r dice) {
	in.addrs, in.pool, in.n = nil, "", [2]int{}
	if r.one(2) {
		in.pool, in.n[0], in.n[1] = pick(r, poolNames()), r.IntN(3), r.IntN(2)
		if in.n[0]+in.n[1] == 0 {
			in.n[r.IntN(2)] = 1
		}
		return
	}
	for range 1 + r.IntN(2) {
		if a := r.address(r.family()); !slices.Contains(in.addrs, a) {
			in.addrs = append(in.addrs, a)
		}
	}
}

func (in *resvIntent) setWhom(r dice) {
	in.services, in.tiers = nil, nil
	if !r.one(3) {
		in.services = some(r, serviceNames())
	}
	if r.one(4) {
		in.tiers = some(r, []string{"web", "db"})
	}
}

func (in *poolIntent) setQuotas(r dice) {
	in.quotas = nil
	for range r.IntN(3) {
		q := quotaIntent{limit: [2]int{r.IntN(4), r.IntN(4)}}
		if x := r.IntN(4); x < 2 {
			q.limit[x] = -1
		}
		switch r.IntN(3) {
		case 0:
			q.namespaces = some(r, nsNames())
		case 1:
			q.tiers = some(r, []string{"web", "db"})
		}
		in.quotas = append(in.quotas, q)
	}
}
