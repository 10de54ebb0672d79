// SPDX-License-Identifier: Apache-2.0

package burst

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestCreateAndWait(t *testing.T) {
	t.Parallel()
	kube := fake.NewClientset()
	if err := Create(t.Context(), kube, "default", "load", "server", 40); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { done <- WaitAll(ctx, kube, "default", "load", 40) }()
	list, err := kube.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 40 {
		t.Fatalf("%d Services, error %v; want 40", len(list.Items), err)
	}
	for i := range list.Items {
		s := &list.Items[i]
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		if _, err := kube.CoreV1().Services("default").UpdateStatus(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("wait: %v", err)
	}
}

func TestDistinct(t *testing.T) {
	t.Parallel()
	ok := []Service{{"a", "x", []string{"192.0.2.1", "2001:db8::1"}}, {"a", "y", []string{"192.0.2.2"}}, {"a", "z", nil}}
	if err := Distinct(ok); err != nil {
		t.Errorf("distinct addresses: %v", err)
	}
	if n := Addressed(ok); n != 2 {
		t.Errorf("%d have an address, want 2", n)
	}
	err := Distinct(append(ok, Service{"b", "w", []string{"2001:db8::1"}}))
	if err == nil || !strings.Contains(err.Error(), "a/x and b/w both have 2001:db8::1") {
		t.Errorf("error %v does not name both holders", err)
	}
}
