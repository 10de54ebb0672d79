// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

var (
	opt   = status.ControllerOptions{Namespace: "herald", Now: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	later = status.ControllerOptions{Namespace: "herald", Now: opt.Now.Add(time.Hour)}
)

// cluster is a reading of a small cluster: a pool, an advertisement, and
// Services.
func cluster(services ...*corev1.Service) snapshot.Objects {
	in := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "herald", Name: name, ResourceVersion: "1", Generation: 2}
	}
	return snapshot.Objects{
		Services:         services,
		Pools:            []*v1beta1.IPAddressPool{{ObjectMeta: in("main"), Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/30", "2001:db8::/126"}}}},
		L2Advertisements: []*v1beta1.L2Advertisement{{ObjectMeta: in("all")}},
	}
}

func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "5"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// plan is what the controller does before the part under test.
func plan(o snapshot.Objects) (ipam.Result, []snapshot.Problem) {
	s, problems := snapshot.Build(o, snapshot.Options{Namespace: "herald"})
	return ipam.Plan(s), problems
}

// round returns the writes for the cluster as it is.
func round(o snapshot.Objects, opt status.ControllerOptions) []status.Write {
	result, problems := plan(o)
	return status.Controller(o, result, problems, opt)
}

// apply carries out the writes as the API server would: it returns the objects
// after that.
func apply(t *testing.T, o snapshot.Objects, writes []status.Write) snapshot.Objects {
	t.Helper()
	for _, w := range writes {
		switch obj := w.Object.(type) {
		case *corev1.Service:
			replace(t, o.Services, obj, afterPatch(t, obj, w))
		case *v1beta1.IPAddressPool:
			replace(t, o.Pools, obj, afterPatch(t, obj, w))
		case *v1alpha1.IPReservation:
			replace(t, o.Reservations, obj, afterPatch(t, obj, w))
		case *v1beta1.L2Advertisement:
			replace(t, o.L2Advertisements, obj, afterPatch(t, obj, w))
		case *v1beta1.ConfigurationState:
			if w.Create {
				o.ConfigurationStates = append(o.ConfigurationStates, afterPatch(t, obj, w))
			} else {
				replace(t, o.ConfigurationStates, obj, afterPatch(t, obj, w))
			}
		default:
			t.Fatalf("a write of %T was not expected", obj)
		}
	}
	return o
}

func replace[T snapshot.Object](t *testing.T, list []T, old snapshot.Object, now T) {
	t.Helper()
	for i := range list {
		if snapshot.Object(list[i]) == old {
			list[i] = now
			return
		}
	}
	t.Fatalf("%s was written but is not in the cluster", old.GetName())
}

func afterPatch[T any](t *testing.T, obj *T, w status.Write) *T {
	t.Helper()
	before, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var after []byte
	if w.PatchType == types.StrategicMergePatchType {
		after, err = strategicpatch.StrategicMergePatch(before, w.Patch, obj)
	} else {
		after, err = jsonpatch.MergePatch(before, w.Patch)
	}
	if err != nil {
		t.Fatalf("patch %s: %v", w.Patch, err)
	}
	out := new(T)
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	if svc, ok := any(out).(*corev1.Service); ok {
		for i := range svc.Status.LoadBalancer.Ingress { // as the API server does
			if svc.Status.LoadBalancer.Ingress[i].IPMode == nil {
				vip := corev1.LoadBalancerIPModeVIP
				svc.Status.LoadBalancer.Ingress[i].IPMode = &vip
			}
		}
	}
	return out
}

// events lists all events, one line each.
func events(writes []status.Write) []string {
	var out []string
	for _, w := range writes {
		for _, e := range w.Events {
			out = append(out, fmt.Sprintf("%s %s %s: %s", w.Object.GetName(), e.Type, e.Reason, e.Message))
		}
	}
	return out
}

func TestFirstRoundThenSilence(t *testing.T) {
	t.Parallel()
	o := cluster(service("a"), service("b"))
	writes := round(o, opt)
	if len(writes) != 5 { // two Services, a pool, an advertisement, the state
		t.Errorf("%d writes, want 5", len(writes))
	}
	want := []string{`a Normal IPAllocated: Assigned IP ["192.0.2.0"]`, `b Normal IPAllocated: Assigned IP ["192.0.2.1"]`}
	if diff := cmp.Diff(want, events(writes)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	o = apply(t, o, writes)
	if again := round(o, later); len(again) != 0 {
		t.Errorf("a settled cluster causes %d writes; the first: %T %s %s", len(again), again[0].Object, again[0].Object.GetName(), again[0].Patch)
	}

	a := o.Services[0]
	if a.Annotations[api.AnnotationAllocatedFromPool] != "main" {
		t.Errorf("annotations: %v", a.Annotations)
	}
	pool := o.Pools[0].Status
	if pool.AssignedIPv4 != 2 || pool.AvailableIPv4 != 2 || pool.UsedIPv4 != "2/4" || pool.UsedIPv6 != "0/4" {
		t.Errorf("status of the pool: %+v", pool)
	}
	if c := pool.Conditions[0]; c.Type != "Valid" || c.Status != "True" || c.Reason != "Valid" || c.ObservedGeneration != 2 {
		t.Errorf("condition of the pool: %+v", c)
	}
	if c := o.L2Advertisements[0].Status.Conditions[0]; c.Type != "Valid" || c.Status != "True" {
		t.Errorf("condition of the advertisement: %+v", c)
	}
	state := o.ConfigurationStates[0]
	if state.Name != "controller" || state.Labels["metallb.io/component-type"] != "controller" || state.Status.Result != "Valid" {
		t.Errorf("state: %+v", state)
	}
}

func TestServicePatch(t *testing.T) {
	t.Parallel()
	got := string(round(cluster(service("a")), opt)[0].Patch)
	want := `{"metadata":{"resourceVersion":"5","uid":"uid-a","annotations":{` +
		`"heraldlb.io/assigned-at":"192.0.2.0=2026-01-31T12:00:00Z","metallb.io/ip-allocated-from-pool":"main"}},` +
		`"status":{"conditions":[{"type":"heraldlb.io/Allocated","status":"True","lastTransitionTime":"2026-01-31T12:00:00Z","reason":"AddressAssigned","message":"192.0.2.0 from pool \"main\""}],` +
		`"loadBalancer":{"ingress":[{"ip":"192.0.2.0"}]}}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOthersArePreserved(t *testing.T) {
	t.Parallel()
	proxy, problem := corev1.LoadBalancerIPModeProxy, "x"
	dual := corev1.IPFamilyPolicyPreferDualStack
	svc := service("a", func(s *corev1.Service) {
		s.Annotations = map[string]string{"mine": "1", api.AnnotationAllocatedFromPoolLegacy: "main"}
		s.Spec.ClusterIPs, s.Spec.IPFamilyPolicy = []string{"10.96.0.1", "fd00::1"}, &dual
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.3", IPMode: &proxy, Ports: []corev1.PortStatus{{Port: 80, Error: &problem}}}}
		s.Status.Conditions = []metav1.Condition{{Type: api.ConditionAnnounced, Status: "True", Reason: "Announcing"}, {Type: "other", Status: "False", Reason: "R"}}
	})
	o := apply(t, cluster(svc), round(cluster(svc), opt)[:1])
	got := o.Services[0]
	in := got.Status.LoadBalancer.Ingress
	if len(in) != 2 || in[0].IP != "192.0.2.3" || *in[0].IPMode != proxy || len(in[0].Ports) != 1 || in[1].IP != "2001:db8::" {
		t.Errorf("ingress: %+v", in)
	}
	want := map[string]string{
		"mine": "1", api.AnnotationAllocatedFromPool: "main",
		api.AnnotationAssignedAt: "2001:db8::=2026-01-31T12:00:00Z", // the other one was there before
	}
	if diff := cmp.Diff(want, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	found := map[string]metav1.ConditionStatus{}
	for _, c := range got.Status.Conditions {
		found[c.Type] = c.Status
	}
	if diff := cmp.Diff(map[string]metav1.ConditionStatus{api.ConditionAllocated: "True", api.ConditionAnnounced: "True", "other": "False"}, found); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if again := events(round(o, later)); again != nil {
		t.Errorf("events again: %v", again)
	}
}

func TestTakeOverFromMetalLBIsSilent(t *testing.T) {
	t.Parallel()
	svc := service("a", func(s *corev1.Service) {
		s.Annotations = map[string]string{api.AnnotationAllocatedFromPool: "main"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
	})
	w := round(cluster(svc), opt)[0]
	var p struct {
		Metadata struct{ Annotations map[string]any }
		Status   map[string]any
	}
	if err := json.Unmarshal(w.Patch, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Metadata.Annotations) > 0 || p.Status["loadBalancer"] != nil || len(w.Events) > 0 {
		t.Errorf("more than the condition is written: %s %v", w.Patch, w.Events)
	}
}

func TestEventsOncePerChange(t *testing.T) {
	t.Parallel()
	var names []*corev1.Service
	for i := range 5 { // the pool has four addresses
		names = append(names, service(fmt.Sprintf("s%d", i), func(s *corev1.Service) {
			s.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		}))
	}
	bad := service("bad", func(s *corev1.Service) {
		s.Annotations = map[string]string{"metallb.universe.tf/loadBalancerIPs": "typo"}
	})
	o := cluster(append(names, bad)...)
	writes := round(o, opt)
	got := events(writes)
	if len(got) != 7 {
		t.Fatalf("%d events, want 7:\n%v", len(got), got)
	}
	for i, prefix := range map[int]string{
		0: `bad Warning LoadBalancerFailed: Invalid request of "shop/bad": `,
		1: `bad Warning deprecatedAnnotation: The annotation metallb.universe.tf/loadBalancerIPs is deprecated: use metallb.io/loadBalancerIPs`,
		6: `s4 Warning AllocationFailed: Failed to allocate IP for "shop/s4": `,
	} {
		if len(got[i]) < len(prefix) || got[i][:len(prefix)] != prefix {
			t.Errorf("event %d is %q, want %q...", i, got[i], prefix)
		}
	}
	o = apply(t, o, writes)
	if again := events(round(o, later)); again != nil {
		t.Errorf("events again without a change: %v", again)
	}

	// The pool moves away: what it gave is taken back.
	o.Pools[0].Spec.Addresses = []string{"198.51.100.0/24"}
	got = events(round(o, later))
	if want := `s0 Normal ClearAssignment: Cleared 192.0.2.0 (`; len(got) == 0 || got[0][:len(want)] != want {
		t.Errorf("events after the pool moved: %q", got)
	}
	if want := `s0 Normal IPAllocated: Assigned IP ["198.51.100.0"]`; len(got) < 2 || got[1] != want {
		t.Errorf("events after the pool moved: %q, want second %q", got, want)
	}
}

func TestClearedServiceHasNothingLeft(t *testing.T) {
	t.Parallel()
	o := cluster(service("a"))
	o = apply(t, o, round(o, opt))
	o.Services[0].Spec.ClusterIP, o.Services[0].Spec.ClusterIPs = "None", []string{"None"}
	o = apply(t, o, round(o, later)[:1])
	s := o.Services[0]
	if len(s.Status.LoadBalancer.Ingress) > 0 || s.Annotations[api.AnnotationAllocatedFromPool] != "" {
		t.Errorf("left: %v %v", s.Status.LoadBalancer, s.Annotations)
	}
	if c := s.Status.Conditions[0]; c.Status != "False" || c.Reason != string(reason.HeadlessService) || !c.LastTransitionTime.Time.Equal(later.Now) {
		t.Errorf("condition: %+v", c)
	}
}

func TestInvalidObjects(t *testing.T) {
	t.Parallel()
	o := cluster(service("a"))
	o.Pools = append(o.Pools, &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "broken"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"typo"}},
	})
	writes := round(o, opt)
	const text = `spec.addresses[0] "typo": it is neither a CIDR nor a range: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20`
	want := []string{`a Normal IPAllocated: Assigned IP ["192.0.2.0"]`, "broken Warning Invalid: " + text}
	if diff := cmp.Diff(want, events(writes)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	o = apply(t, o, writes)
	if c := o.Pools[1].Status.Conditions[0]; c.Status != "False" || c.Reason != "BadAddress" || c.Message != text {
		t.Errorf("condition: %+v", c)
	}
	st := o.ConfigurationStates[0].Status
	if st.Result != "Invalid" || st.ErrorSummary != "IPAddressPool broken: "+text || st.Conditions[0].Reason != "ConfigurationError" || st.Conditions[0].Type != "poolReconcilerValid" {
		t.Errorf("state: %+v", st)
	}
	if again := round(o, later); len(again) != 0 {
		t.Errorf("%d writes without a change", len(again))
	}

	o.Pools[1].Spec.Addresses = []string{"198.51.100.0/24"}
	o.Pools[1].Generation++
	writes = round(o, later)
	o = apply(t, o, writes)
	if c := o.Pools[1].Status.Conditions[0]; c.Status != "True" || !c.LastTransitionTime.Time.Equal(later.Now) {
		t.Errorf("condition after the repair: %+v", c)
	}
	if st := o.ConfigurationStates[0].Status; st.Result != "Valid" || st.ErrorSummary != "" {
		t.Errorf("state after the repair: %+v", st)
	}
	if got := events(writes); got != nil {
		t.Errorf("events of a repair: %v", got)
	}
}

func TestCountersAreMinor(t *testing.T) {
	t.Parallel()
	o := cluster(service("a"))
	o = apply(t, o, round(o, opt))
	o.Services = append(o.Services, service("b"))
	for _, w := range round(o, later) {
		if _, pool := w.Object.(*v1beta1.IPAddressPool); pool != w.Minor {
			t.Errorf("%s: minor is %v", w.Object.GetName(), w.Minor)
		}
	}
}

func TestUnknownState(t *testing.T) {
	t.Parallel()
	w, ok := status.ControllerState(nil, nil, errors.New("no list of pools"), opt)
	if !ok || !w.Create {
		t.Fatalf("write: %+v", w)
	}
	o := apply(t, snapshot.Objects{}, []status.Write{w})
	st := o.ConfigurationStates[0].Status
	if st.Result != "Unknown" || st.ErrorSummary != "no list of pools" || st.Conditions[0].Status != "Unknown" || st.Conditions[0].Reason != "UnknownError" {
		t.Errorf("state: %+v", st)
	}
	if _, ok := status.ControllerState(o.ConfigurationStates, nil, errors.New("no list of pools"), later); ok {
		t.Error("written again without a change")
	}
}

func TestTerminatingObjectsAreLeftAlone(t *testing.T) {
	t.Parallel()
	gone := metav1.NewTime(opt.Now)
	o := cluster(service("a", func(s *corev1.Service) {
		s.DeletionTimestamp = &gone
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	}))
	o.Pools[0].DeletionTimestamp = &gone
	for _, w := range round(o, opt) {
		if w.Object.GetDeletionTimestamp() != nil {
			t.Errorf("a write to %s, which is being deleted: %s", w.Object.GetName(), w.Patch)
		}
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	svc := service("a", func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s.Annotations = map[string]string{"mine": "1", api.AnnotationAllocatedFromPool: "main"}
		s.Status.Conditions = []metav1.Condition{{Type: api.ConditionAllocated}, {Type: "other"}, {Type: api.ConditionAnnounced}}
	})
	w, ok := status.Release(svc)
	if !ok {
		t.Fatal("nothing to write")
	}
	got := afterPatch(t, svc, w)
	if diff := cmp.Diff(map[string]string{"mine": "1"}, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Type != "other" {
		t.Errorf("conditions: %v", got.Status.Conditions)
	}
	if w, again := status.Release(got); again {
		t.Errorf("written again: %s", w.Patch)
	}
}
