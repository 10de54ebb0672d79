// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/status"
)

// The API server of the model: objects with resource versions, one log of
// events for each kind, optimistic concurrency, and the part of the status
// subresource that the controller relies on.
//
// An object once stored is never changed; a change stores a new one. So caches
// and plans can hold on to what they have read.

// Errors of the API server.
var (
	errConflict = errors.New("conflict")
	errNotFound = errors.New("not found")
	errRefused  = errors.New("refused")
	errUnknown  = errors.New("there is no answer")
)

// stored is an object together with what the user meant by it. The oracle
// reads the intent, never the object's spec, so that it shares no parser with
// what it judges.
type stored[O metav1.Object, I any] struct {
	obj O
	in  *I
}

func (s stored[O, I]) uid() types.UID { return s.obj.GetUID() }

func (s stored[O, I]) version() int {
	v, err := strconv.Atoi(s.obj.GetResourceVersion())
	if err != nil {
		panic("model: resource version: " + err.Error())
	}
	return v
}

type (
	svc  = stored[*corev1.Service, svcIntent]
	pool = stored[*v1beta1.IPAddressPool, poolIntent]
	nsp  = stored[*corev1.Namespace, nsIntent]
	stat = stored[*v1beta1.ConfigurationState, struct{}]
)

// versioned is what tables and caches need to know of an object.
type versioned interface {
	uid() types.UID
	version() int
}

// table is one kind in the API server.
type table[T versioned] struct {
	live map[string]T // by namespace/name
	log  []event[T]
}

type event[T versioned] struct {
	key  string
	val  T
	gone bool // deleted, or no longer selected by the watch
}

func (t *table[T]) put(key string, val T, selected bool) {
	if t.live == nil {
		t.live = map[string]T{}
	}
	old, was := t.live[key]
	t.live[key] = val
	if !selected && was {
		val = old // that is what the event shows
	}
	t.log = append(t.log, event[T]{key: key, val: val, gone: !selected})
}

func (t *table[T]) remove(key string) {
	t.log = append(t.log, event[T]{key: key, val: t.live[key], gone: true})
	delete(t.live, key)
}

func (t *table[T]) sorted() []T { return values(t.live) }

