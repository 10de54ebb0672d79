// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// bothFamilies makes an API server that gives Services IPv4 and IPv6.
func bothFamilies() []string {
	return []string{"--service-cluster-ip-range", "10.96.0.0/16,fd00:96::/108"}
}

// quotaLimits are the pools of TestQuotaTakeover, and how many of their addresses the namespace shop may hold.
func quotaLimits() map[string]int {
	return map[string]int{"192.0.2.0/24": 10, "2001:db8::/64": 7, "198.51.100.0/24": 3}
}

// meter counts what a namespace holds, change by change.
type meter struct {
	mu       sync.Mutex // guards everything below
	services map[string]*corev1.Service
	wrong    []string
	gifts    int
}

func measure(t *testing.T, c *controllers, ns string) *meter {
	t.Helper()
	w, err := c.kube.CoreV1().Services(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{services: map[string]*corev1.Service{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if s, ok := e.Object.(*corev1.Service); ok {
				m.event(e.Type, s)
			}
		}
	}()
	t.Cleanup(func() { w.Stop(); <-done })
	return m
}

func (m *meter) event(kind watch.EventType, s *corev1.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.services[s.Name]
	delete(m.services, s.Name)
	if kind == watch.Deleted {
		return
	}
	m.services[s.Name] = s
	if before != nil && len(addressesOf(before)) < len(addressesOf(s)) {
		m.gifts++
	}
	for prefix, limit := range quotaLimits() {
		if n := m.holds(prefix); n > limit {
			m.wrong = append(m.wrong, fmt.Sprintf("after a change of %s the namespace holds %d of %s, more than %d", s.Name, n, prefix, limit))
		}
	}
}

// holds counts addresses; m is locked.
func (m *meter) holds(prefix string) int {
	p := netip.MustParsePrefix(prefix)
	seen := map[string]bool{}
	for _, s := range m.services {
		for _, a := range addressesOf(s) {
			if p.Contains(netip.MustParseAddr(a)) {
				seen[a] = true
			}
		}
	}
	return len(seen)
}

func (m *meter) failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.wrong) > 0
}

func (m *meter) given() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gifts
}

// complete says what is missing until all quotas are used up and everybody knows what he has, or why not.
func (m *meter) complete(services int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.wrong) > 0 {
		return nil // and the test ends
	}
	if len(m.services) != services {
		return fmt.Errorf("%d Services, want %d", len(m.services), services)
	}
	for prefix, limit := range quotaLimits() {
		if n := m.holds(prefix); n != limit {
			return fmt.Errorf("the namespace holds %d of %s, want %d", n, prefix, limit)
		}
	}
	for name, s := range m.services {
		has, policy, said := len(addressesOf(s)), *s.Spec.IPFamilyPolicy, ""
		for _, c := range s.Status.Conditions {
			if c.Type == "heraldlb.io/Allocated" {
				said = c.Reason + ": " + c.Message
			}
		}
		want := "QuotaExceeded: "
		switch {
		case has == 2 || (has == 1 && policy == corev1.IPFamilyPolicySingleStack):
			want = "AddressAssigned: "
		case has == 1 && policy == corev1.IPFamilyPolicyPreferDualStack:
			want = "SecondFamilyMissing: "
		}
		if !strings.HasPrefix(said, want) || (has == 0 && !strings.Contains(said, "namespace shop, which holds ")) {
			return fmt.Errorf("%s (%s) has %v and says %q, want %s", name, policy, addressesOf(s), said, want)
		}
	}
	return nil
}

// TestQuotaTakeover creates 100 Services at once, of one family, the other, and both, in a namespace with quotas, and
// kills the leader in the middle: its successor must not give more than is left. Then those with addresses go and come
// back, while others wait for what becomes free.
func TestQuotaTakeover(t *testing.T) {
	t.Parallel()
	c := newControllers(t, bothFamilies()...)
	leader := c.start(t)
	leader.ready(t)
	c.make(t, pools, herald, `{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: main},
spec: {addresses: [192.0.2.0/24, "2001:db8::/64"], quotas: [{namespaces: [shop], ipv4: 10}, {ipv6: 7}]}}`)
	c.make(t, pools, herald, `{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: more},
spec: {addresses: [198.51.100.0/24], quotas: [{ipv4: 3}]}}`)
	m := measure(t, c, "shop")
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, problem := range m.wrong[:min(5, len(m.wrong))] {
			t.Error(problem)
		}
	}()
	const services = 100
	for round := 0; round < 3 && !m.failed(); round++ {
		next := c.start(t)
		next.ready(t)
		enough := m.given() + 3
		missing := c.remove(t, m)
		if round == 0 {
			for i := range services {
				missing = append(missing, i)
			}
		}
		var wg sync.WaitGroup
		for _, i := range missing {
			wg.Go(func() {
				if err := c.stacked(t.Context(), "shop", i); err != nil {
					t.Error(err)
				}
			})
		}
		eventually(t, "some have addresses", func(context.Context) error {
			if m.given() < enough {
				return errors.New("not yet")
			}
			return nil
		})
		if err := leader.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-leader.done; err == nil {
			t.Error("a killed controller ended well")
		}
		t.Logf("round %d: the leader is killed after %d gifts", round, m.given())
		c.loseLease(t)
		wg.Wait()
		leader = next
		eventually(t, "quotas are used up, and all know", func(context.Context) error { return m.complete(services) })
	}
}

// stacked creates the i-th Service.
func (c *controllers) stacked(ctx context.Context, ns string, i int) error {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%02d", i)},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	policies := []corev1.IPFamilyPolicy{
		corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack,
	}
	s.Spec.IPFamilyPolicy = &policies[i%4]
	s.Spec.IPFamilies = [][]corev1.IPFamily{
		{corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol},
	}[i%4]
	_, err := c.kube.CoreV1().Services(ns).Create(ctx, s, metav1.CreateOptions{})
	return err
}

// remove deletes the Services that have addresses, all but two of them, and returns their numbers.
func (c *controllers) remove(t *testing.T, m *meter) []int {
	t.Helper()
	m.mu.Lock()
	var out []int
	for name, s := range m.services {
		var i int
		if _, err := fmt.Sscanf(name, "web-%d", &i); err != nil {
			t.Fatal(err)
		}
		if len(addressesOf(s)) > 0 {
			out = append(out, i)
		}
	}
	m.mu.Unlock()
	out = out[min(2, len(out)):]
	for _, i := range out {
		c.must(t, c.kube.CoreV1().Services("shop").Delete(t.Context(), fmt.Sprintf("web-%02d", i), metav1.DeleteOptions{}))
	}
	return out
}

// loseLease lets the next replica lead without waiting for the Lease to end.
func (c *controllers) loseLease(t *testing.T) {
	t.Helper()
	err := c.kube.CoordinationV1().Leases(herald).Delete(t.Context(), "herald-controller", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}
