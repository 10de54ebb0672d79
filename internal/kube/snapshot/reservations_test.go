// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

func limitOf(n int32) *int32 { return &n }

func reserve(name string, minute int, spec v1alpha1.IPReservationSpec, status ...v1alpha1.ReservedAddress) *v1alpha1.IPReservation {
	return &v1alpha1.IPReservation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(minute)*60, 0))},
		Spec:       spec,
		Status:     v1alpha1.IPReservationStatus{Addresses: status},
	}
}

func TestReservations(t *testing.T) {
	t.Parallel()
	gone := reserve("gone", 0, v1alpha1.IPReservationSpec{Addresses: []string{"192.0.2.1"}})
	gone.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
	bad := []v1beta1.LabelSelector{{MatchExpressions: []v1beta1.LabelSelectorRequirement{{Key: "tier", Operator: "Near"}}}}
	got := build(snapshot.Objects{Reservations: []*v1alpha1.IPReservation{
		reserve("number", 3, v1alpha1.IPReservationSpec{Pool: "main", IPv4: limitOf(2), ServiceSelectors: []v1beta1.LabelSelector{{MatchLabels: map[string]string{"tier": "web"}}}},
			v1alpha1.ReservedAddress{Address: "192.0.2.9", LastUsedBy: []string{"b", "a"}},
			v1alpha1.ReservedAddress{Address: "192.0.2.3"}, v1alpha1.ReservedAddress{Address: "nonsense"}),
		reserve("named", 1, v1alpha1.IPReservationSpec{Addresses: []string{" 2001:DB8::1", "192.0.2.5", "2001:db8::1"}, Services: []string{"web", "api"}}),
		reserve("wrong", 2, v1alpha1.IPReservationSpec{Addresses: []string{"192.0.2.6", "192.0.2.0/24"}, ServiceSelectors: bad}),
		gone,
	}})
	addr := netip.MustParseAddr
	key := func(name string) lb.ReservationKey { return lb.ReservationKey{Namespace: "shop", Name: name} }
	want := []lb.Reservation{
		{Key: key("named"), Created: time.Unix(60, 0), Addresses: []netip.Addr{addr("2001:db8::1"), addr("192.0.2.5")}, Services: []string{"api", "web"}},
		{
			Key: key("wrong"), Created: time.Unix(120, 0), Addresses: []netip.Addr{addr("192.0.2.6")}, ServiceSelectors: []lb.Selector{{}},
			Invalid: `spec.addresses[1] "192.0.2.0/24": it is no address: write it as 192.0.2.10 or 2001:db8::10; ` +
				`spec.serviceSelectors[0]: "Near" is not a valid label selector operator: correct the selector`,
		},
		{
			Key: key("number"), Created: time.Unix(180, 0), Pool: "main", IPv4: 2,
			ServiceSelectors: []lb.Selector{{Requirements: []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"web"}}}}},
			Held:             []lb.HeldAddress{{Address: addr("192.0.2.3")}, {Address: addr("192.0.2.9"), Last: []string{"a", "b"}}},
		},
	}
	if diff := cmp.Diff(want, got.Reservations, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "main"}, Spec: v1beta1.IPAddressPoolSpec{
		Addresses: []string{"192.0.2.0/24"},
		Quotas: []v1beta1.NamespaceQuota{
			{IPv4: limitOf(2)},
			{Namespaces: []string{"shop", "bank"}, IPv4: limitOf(0), IPv6: limitOf(5)},
			{NamespaceSelectors: []v1beta1.LabelSelector{{MatchLabels: map[string]string{"class": "gold"}}}, IPv6: limitOf(1)},
		},
	}}
	got := build(snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool}})
	want := []lb.Quota{
		{IPv4: 2, IPv6: lb.NoLimit},
		{Namespaces: []string{"bank", "shop"}, IPv4: 0, IPv6: 5},
		{NamespaceSelectors: []lb.Selector{{Requirements: []lb.Requirement{{Key: "class", Op: lb.In, Values: []string{"gold"}}}}}, IPv4: lb.NoLimit, IPv6: 1},
	}
	if diff := cmp.Diff(want, got.Pools[0].Quotas); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
