// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// having gives a Service addresses of the pool "main".
func having(addrs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{api.AnnotationAllocatedFromPool: "main"}
		for _, a := range addrs {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func asking(addrs string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[api.AnnotationLoadBalancerIPs] = addrs
	}
}

func dual(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"}
	}
}

// allocation is what the Services say after the writes: addresses, pools, reason.
func allocation(o snapshot.Objects) []string {
	var out []string
	for _, s := range o.Services {
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, in.IP)
		}
		line := fmt.Sprintf("%s %v %s", s.Name, ips, s.Annotations[api.AnnotationAllocatedFromPool])
		for _, c := range s.Status.Conditions {
			line += fmt.Sprintf(" %s %s: %s", c.Status, c.Reason, c.Message)
		}
		out = append(out, line)
	}
	return out
}

func TestHold(t *testing.T) {
	t.Parallel()
	open := func(name, version string, addrs ...string) []status.Underway {
		u := status.Underway{UID: service(name).UID, Version: version}
		for _, a := range addrs {
			u.Addresses = append(u.Addresses, netip.MustParseAddr(a))
		}
		return []status.Underway{u}
	}
	tests := []struct {
		name         string
		in           []*corev1.Service
		open         []status.Underway
		first, later []string // after the first round, and after the second
	}{
		{
			name: "two Services swap",
			in:   []*corev1.Service{service("a", having("192.0.2.1"), asking("192.0.2.2")), service("b", having("192.0.2.2"), asking("192.0.2.1"))},
			first: []string{
				"a []  False AddressFreeing: 192.0.2.2 is being taken from Service shop/b, and follows",
				"b []  False AddressFreeing: 192.0.2.1 is being taken from Service shop/a, and follows",
			},
			later: []string{
				`a [192.0.2.2] main True AddressAssigned: 192.0.2.2 from pool "main"`,
				`b [192.0.2.1] main True AddressAssigned: 192.0.2.1 from pool "main"`,
			},
		},
		{
			name: "PreferDualStack: the other family does not wait",
			in:   []*corev1.Service{service("a", having("192.0.2.0"), asking("192.0.2.3")), service("b", dual(corev1.IPFamilyPolicyPreferDualStack))},
			first: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b [2001:db8::] main False AddressFreeing: 192.0.2.0 is being taken from Service shop/a, and follows; has 2001:db8::`,
			},
			later: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b [192.0.2.0 2001:db8::] main True AddressAssigned: 192.0.2.0 from pool "main" and 2001:db8:: from pool "main"`,
			},
		},
		{
			name: "RequireDualStack: both or nothing",
			in:   []*corev1.Service{service("a", having("192.0.2.0"), asking("192.0.2.3")), service("b", dual(corev1.IPFamilyPolicyRequireDualStack))},
			first: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b []  False AddressFreeing: 192.0.2.0 is being taken from Service shop/a, and follows`,
			},
			later: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b [192.0.2.0 2001:db8::] main True AddressAssigned: 192.0.2.0 from pool "main" and 2001:db8:: from pool "main"`,
			},
		},
		{
			name: "a request under way may give it to another Service",
			in:   []*corev1.Service{service("a", asking("192.0.2.3")), service("b")},
			open: open("a", "5", "192.0.2.0"),
			first: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b []  False AddressFreeing: 192.0.2.0 is being taken from Service shop/a, and follows`,
			},
			later: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b [192.0.2.0] main True AddressAssigned: 192.0.2.0 from pool "main"`,
			},
		},
		{
			name: "a request for an older version can do nothing any more",
			in:   []*corev1.Service{service("a", asking("192.0.2.3")), service("b")},
			open: open("a", "4", "192.0.2.0"),
			first: []string{
				`a [192.0.2.3] main True AddressAssigned: 192.0.2.3 from pool "main"`,
				`b [192.0.2.0] main True AddressAssigned: 192.0.2.0 from pool "main"`,
			},
		},
		{
			name:  "a request to a Service that is not seen",
			in:    []*corev1.Service{service("b")},
			open:  open("a", "4", "192.0.2.0"),
			first: []string{`b []  False AddressFreeing: 192.0.2.0 is being taken from a Service that cannot be read now, and follows`},
			later: []string{`b [192.0.2.0] main True AddressAssigned: 192.0.2.0 from pool "main"`},
		},
		{
			name: "its own request under way does not hold a Service up",
			in:   []*corev1.Service{service("a")},
			open: open("a", "5", "192.0.2.0"),
			first: []string{
				`a [192.0.2.0] main True AddressAssigned: 192.0.2.0 from pool "main"`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := opt
			first.Underway = tt.open
			o := cluster(tt.in...)
			writes := round(o, first)
			for _, w := range writes {
				for _, e := range w.Events {
					if e.Reason == api.EventAllocationFailed {
						t.Errorf("event %v: nothing has failed", e)
					}
				}
			}
			o = apply(t, o, writes)
			if diff := cmp.Diff(tt.first, allocation(o)); diff != "" {
				t.Errorf("first round (-want +got):\n%s", diff)
			}
			if tt.later == nil {
				tt.later = tt.first
			}
			o = apply(t, o, round(o, later))
			if diff := cmp.Diff(tt.later, allocation(o)); diff != "" {
				t.Errorf("second round (-want +got):\n%s", diff)
			}
		})
	}
}

// A Service that needs no write gets one if another write to it is under way:
// a new version keeps that one out.
func TestUnderwayForcesAWrite(t *testing.T) {
	t.Parallel()
	o := cluster(service("a"))
	o = apply(t, o, round(o, opt))
	before := slices.Clone(o.Services[0].Status.Conditions)
	if w := round(o, opt); len(w) > 0 {
		t.Fatalf("not settled: %s", w[0].Patch)
	}
	force := opt
	force.Underway = []status.Underway{{UID: o.Services[0].UID, Version: o.Services[0].ResourceVersion}}
	writes := round(o, force)
	if len(writes) != 1 || writes[0].Moves || len(writes[0].Events) > 0 || !strings.Contains(string(writes[0].Patch), `"resourceVersion":"5"`) {
		t.Fatalf("writes %v, want one to the Service", writes)
	}
	o = apply(t, o, writes)
	before[0].LastTransitionTime = metav1.NewTime(before[0].LastTransitionTime.Add(time.Second))
	if diff := cmp.Diff(before, o.Services[0].Status.Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}