func values[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

type apiServer struct {
	rev  int
	uids int
	now  time.Time // in seconds, as creation times are

	services   table[svc]
	pools      table[pool]
	namespaces table[nsp]
	states     table[stat]

	reservations table[resv]

	patches int // carried out, for the comparison with the real merge

	journals map[string]*corev1.ConfigMap
	// requests are under way, and nobody waits for their answers.
	requests []func()
	// bases are the readings that patches were decided on.
	bases map[string]*reading
}

// stamp fills in what the API server says of a new or changed object.
func (a *apiServer) stamp(m *metav1.ObjectMeta) {
	a.rev++
	m.ResourceVersion = strconv.Itoa(a.rev)
	if m.UID == "" {
		a.uids++
		m.UID = types.UID("uid-" + strconv.Itoa(a.uids))
		m.CreationTimestamp = metav1.NewTime(a.now)
		m.Generation = 1
	}
}

func (a *apiServer) putService(in *svcIntent) {
	key := in.key()
	next := in.object()
	if old, ok := a.services.live[key]; ok {
		next.ObjectMeta = *old.obj.ObjectMeta.DeepCopy()
		next.Status = *old.obj.Status.DeepCopy()
		for _, name := range inputAnnotations() {
			delete(next.Annotations, name)
		}
		next.Annotations = merged(next.Annotations, in.annotations())
		next.Labels = in.labels()
		next.Generation++
		if next.Spec.Type != corev1.ServiceTypeLoadBalancer {
			next.Status.LoadBalancer = corev1.LoadBalancerStatus{} // as the real one does
		}
		if in.deleting && next.DeletionTimestamp == nil {
			next.DeletionTimestamp = &metav1.Time{Time: a.now}
		}
	}
	a.storeService(svc{next, in})
}

func (a *apiServer) storeService(s svc) {
	a.stamp(&s.obj.ObjectMeta)
	a.services.put(s.in.key(), s, s.obj.Spec.Type == corev1.ServiceTypeLoadBalancer)
}

func (a *apiServer) putPool(in *poolIntent) {
	next := in.object()
	if old, ok := a.pools.live[in.name]; ok {
		next.ObjectMeta = *old.obj.ObjectMeta.DeepCopy()
		next.Status = *old.obj.Status.DeepCopy()
		next.Generation++
		if in.deleting && next.DeletionTimestamp == nil {
			next.DeletionTimestamp = &metav1.Time{Time: a.now}
		}
	}
	a.stamp(&next.ObjectMeta)
	a.pools.put(in.name, pool{next, in}, true)
}

func (a *apiServer) putNamespace(in *nsIntent) {
	next := in.object()
	if old, ok := a.namespaces.live[in.name]; ok {
		next.ObjectMeta = *old.obj.ObjectMeta.DeepCopy()
		next.Labels = in.object().Labels
	}
	a.stamp(&next.ObjectMeta)
	a.namespaces.put(in.name, nsp{next, in}, true)
}

// announced is the condition that speakers write while the controller works.
const announced = "heraldlb.io/Announced"

// announce stores a Service as a speaker's status patch would.
func (a *apiServer) announce(s svc) {
	next := s.obj.DeepCopy()
	c := metav1.Condition{Type: announced, Status: metav1.ConditionTrue, Reason: "Announcing", Message: fmt.Sprintf("revision %d", a.rev)}
	next.Status.Conditions = append(slices.DeleteFunc(next.Status.Conditions, func(c metav1.Condition) bool { return c.Type == announced }), c)
	a.storeService(svc{next, s.in})
}

// wire is every field that a patch of the controller may have. Anything else
// fails the test, because the model would not know what to do with it.
type wire struct {
	Metadata struct {
		ResourceVersion string
		UID             string
		Annotations     map[string]*string
	}
	Status json.RawMessage
}

type serviceStatus struct {
	LoadBalancer *struct {
		Ingress []corev1.LoadBalancerIngress
	}
	Conditions []struct {
		metav1.Condition
		Directive string `json:"$patch"`
	}
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// patchService carries out a patch of services/status.
func (a *apiServer) patchService(key string, w *status.Write) (svc, error) {
	old, ok := a.services.live[key]
	if !ok {
		return svc{}, errNotFound
	}
	var p wire
	var st serviceStatus
	if err := errors.Join(strict(w.Patch, &p), strict(cmpOr(p.Status, []byte("{}")), &st)); err != nil {
		return svc{}, fmt.Errorf("patch %s of %s: %w", w.Patch, key, err)
	}
	if p.Metadata.ResourceVersion == "" || p.Metadata.UID == "" {
		return svc{}, fmt.Errorf("patch %s of %s is not bound to what was read", w.Patch, key)
	}
	if p.Metadata.ResourceVersion != old.obj.ResourceVersion || p.Metadata.UID != string(old.uid()) {
		return svc{}, errConflict
	}
	next := old.obj.DeepCopy()
	for name, value := range p.Metadata.Annotations {
		if value == nil {
			delete(next.Annotations, name)
			continue
		}
		next.Annotations = merged(next.Annotations, map[string]string{name: *value})
	}
	if st.LoadBalancer != nil {
		next.Status.LoadBalancer.Ingress = st.LoadBalancer.Ingress
	}
	for _, c := range st.Conditions {
		i := slices.IndexFunc(next.Status.Conditions, func(o metav1.Condition) bool { return o.Type == c.Type })
		switch {
		case c.Directive == "delete" && i >= 0:
			next.Status.Conditions = slices.Delete(next.Status.Conditions, i, i+1)
		case i >= 0:
			next.Status.Conditions[i] = c.Condition
		case c.Directive == "":
			next.Status.Conditions = append(next.Status.Conditions, c.Condition)
		}
	}
	if a.patches++; a.patches%200 == 1 {
		if err := sameAsReal(old.obj, next, w.Patch); err != nil {
			return svc{}, err
		}
	}
	for i := range next.Status.LoadBalancer.Ingress {
		if in := &next.Status.LoadBalancer.Ingress[i]; in.IPMode == nil {
			vip := corev1.LoadBalancerIPModeVIP // the real one's default
			in.IPMode = &vip
		}
	}
	s := svc{next, old.in}
	a.storeService(s)
	return s, nil
}

// sameAsReal compares the model's merge with that of Kubernetes, which is too
// slow to be used every time.
func sameAsReal(old, got *corev1.Service, patch []byte) error {
	before, err := json.Marshal(old)
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		return err
	}
	var want corev1.Service
	if err := json.Unmarshal(after, &want); err != nil {
		return err
	}
	plain, err := json.Marshal(got) // times lose their zone
	if err != nil {
		return err
	}
	var have corev1.Service
	if err := json.Unmarshal(plain, &have); err != nil {
		return err
	}
	byType := func(a, b metav1.Condition) int { return bytes.Compare([]byte(a.Type), []byte(b.Type)) }
	slices.SortFunc(want.Status.Conditions, byType)
	slices.SortFunc(have.Status.Conditions, byType)
	if len(want.Status.Conditions) == 0 {
		want.Status.Conditions = nil // an empty list is none
	}
	if !reflect.DeepEqual(want.Status, have.Status) || !maps.Equal(want.Annotations, have.Annotations) {
		return fmt.Errorf("the model's merge of %s differs from the real one: %+v, want %+v", patch, have.Status, want.Status)
	}
	return nil
}

func (a *apiServer) patchPool(w *status.Write) (pool, error) {
	old, ok := a.pools.live[w.Object.GetName()]
	if !ok {
		return pool{}, errNotFound
	}
	next := old.obj.DeepCopy()
	if err := mergeStatus(w, next.ResourceVersion, &next.Status); err != nil {
		return pool{}, err
	}
	a.stamp(&next.ObjectMeta)
	p := pool{next, old.in}
	a.pools.put(next.Name, p, true)
	return p, nil
}

func (a *apiServer) patchState(w *status.Write) (stat, error) {
	old, ok := a.states.live[w.Object.GetName()]
	if ok == w.Create {
		return stat{}, errConflict // exists already, or is gone
	}
	var next *v1beta1.ConfigurationState
	if w.Create {
		next = w.Object.DeepCopyObject().(*v1beta1.ConfigurationState)
	} else {
		next = old.obj.DeepCopy()
	}
	if err := mergeStatus(w, next.ResourceVersion, &next.Status); err != nil {
		return stat{}, err
	}
	a.stamp(&next.ObjectMeta)
	s := stat{next, nil}
	a.states.put(next.Name, s, true)
	return s, nil
}

// mergeStatus is a JSON merge patch without nulls inside, which is what the
// controller sends for its own kinds.
func mergeStatus(w *status.Write, version string, into any) error {
	var p wire
	if err := strict(w.Patch, &p); err != nil {
		return fmt.Errorf("patch %s: %w", w.Patch, err)
	}
	if p.Metadata.ResourceVersion != version {
		return errConflict
	}
	return strict(p.Status, into)
}

func merged(into, add map[string]string) map[string]string {
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, add)
	return into
}

func cmpOr(b, other []byte) []byte {
	if len(b) == 0 {
		return other
	}
	return b
}
