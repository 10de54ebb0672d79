// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/heraldlb/herald/api"
)

// planPage returns what /debug/plan shows.
func planPage(c *Controller) string {
	w := httptest.NewRecorder()
	c.page.ServeHTTP(w, httptest.NewRequest("GET", "/debug/plan", nil))
	return w.Body.String()
}

func TestSecretIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		c := fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.CreateOption) error {
				if failures > 0 {
					failures--
					return errors.New("the API server is away")
				}
				return c.Create(ctx, obj, o...)
			},
		}).Build()
		var log bytes.Buffer
		replica := func(l *slog.Logger) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- keepSecret(ctx, c, ns, "memberlist", l) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		read := func() *corev1.Secret {
			var s corev1.Secret
			if err := c.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: "memberlist"}, &s); err != nil {
				t.Fatal(err)
			}
			return &s
		}
		stop := replica(slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		first := read()
		key, err := base64.StdEncoding.DecodeString(string(first.Data["secretkey"]))
		if err != nil || len(key) != secretBytes || bytes.Count(key, []byte{0}) > secretBytes/4 {
			t.Errorf("key of %d bytes, error %v", len(key), err)
		}

		// A second replica leaves it as it is, and knows it from then on.
		stop2 := replica(discard())
		time.Sleep(time.Second)
		stop()
		if err := c.Delete(t.Context(), first.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(secretInterval)
		synctest.Wait()
		if again := read(); !bytes.Equal(first.Data["secretkey"], again.Data["secretkey"]) {
			t.Error("the deleted Secret came back with another key")
		}
		stop2()
		if strings.Contains(log.String(), string(first.Data["secretkey"])) {
			t.Error("the key is in the log")
		}
	})
}

// former returns a Service that was a load balancer once.
func former(name string) *corev1.Service {
	s := service(name, "main")
	s.Spec.Type = corev1.ServiceTypeClusterIP
	s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	s.Status.Conditions = []metav1.Condition{{Type: api.ConditionAllocated}, {Type: api.ConditionAnnounced}}
	s.ResourceVersion = ""
	return s
}

func fakeAPI(t *testing.T, objs ...client.Object) *fake.ClientBuilder {
	return fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(objs...).WithStatusSubresource(&corev1.Service{}).
		// The fake client filters by fields only where it has an index.
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				var o client.ListOptions
				for _, opt := range opts {
					opt.ApplyToList(&o)
				}
				if want := "spec.type!=LoadBalancer"; o.FieldSelector == nil || o.FieldSelector.String() != want {
					t.Errorf("list with field selector %v, want %s", o.FieldSelector, want)
				}
				return c.List(ctx, list)
			},
			// The real one keeps changes of annotations on this path; the fake
			// one drops them.
			SubResourcePatch: func(ctx context.Context, c client.Client, _ string, obj client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
				if err := c.Patch(ctx, obj.DeepCopyObject().(client.Object), p); err != nil {
					return err
				}
				var s corev1.Service
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), &s); err != nil {
					return err
				}
				s.Status.Conditions = nil
				return c.Status().Update(ctx, &s)
			},
		})
}

func TestReleaserSweepsAndFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		balancer := service("balancer", "main")
		balancer.ResourceVersion = ""
		var lists int
		c := interceptor.NewClient(fakeAPI(t, former("before"), former("later"), balancer).Build(), interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
				if lists++; lists == 1 {
					return errors.New("the API server is away")
				}
				return c.List(ctx, l, o...)
			},
		})
		// "later" is still a load balancer at first.
		var s corev1.Service
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "later"}, &s); err != nil {
			t.Fatal(err)
		}
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		if err := c.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}

		r := newReleaser(discard())
		r.add(&s) // not leading: nothing to do
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.run(ctx, c) }()
		synctest.Wait()
		if lists != 1 {
			t.Fatalf("%d lists at the start, want 1", lists)
		}
		time.Sleep(releaseRetry)
		synctest.Wait()

		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "before"}, &s); err != nil || s.Annotations[api.AnnotationAllocatedFromPool] != "" {
			t.Errorf("the sweep left %v (error %v)", s.Annotations, err)
		}
		for _, name := range []string{"later", "balancer"} {
			if err := c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: name}, &s); err != nil || s.Annotations[api.AnnotationAllocatedFromPool] != "main" {
				t.Errorf("%s is a load balancer and was touched: %v (error %v)", name, s.Annotations, err)
			}
		}

		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "later"}, &s); err != nil {
			t.Fatal(err)
		}
		s.Spec.Type = corev1.ServiceTypeNodePort
		if err := c.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		r.add(&s)
		r.add(service("deleted", "main")) // gone altogether: fine
		synctest.Wait()
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "later"}, &s); err != nil || s.Annotations[api.AnnotationAllocatedFromPool] != "" {
			t.Errorf("left on a Service that changed its type: %v (error %v)", s.Annotations, err)
		}
		if diff := cmp.Diff(0, len(r.take())); diff != "" {
			t.Errorf("still pending (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}
