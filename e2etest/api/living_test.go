// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// TestLivingService changes one Service in all the ways that touch its addresses, and says after each what it has and why.
// Its first address stays in every change of the Service that somebody who watches can see, as long as it asks for it.
func TestLivingService(t *testing.T) {
	t.Parallel()
	c := newControllers(t, bothFamilies()...)
	c.start(t).ready(t)
	c.make(t, pools, herald, `{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: main}, spec: {addresses: [192.0.2.0/30]}}`)
	w, err := c.kube.CoreV1().Services("shop").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=web"})
	c.must(t, err)
	defer w.Stop()
	c.must(t, c.balancer(t.Context(), "shop", "web"))
	c.must(t, c.balancer(t.Context(), "shop", "other"))

	const single, dual = `{"spec":{"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4"]}}`, `{"spec":{"ipFamilyPolicy":%q,"ipFamilies":["IPv4","IPv6"]}}`
	const ask = `{"metadata":{"annotations":{"metallb.io/loadBalancerIPs":%s}}}`
	for _, step := range []struct{ name, patch, pool, want string }{
		{"created", "", "", `192.0.2.0; AddressAssigned: `},
		{"both families, of which there is one", fmt.Sprintf(dual, "PreferDualStack"), "", `192.0.2.0; SecondFamilyMissing: 192.0.2.0 from pool "main"; pool "main" has no IPv6 addresses`},
		{"both are required, and there is one", fmt.Sprintf(dual, "RequireDualStack"), "", `192.0.2.0; DualStackUnavailable: pool "main" has no IPv6 addresses`},
		{"the pool gets the other one", "", `{"spec":{"addresses":["192.0.2.0/30","2001:db8::/126"]}}`, `192.0.2.0 2001:db8::; AddressAssigned: `},
		{"both are preferred", fmt.Sprintf(dual, "PreferDualStack"), "", `192.0.2.0 2001:db8::; AddressAssigned: `},
		{"one family again", single, "", `192.0.2.0; AddressAssigned: `},
		{"both are required at once", fmt.Sprintf(dual, "RequireDualStack"), "", `192.0.2.0 2001:db8::; AddressAssigned: `},
		{"one family at once", single, "", `192.0.2.0; AddressAssigned: `},
		{"another type", `{"spec":{"type":"NodePort"}}`, "", `; `},
		{"of another class", `{"spec":{"type":"LoadBalancer","loadBalancerClass":"other/class"}}`, "", `; `},
		{"another type", `{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`, "", `; `},
		{"a balancer again, which comes back", `{"spec":{"type":"LoadBalancer"}}`, "", `192.0.2.0; AddressAssigned: `},
		{"asks for what another one has", fmt.Sprintf(ask, `"192.0.2.1"`), "", `; AddressInUse: 192.0.2.1 belongs to Service shop/other`},
		{"asks for another one", fmt.Sprintf(ask, `"192.0.2.3"`), "", `192.0.2.3; AddressAssigned: `},
		{"asks for what no pool has", fmt.Sprintf(ask, `"198.51.100.1"`), "", `192.0.2.3; AddressNotInPool: 198.51.100.1 is in no pool`},
		{"asks for nothing", fmt.Sprintf(ask, "null"), "", `192.0.2.3; AddressAssigned: `},
	} {
		if step.patch != "" {
			_, err := c.kube.CoreV1().Services("shop").Patch(t.Context(), "web", types.MergePatchType, []byte(step.patch), metav1.PatchOptions{})
			c.must(t, err)
		}
		if step.pool != "" {
			_, err := c.objects.Resource(pools).Namespace(herald).Patch(t.Context(), "main", types.MergePatchType, []byte(step.pool), metav1.PatchOptions{})
			c.must(t, err)
		}
		eventually(t, step.name+": "+step.want, func(ctx context.Context) error {
			s, err := c.kube.CoreV1().Services("shop").Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := living(s); !strings.HasPrefix(got, step.want) || (step.want == "; " && got != step.want) {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		})
	}
	stayed(t, w.ResultChan(), "192.0.2.0")
}

// stayed goes through all changes of a Service until its type changes: from the first address on, that one is the first.
func stayed(t *testing.T, changes <-chan watch.Event, address string) {
	t.Helper()
	seen := 0
	for e := range changes {
		s, ok := e.Object.(*corev1.Service)
		switch {
		case !ok:
			t.Fatalf("the watch ended with %v", e.Object)
		case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
			if seen < 10 {
				t.Errorf("%d changes seen, want more", seen)
			}
			return
		case address0(s) == address:
			seen++
		case seen > 0:
			t.Errorf("change %d: the first address is %q", seen, address0(s))
		}
	}
	t.Fatal("the watch ended before the Service was of another type")
}

// living is what a Service has, and why.
func living(s *corev1.Service) string {
	var has []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		has = append(has, in.IP)
	}
	out := strings.Join(has, " ") + "; "
	for _, cond := range s.Status.Conditions {
		if cond.Type == "heraldlb.io/Allocated" {
			out += cond.Reason + ": " + cond.Message
		}
	}
	return out
}
