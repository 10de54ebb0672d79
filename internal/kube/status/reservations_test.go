// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// TestReservations lets a number of addresses be chosen and used, and checks
// that each step is written once and read back as the same.
func TestReservations(t *testing.T) {
	t.Parallel()
	two := int32(2)
	o := cluster()
	o.Reservations = []*v1alpha1.IPReservation{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "webs", UID: "uid-webs", ResourceVersion: "7", Generation: 3},
		Spec:       v1alpha1.IPReservationSpec{Pool: "main", IPv4: &two, Services: []string{"web"}},
	}}
	step := func(what string, want v1alpha1.IPReservationStatus) {
		t.Helper()
		writes := round(o, opt)
		o = apply(t, o, writes)
		got := o.Reservations[0].Status
		if len(got.Conditions) != 1 || got.Conditions[0].ObservedGeneration != 3 {
			t.Errorf("%s: conditions %v", what, got.Conditions)
		}
		got.Conditions = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if again := round(o, later); len(again) > 0 {
			t.Errorf("%s: the next round writes %d objects: %s", what, len(again), again[0].Patch)
		}
	}
	free := v1alpha1.ReservedAddress{Address: "192.0.2.1", Pool: "main", State: v1alpha1.ReservedFree}
	step("before the Service exists", v1alpha1.IPReservationStatus{
		Held: "2/2", AddressList: "192.0.2.0 192.0.2.1",
		Addresses: []v1alpha1.ReservedAddress{{Address: "192.0.2.0", Pool: "main", State: v1alpha1.ReservedFree}, free},
	})
	o.Services = []*corev1.Service{service("web")}
	step("in use", v1alpha1.IPReservationStatus{
		Held: "2/2", InUse: 1, AddressList: "192.0.2.0 192.0.2.1",
		Addresses: []v1alpha1.ReservedAddress{
			{Address: "192.0.2.0", Pool: "main", State: v1alpha1.ReservedInUse, UsedBy: []string{"shop/web"}, LastUsedBy: []string{"web"}}, free,
		},
	})
	o.Services = nil
	step("after the Service is gone", v1alpha1.IPReservationStatus{
		Held: "2/2", AddressList: "192.0.2.0 192.0.2.1",
		Addresses: []v1alpha1.ReservedAddress{{Address: "192.0.2.0", Pool: "main", State: v1alpha1.ReservedFree, LastUsedBy: []string{"web"}}, free},
	})
}

// TestReservationTrouble: a warning when something is wrong, once; the status
// of a pool counts what is reserved.
func TestReservationTrouble(t *testing.T) {
	t.Parallel()
	nine := int32(9)
	o := cluster()
	o.Reservations = []*v1alpha1.IPReservation{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "many", ResourceVersion: "7"},
		Spec:       v1alpha1.IPReservationSpec{Pool: "main", IPv4: &nine},
	}}
	writes := round(o, opt)
	want := []string{`many Warning Invalid: holds 4 of 9; pool "main" has no free IPv4 address (0 of 4 used, 4 reserved)`}
	if diff := cmp.Diff(want, events(writes)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	o = apply(t, o, writes)
	r := o.Reservations[0].Status
	if r.Held != "4/9" || r.AddressList != "192.0.2.0 192.0.2.1 192.0.2.2 192.0.2.3" || r.Conditions[0].Status != metav1.ConditionFalse || r.Conditions[0].Reason != "ReservationIncomplete" {
		t.Errorf("status: %+v", r)
	}
	if s := o.Pools[0].Status; s.ReservedIPv4 != 4 || s.AvailableIPv4 != 0 || s.AssignedIPv4 != 0 || s.UsedIPv4 != "0/4" {
		t.Errorf("pool: %+v", s)
	}
	deleted := o.Reservations[0].DeepCopy()
	deleted.DeletionTimestamp = &metav1.Time{Time: opt.Now}
	o.Reservations = []*v1alpha1.IPReservation{deleted}
	for _, w := range round(o, opt) {
		if w.Object == snapshot.Object(deleted) {
			t.Errorf("wrote to a reservation that is being deleted: %s", w.Patch)
		}
	}
}

// TestAssignedAt: each address keeps the time at which it was given.
func TestAssignedAt(t *testing.T) {
	t.Parallel()
	at := func(o snapshot.Objects, want string) {
		t.Helper()
		if got := o.Services[0].Annotations[api.AnnotationAssignedAt]; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	dual := corev1.IPFamilyPolicyPreferDualStack
	o := cluster(service("web"))
	o = apply(t, o, round(o, opt))
	at(o, "192.0.2.0=2026-01-31T12:00:00Z")
	o.Services[0].Spec.ClusterIPs, o.Services[0].Spec.IPFamilyPolicy = []string{"fd00::1", "10.96.0.1"}, &dual
	o = apply(t, o, round(o, later))
	at(o, "2001:db8::=2026-01-31T13:00:00Z,192.0.2.0=2026-01-31T12:00:00Z")
	o.Services[0].Annotations[api.AnnotationLoadBalancerIPs] = "2001:db8::1,192.0.2.0"
	o = apply(t, o, round(o, opt))
	at(o, "2001:db8::1=2026-01-31T12:00:00Z,192.0.2.0=2026-01-31T12:00:00Z")
	if again := round(o, later); len(again) > 0 {
		t.Errorf("the next round writes: %s", again[0].Patch)
	}
	o.Pools[0].Spec.Addresses = []string{"198.51.100.0/30"}
	o = apply(t, o, round(o, later))
	at(o, "")
	if got := status.AssignedAt("192.0.2.1=2026-01-31T12:00:00Z,192.0.2.2=soon,web=2026-01-31T12:00:00Z,192.0.2.3,"); len(got) != 1 {
		t.Errorf("read %v", got)
	}
}
