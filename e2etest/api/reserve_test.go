// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

var ipReservations = schema.GroupVersionResource{Group: "heraldlb.io", Version: "v1alpha1", Resource: "ipreservations"}

// TestReserve runs the controller against a real API server: quotas under load, reservations, and what is remembered of
// Services that are gone, also by the next controller.
func TestReserve(t *testing.T) {
	t.Parallel()
	c := newControllers(t)
	first := c.start(t)
	c.make(t, pools, herald, `{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: main},
spec: {addresses: [192.0.2.0/24], quotas: [{namespaces: [shop], ipv4: 10}]}}`)
	first.ready(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a quota holds under 100 parallel creations", c.quota},
		{"a reservation keeps an address before and after", c.reserved},
		{"a Service that comes back has its address back", func(t *testing.T) { c.remembers(t, first) }},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// newControllers starts an API server, and makes what a controller needs.
func newControllers(t *testing.T, flags ...string) *controllers {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(root, "bin", "controller"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make build builds it", program)
		}
		t.Skipf("SKIPPED: %s is missing: make build builds it", program)
	}
	c := &controllers{config: startServer(t, flags...), program: program, dir: t.TempDir()}
	if c.kube, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{herald, "shop", "bank"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		eventually(t, "make namespace "+name, func(ctx context.Context) error {
			_, err := c.kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
			return err
		})
	}
	install(t, c.objects, "test", readCRDs(t))
	return c
}

func (c *controllers) make(t *testing.T, gvr schema.GroupVersionResource, ns, manifest string) {
	t.Helper()
	u := object(t, manifest)
	u.SetNamespace(ns)
	eventually(t, "make "+u.GetName(), func(ctx context.Context) error {
		_, err := c.objects.Resource(gvr).Namespace(ns).Create(ctx, u, metav1.CreateOptions{})
		return err
	})
}

func (c *controllers) balancer(ctx context.Context, ns, name string) error {
	_, err := c.kube.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	return err
}

// quota creates 100 Services at once in a namespace that may have 10 addresses, and watches every change.
func (c *controllers) quota(t *testing.T) {
	w, err := c.kube.CoreV1().Services("shop").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := c.balancer(t.Context(), "shop", fmt.Sprintf("web-%02d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	const why = `pool "main" has a quota of 10 IPv4 addresses for namespace shop, which holds 10`
	state := map[string]string{}
	deadline := time.After(time.Minute)
	for {
		has, waits := 0, 0
		for _, s := range state {
			switch {
			case strings.HasPrefix(s, "192.0.2."):
				has++
			case s == "QuotaExceeded: "+why:
				waits++
			}
		}
		if has > 10 {
			t.Fatalf("%d addresses, more than the quota of 10: %v", has, state)
		}
		if has == 10 && waits == 90 {
			return
		}
		select {
		case e := <-w.ResultChan():
			if s, ok := e.Object.(*corev1.Service); ok && e.Type != watch.Deleted {
				state[s.Name] = allocated(s)
			}
		case <-deadline:
			t.Fatalf("%d with an address, %d that know of the quota, of 100: %v", has, waits, state)
		}
	}
}

// allocated is the address of a Service, or why it has none.
func allocated(s *corev1.Service) string {
	if a := address0(s); a != "" {
		return a
	}
	for _, cond := range s.Status.Conditions {
		if cond.Type == "heraldlb.io/Allocated" {
			return cond.Reason + ": " + cond.Message
		}
	}
	return ""
}

func (c *controllers) shows(t *testing.T, ns, name, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s/%s shows %q", ns, name, want), func(ctx context.Context) error {
		s, err := c.kube.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := allocated(s); got != want {
			return fmt.Errorf("it shows %q", got)
		}
		return nil
	})
}

func (c *controllers) reserved(t *testing.T) {
	c.make(t, ipReservations, "bank", `{apiVersion: heraldlb.io/v1alpha1, kind: IPReservation, metadata: {name: desk}, spec: {pool: main, ipv4: 2, services: [desk]}}`)
	c.holds(t, "2/2", "192.0.2.10 192.0.2.11", "Free", "Free")
	c.must(t, c.balancer(t.Context(), "bank", "other"))
	c.shows(t, "bank", "other", "192.0.2.12")
	for range 2 {
		c.must(t, c.balancer(t.Context(), "bank", "desk"))
		c.shows(t, "bank", "desk", "192.0.2.10")
		c.holds(t, "2/2", "192.0.2.10 192.0.2.11", "InUse", "Free")
		c.must(t, c.kube.CoreV1().Services("bank").Delete(t.Context(), "desk", metav1.DeleteOptions{}))
		c.holds(t, "2/2", "192.0.2.10 192.0.2.11", "Free", "Free")
	}
}

func (c *controllers) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds waits until the reservation shows what it holds.
func (c *controllers) holds(t *testing.T, held, list string, states ...string) {
	t.Helper()
	eventually(t, "the reservation holds "+held, func(ctx context.Context) error {
		u, err := c.objects.Resource(ipReservations).Namespace("bank").Get(ctx, "desk", metav1.GetOptions{})
		if err != nil {
			return err
		}
		gotHeld, _, _ := unstructured.NestedString(u.Object, "status", "held")
		gotList, _, _ := unstructured.NestedString(u.Object, "status", "addressList")
		addresses, _, _ := unstructured.NestedSlice(u.Object, "status", "addresses")
		var got []string
		for _, a := range addresses {
			state, _, _ := unstructured.NestedString(a.(map[string]any), "state")
			got = append(got, state)
		}
		if gotHeld != held || gotList != list || strings.Join(got, " ") != strings.Join(states, " ") {
			return fmt.Errorf("it has %s: %s, %v", gotHeld, gotList, got)
		}
		return nil
	})
}

// remembers deletes a Service, kills the controller, and creates another Service and the first one again.
func (c *controllers) remembers(t *testing.T, first *replica) {
	c.shows(t, "bank", "other", "192.0.2.12")
	c.must(t, c.kube.CoreV1().Services("bank").Delete(t.Context(), "other", metav1.DeleteOptions{}))
	eventually(t, "what it had is stored", func(ctx context.Context) error {
		m, err := c.kube.CoreV1().ConfigMaps(herald).Get(ctx, "herald-remembered", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !strings.Contains(m.Data["remembered"], " bank/other 192.0.2.12\n") {
			return fmt.Errorf("remembered: %q", m.Data["remembered"])
		}
		return nil
	})
	c.must(t, first.cmd.Process.Kill())
	if err := <-first.done; err == nil {
		t.Error("a killed controller ended well")
	}
	c.start(t)
	c.must(t, c.balancer(t.Context(), "bank", "next"))
	c.shows(t, "bank", "next", "192.0.2.13")
	c.must(t, c.balancer(t.Context(), "bank", "other"))
	c.shows(t, "bank", "other", "192.0.2.12")
}
