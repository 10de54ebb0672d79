// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

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
	shown := func(o snapshot.Objects) []string {
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
