// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// shown lists what Services have, and why.
func shown(o snapshot.Objects) []string {
	var out []string
	for _, s := range o.Services {
		line := s.Name
		for _, in := range s.Status.LoadBalancer.Ingress {
			line += " " + in.IP
		}
		i := len(s.Status.Conditions) - 1
		out = append(out, line+" "+s.Status.Conditions[i].Reason)
	}
	return out
}

// TestQuotaOtherPool: an address in two pools counts for one of them, and then for the other. That makes room in the quota of the
// first, but not before the Service says so.
func TestQuotaOtherPool(t *testing.T) {
	t.Parallel()
	one := int32(1)
	o := cluster(service("old"), service("web", func(s *corev1.Service) { s.Labels = map[string]string{"tier": "web"} }))
	o.Pools[0].Spec.Quotas = []v1beta1.NamespaceQuota{{IPv4: &one}}
	step := func(want ...string) {
		t.Helper()
		o = apply(t, o, round(o, opt))
		if diff := cmp.Diff(want, shown(o)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	step("old 192.0.2.0 AddressAssigned", "web QuotaExceeded")
	o.Pools[0].Spec.AllocateTo = &v1beta1.ServiceAllocation{ServiceSelectors: []v1beta1.LabelSelector{{MatchLabels: map[string]string{"tier": "web"}}}}
	younger := o.Pools[0].DeepCopy()
	younger.Name, younger.CreationTimestamp = "younger", metav1.NewTime(younger.CreationTimestamp.Add(time.Hour))
	younger.Spec = v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/32"}}
	o.Pools = append(o.Pools, younger)
	step("old 192.0.2.0 AddressKept", "web AddressFreeing")
	step("old 192.0.2.0 AddressKept", "web 192.0.2.1 AddressAssigned")
}

// TestQuotaFreeing: where one Service has to give up an address so that
// another of its namespace may have one, the requests are in that order.
func TestQuotaFreeing(t *testing.T) {
	t.Parallel()
	one := int32(1)
	o := cluster(service("first", func(s *corev1.Service) { s.Namespace = "bank" }), service("old"), service("waits"))
	o.Pools[0].Spec.Quotas = []v1beta1.NamespaceQuota{{IPv4: &one}}
	second := o.Pools[0].DeepCopy()
	second.Name, second.Spec = "second", v1beta1.IPAddressPoolSpec{Addresses: []string{"198.51.100.0/30"}, AutoAssign: new(bool)}
	o.Pools = append(o.Pools, second)
	step := func(want ...string) {
		t.Helper()
		o = apply(t, o, round(o, opt))
		if diff := cmp.Diff(want, shown(o)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	step("first 192.0.2.0 AddressAssigned", "old 192.0.2.1 AddressAssigned", "waits QuotaExceeded")
	// The lowest free address is not the one that becomes free.
	o.Services = o.Services[1:]
	o.Services[0].Annotations[api.AnnotationAddressPool] = "second"
	step("old 198.51.100.0 AddressAssigned", "waits AddressFreeing")
	step("old 198.51.100.0 AddressAssigned", "waits 192.0.2.0 AddressAssigned")
	if again := round(o, later); len(again) > 0 {
		t.Errorf("a settled cluster causes %d writes", len(again))
	}
}

// TestQuotaUnderway: a request whose outcome is not known may still give a
// Service what counts in a quota. Nobody gets the last address before that is
// settled.
func TestQuotaUnderway(t *testing.T) {
	t.Parallel()
	one := int32(1)
	late := service("late")
	open := func(version string, addrs ...string) status.Underway {
		u := status.Underway{Namespace: late.Namespace, UID: late.UID, Version: version}
		for _, a := range addrs {
			u.Addresses = append(u.Addresses, netip.MustParseAddr(a))
		}
		return u
	}
	const given, exceeded = "asks [192.0.2.2] AddressAssigned", "late [] QuotaExceeded"
	tests := []struct {
		name   string
		in     []*corev1.Service
		open   []status.Underway
		first  []string
		second []string // nil: the same
	}{
		{
			name: "it may reach a Service that is not to have it",
			in:   []*corev1.Service{service("asks", asking("192.0.2.2")), late}, open: []status.Underway{open("5", "192.0.2.0")},
			first: []string{"asks [] AddressFreeing", exceeded}, second: []string{given, exceeded},
		},
		{
			name: "it is for an older version",
			in:   []*corev1.Service{service("asks", asking("192.0.2.2")), late}, open: []status.Underway{open("4", "192.0.2.0")},
			first: []string{given, exceeded},
		},
		{
			name: "it is about the other family",
			in:   []*corev1.Service{service("asks", asking("192.0.2.2")), late}, open: []status.Underway{open("5", "2001:db8::1")},
			first: []string{given, exceeded},
		},
		{
			name: "its Service cannot be read",
			in:   []*corev1.Service{service("asks", asking("192.0.2.2"))}, open: []status.Underway{open("5", "192.0.2.0")},
			first: []string{"asks [] AddressFreeing"}, second: []string{given},
		},
		{
			name: "it is in another namespace",
			in:   []*corev1.Service{service("asks", asking("192.0.2.2"))}, open: []status.Underway{{Namespace: "bank", UID: "x", Version: "5", Addresses: open("5", "192.0.2.0").Addresses}},
			first: []string{given},
		},
		{
			name: "it is about the same Service",
			in:   []*corev1.Service{service("late", asking("192.0.2.2"))}, open: []status.Underway{open("5", "192.0.2.0")},
			first: []string{"late [192.0.2.2] AddressAssigned"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := cluster(tt.in...)
			o.Pools[0].Spec.Quotas = []v1beta1.NamespaceQuota{{IPv4: &one}}
			shown := func(o snapshot.Objects) []string {
				var out []string
				for _, s := range o.Services {
					var ips []string
					for _, in := range s.Status.LoadBalancer.Ingress {
						ips = append(ips, in.IP)
					}
					out = append(out, fmt.Sprintf("%s %v %s", s.Name, ips, s.Status.Conditions[len(s.Status.Conditions)-1].Reason))
				}
				return out
			}
			first := opt
			first.Underway = tt.open
			o = apply(t, o, round(o, first))
			if diff := cmp.Diff(tt.first, shown(o)); diff != "" {
				t.Errorf("first round (-want +got):\n%s", diff)
			}
			if tt.second == nil {
				tt.second = tt.first
			}
			o = apply(t, o, round(o, later))
			if diff := cmp.Diff(tt.second, shown(o)); diff != "" {
				t.Errorf("second round (-want +got):\n%s", diff)
			}
		})
	}
}
