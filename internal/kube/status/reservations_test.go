// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
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
