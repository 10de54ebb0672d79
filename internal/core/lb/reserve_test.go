// SPDX-License-Identifier: Apache-2.0

package lb_test

import (
	"testing"

	"github.com/heraldlb/herald/internal/core/lb"
)

func TestLimit(t *testing.T) {
	t.Parallel()
	gold := []lb.Selector{{Requirements: []lb.Requirement{{Key: "class", Op: lb.In, Values: []string{"gold"}}}}}
	pool := lb.Pool{Quotas: []lb.Quota{
		{IPv4: 9, IPv6: lb.NoLimit},
		{IPv4: 8, IPv6: lb.NoLimit},
		{NamespaceSelectors: gold, IPv4: 20, IPv6: 3},
		{Namespaces: []string{"shop"}, IPv4: 30, IPv6: lb.NoLimit},
		{Namespaces: []string{"shop", "bank"}, IPv4: 40, IPv6: lb.NoLimit},
		{Namespaces: []string{"jail"}, IPv4: 0, IPv6: 0},
	}}
	for _, tt := range []struct {
		namespace, class string
		v4, v6           int64
	}{
		{"other", "", 8, lb.NoLimit},
		{"other", "gold", 20, 3},
		{"shop", "", 30, lb.NoLimit},
		{"shop", "gold", 30, 3}, // the quotas that name it say nothing of IPv6
		{"bank", "gold", 40, 3},
		{"jail", "gold", 0, 0},
	} {
		ns := lb.Namespace{Name: tt.namespace, Labels: map[string]string{"class": tt.class}}
		if v4, v6 := pool.Limit(ns, lb.IPv4), pool.Limit(ns, lb.IPv6); v4 != tt.v4 || v6 != tt.v6 {
			t.Errorf("namespace %s of class %q: %d and %d, want %d and %d", tt.namespace, tt.class, v4, v6, tt.v4, tt.v6)
		}
	}
}

func TestReservationAdmits(t *testing.T) {
	t.Parallel()
	web := []lb.Selector{{Requirements: []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"web"}}}}}
	labels := map[string]string{"tier": "web"}
	for _, tt := range []struct {
		name   string
		r      lb.Reservation
		labels map[string]string
		want   bool
	}{
		{"for everybody", lb.Reservation{}, nil, true},
		{"by name", lb.Reservation{Services: []string{"a", "web"}}, nil, true},
		{"other name", lb.Reservation{Services: []string{"a"}}, labels, false},
		{"by label", lb.Reservation{ServiceSelectors: web}, labels, true},
		{"other label", lb.Reservation{ServiceSelectors: web}, nil, false},
		{"name or label", lb.Reservation{Services: []string{"web"}, ServiceSelectors: web}, nil, true},
	} {
		if got := tt.r.Admits("web", tt.labels); got != tt.want {
			t.Errorf("%s: Admits is %v", tt.name, got)
		}
	}
}
