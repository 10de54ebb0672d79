// SPDX-License-Identifier: Apache-2.0

package lb_test

import (
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/internal/core/lb"
)

func TestSelector(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"tier": "web", "zone": "a"}
	tests := []struct {
		name string
		reqs []lb.Requirement
		want bool
	}{
		{"empty matches everything", nil, true},
		{"in", []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"db", "web"}}}, true},
		{"in, other value", []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"db"}}}, false},
		{"in, absent", []lb.Requirement{{Key: "rack", Op: lb.In, Values: []string{""}}}, false},
		{"not in", []lb.Requirement{{Key: "tier", Op: lb.NotIn, Values: []string{"db"}}}, true},
		{"not in, same value", []lb.Requirement{{Key: "tier", Op: lb.NotIn, Values: []string{"web"}}}, false},
		{"not in, absent", []lb.Requirement{{Key: "rack", Op: lb.NotIn, Values: []string{"r1"}}}, true},
		{"exists", []lb.Requirement{{Key: "zone", Op: lb.Exists}}, true},
		{"exists, absent", []lb.Requirement{{Key: "rack", Op: lb.Exists}}, false},
		{"does not exist", []lb.Requirement{{Key: "rack", Op: lb.DoesNotExist}}, true},
		{"does not exist, present", []lb.Requirement{{Key: "zone", Op: lb.DoesNotExist}}, false},
		{"all must hold", []lb.Requirement{{Key: "zone", Op: lb.Exists}, {Key: "tier", Op: lb.In, Values: []string{"db"}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := (lb.Selector{Requirements: tt.reqs}).Matches(labels); got != tt.want {
				t.Errorf("Matches = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPinAllows(t *testing.T) {
	t.Parallel()
	web := lb.Selector{Requirements: []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"web"}}}}
	nothing := lb.Selector{Requirements: []lb.Requirement{{Key: "tier", Op: lb.In, Values: []string{"nobody"}}}}
	shop := lb.Namespace{Name: "shop", Labels: map[string]string{"tier": "web"}}
	tests := []struct {
		name   string
		pin    lb.Pin
		labels map[string]string
		want   bool
	}{
		{"no restriction", lb.Pin{}, nil, true},
		{"namespace by name", lb.Pin{Namespaces: []string{"shop"}}, nil, true},
		{"other namespace", lb.Pin{Namespaces: []string{"bank"}}, nil, false},
		{"name or label: union", lb.Pin{Namespaces: []string{"bank"}, NamespaceSelectors: []lb.Selector{web}}, nil, true},
		{"a selector that matches nothing does not disappear", lb.Pin{NamespaceSelectors: []lb.Selector{nothing}}, nil, false},
		{"service selector", lb.Pin{ServiceSelectors: []lb.Selector{web}}, map[string]string{"tier": "web"}, true},
		{"namespace and service are and-ed", lb.Pin{Namespaces: []string{"shop"}, ServiceSelectors: []lb.Selector{web}}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.pin.Allows(shop, tt.labels); got != tt.want {
				t.Errorf("Allows = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRangeContains(t *testing.T) {
	t.Parallel()
	r := lb.Range{From: netip.MustParseAddr("192.0.2.10"), To: netip.MustParseAddr("192.0.2.20")}
	for addr, want := range map[string]bool{
		"192.0.2.9": false, "192.0.2.10": true, "192.0.2.20": true, "192.0.2.21": false, "::ffff:192.0.2.15": false, "2001:db8::1": false,
	} {
		if got := r.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %v, want %v", addr, got, want)
		}
	}
}
