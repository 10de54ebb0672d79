// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

const ns = "herald"

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s, err := kube.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := metav1.AddMetaToScheme(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// fakeCluster is the cluster of a test: what is read, and what was written.
type fakeCluster struct {
	objs     snapshot.Objects
	err      error
	written  []string // kind and name
	outcome  kube.Outcome
	steps    []string // other requests
	underway []status.Underway
	fail     map[string]error
}

func (f *fakeCluster) Read(context.Context) (snapshot.Objects, error) { return f.objs, f.err }

func (f *fakeCluster) CatchUp(context.Context) error  { return f.step("catch up") }
func (f *fakeCluster) TakeOver(context.Context) error { return f.step("take over") }
func (f *fakeCluster) Settle(context.Context) error   { return f.step("settle") }
func (f *fakeCluster) Underway() []status.Underway    { return f.underway }

func (f *fakeCluster) step(what string) error {
	f.steps = append(f.steps, what)
	return f.fail[what]
}

func (f *fakeCluster) Apply(_ context.Context, writes []status.Write) kube.Outcome {
	for _, w := range writes {
		f.written = append(f.written, w.Object.GetName())
	}
	out := f.outcome
	out.Written = len(writes)
	return out
}

func (f *fakeCluster) take() []string {
	out := f.written
	f.written = nil
	return out
}

func newController(t *testing.T, f *fakeCluster, objs ...client.Object) *Controller {
	direct := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(objs...).Build()
	return &Controller{
		opts: Options{Namespace: ns}, log: discard(), metrics: telemetry.NewControllerMetrics(),
		cluster: f, writer: f, direct: direct, guard: &guard{client: direct, log: discard()},
		memory: newMemory(0, nil, discard()),
	}
}

func pool(name string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/28"}},
	}
}

func service(name, fromPool string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: "1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}},
	}
	if fromPool != "" {
		s.Annotations = map[string]string{"metallb.io/ip-allocated-from-pool": fromPool}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
	}
	return s
}

func TestSyncPlansAndWrites(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{objs: snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool("main")}, Services: []*corev1.Service{service("web", "")}}}
	c := newController(t, f)
	c.leading.Store(true)
	if c.ready() == nil {
		t.Error("a leader is ready before its first plan")
	}
	again, err := c.sync(t.Context())
	if again != 0 || err != nil {
		t.Errorf("sync: again in %v, error %v", again, err)
	}
	if diff := cmp.Diff([]string{"web", "main", "controller"}, f.take()); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if err := c.ready(); err != nil {
		t.Errorf("not ready after the first plan: %v", err)
	}
	want := []telemetry.Row{{Labels: []string{"main"}, Value: 1}}
	if diff := cmp.Diff(want, c.metrics.Allocator.InUse.Rows()); diff != "" {
		t.Errorf("addresses in use (-want +got):\n%s", diff)
	}
}

func TestSyncChangesNothingWithoutACompleteReading(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{err: &kube.NotSyncedError{Waiting: []string{"Service"}}}
	c := newController(t, f)
	if _, err := c.sync(t.Context()); !errors.As(err, new(*kube.NotSyncedError)) {
		t.Errorf("error %v, want NotSyncedError", err)
	}
	if got := f.take(); got != nil {
		t.Errorf("written: %v", got)
	}

	// A missing kind is worth saying so, once, in the ConfigurationState.
	f.err = &kube.NotSyncedError{Missing: []string{"IPAddressPool.metallb.io"}}
	for range 3 {
		_, _ = c.sync(t.Context())
	}
	if diff := cmp.Diff([]string{"controller"}, f.take()); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if c.applied.Load() {
		t.Error("counts as applied")
	}
}

func TestSyncGoesOnWhenAWriteFails(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{outcome: kube.Outcome{Failed: 1, Err: errors.New("refused"), Again: time.Second}}
	c := newController(t, f)
	again, err := c.sync(t.Context())
	if again != time.Second || err != nil {
		t.Errorf("sync: again in %v, error %v; want 1s and no error: the writer paces it", again, err)
	}
}

// definition is the CustomResourceDefinition of pools, installed so long ago.
func definition(age time.Duration, deleted bool) *metav1.PartialObjectMetadata {
	d := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: poolDefinition, CreationTimestamp: metav1.NewTime(time.Now().Add(-age))},
	}
	if deleted {
		d.DeletionTimestamp, d.Finalizers = &metav1.Time{Time: time.Now()}, []string{"customresourcecleanup.apiextensions.k8s.io"}
	}
	return d
}

func TestGuard(t *testing.T) {
	t.Parallel()
	now := time.Now() // a test that waits for others does not grow older
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "customresourcedefinitions"}, poolDefinition, nil)
	tests := []struct {
		name    string
		service *corev1.Service
		pools   []*v1beta1.IPAddressPool
		answer  *metav1.PartialObjectMetadata
		err     error
		frozen  []string
		again   bool
		stop    bool
		asked   bool
	}{
		{name: "no pool is missing", service: service("a", "main"), pools: []*v1beta1.IPAddressPool{pool("main")}},
		{name: "no pool at all", service: service("a", "main")},
		{name: "a user removed it", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, answer: definition(time.Hour, false), asked: true},
		{name: "being deleted", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, answer: definition(time.Hour, true), asked: true, stop: true},
		{name: "deleted", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, asked: true, stop: true,
			err: apierrors.NewNotFound(schema.GroupResource{}, poolDefinition)},
		{name: "just installed", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, answer: definition(time.Second, false), asked: true,
			frozen: []string{"gone"}, again: true},
		{name: "it may not look", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, err: forbidden, asked: true},
		{name: "no answer", service: service("a", "gone"), pools: []*v1beta1.IPAddressPool{pool("main")}, err: errors.New("timeout"), asked: true, stop: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := false
			api := fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
					asked = true
					if tt.answer != nil {
						tt.answer.DeepCopyInto(obj.(*metav1.PartialObjectMetadata))
					}
					return tt.err
				},
			}).Build()
			// It has not just gone: see TestGuardWaitsForMore.
			g := &guard{client: api, log: discard(), missing: []string{"gone"}}
			frozen, again, err := g.check(t.Context(), snapshot.Objects{Pools: tt.pools, Services: []*corev1.Service{tt.service}}, ns, now)
			if diff := cmp.Diff(tt.frozen, frozen); diff != "" {
				t.Errorf("frozen (-want +got):\n%s", diff)
			}
			if (again > 0) != tt.again || (err != nil) != tt.stop || asked != tt.asked {
				t.Errorf("again %v, error %v, asked %v; want again %v, error %v, asked %v", again, err, asked, tt.again, tt.stop, tt.asked)
			}
		})
	}
}

// kubectl delete ipaddresspools --all deletes one after the other. Until no more
// of them go, none counts as removed.
func TestGuardWaitsForMore(t *testing.T) {
	t.Parallel()
	api := fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
			definition(time.Hour, false).DeepCopyInto(obj.(*metav1.PartialObjectMetadata))
			return nil
		},
	}).Build()
	services := []*corev1.Service{service("1", "a"), service("2", "b"), service("3", "c")}
	type answer struct {
		Frozen []string
		Again  time.Duration
	}
	type step struct {
		after time.Duration
		pools string
		want  answer
	}
	tests := map[string][]step{
		"all go": {
			{0, "abcd", answer{}},
			{time.Minute, "bcd", answer{[]string{"a"}, grace}},
			{time.Second, "cd", answer{[]string{"a", "b"}, grace}},
			{time.Second, "cd", answer{[]string{"a", "b"}, grace - time.Second}},
			{0, "c", answer{[]string{"a", "b"}, grace}}, // no Service has an address of d
			{time.Second, "", answer{}},                 // nothing changes without pools
			{time.Hour, "b", answer{[]string{"a", "c"}, grace}},
			{time.Second, "abc", answer{}},
		},
		"one goes": {
			{0, "abc", answer{}},
			{time.Minute, "ac", answer{[]string{"b"}, grace}},
			{grace - 1, "ac", answer{[]string{"b"}, 1}},
			{1, "ac", answer{}},
			{time.Minute, "ac", answer{}},
			{0, "abc", answer{}},
			{0, "ac", answer{[]string{"b"}, grace}},
		},
		"it went before this replica led": {
			{0, "bc", answer{[]string{"a"}, grace}},
			{grace, "bc", answer{}},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &guard{client: api, log: discard()}
			now := time.Now()
			for i, s := range steps {
				now = now.Add(s.after)
				objs := snapshot.Objects{Services: services}
				for _, n := range s.pools {
					objs.Pools = append(objs.Pools, pool(string(n)))
				}
				frozen, again, err := g.check(t.Context(), objs, ns, now)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(s.want, answer{frozen, again}); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestSyncKeepsAddressesWhileThePoolsComeBack(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{objs: snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool("main")}, Services: []*corev1.Service{service("web", "other")}}}
	c := newController(t, f)
	c.guard.client = fake.NewClientBuilder().WithScheme(scheme(t)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
			definition(time.Second, false).DeepCopyInto(obj.(*metav1.PartialObjectMetadata))
			return nil
		},
	}).Build()
	again, err := c.sync(t.Context())
	if err != nil || again < 50*time.Second || again > settle {
		t.Errorf("again in %v, error %v; want a look when the definition has settled", again, err)
	}
	page := planPage(c)
	if !strings.Contains(page, `"AddressKept"`) || strings.Contains(page, `"Cleared": [`) {
		t.Errorf("the plan does not keep the address:\n%s", page)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Namespace: ns, Port: 9120, HealthProbePort: 17472}
	if err := good.validate(); err != nil {
		t.Errorf("good options: %v", err)
	}
	for what, change := range map[string]func(*Options){
		"--namespace (or METALLB_NAMESPACE) is required: the namespace of Herald":       func(o *Options) { o.Namespace = "" },
		"--port -1 is not a port: give 1 to 65535, or 0 to turn it off":                 func(o *Options) { o.Port = -1 },
		"--port and --health-probe-port are both 9120: give different ones":             func(o *Options) { o.HealthProbePort = 9120 },
		"--health-probe-port 70000 is not a port: give 1 to 65535, or 0 to turn it off": func(o *Options) { o.HealthProbePort = 70000 },
	} {
		o := good
		change(&o)
		if err := o.validate(); err == nil || err.Error() != what {
			t.Errorf("error %v, want %q", err, what)
		}
	}
}

// After an address was taken the loop must go on by itself: its own writes wake
// nobody.
func TestTakes(t *testing.T) {
	t.Parallel()
	had := &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}}}
	for name, tc := range map[string]struct {
		write status.Write
		want  bool
	}{
		"an address goes":            {status.Write{Object: had, Moves: true}, true},
		"a condition changes":        {status.Write{Object: had}, false},
		"the first address is given": {status.Write{Object: &corev1.Service{}, Moves: true}, false},
		"a pool":                     {status.Write{Object: &v1beta1.IPAddressPool{}, Moves: true}, false},
	} {
		if got := takes(tc.write); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
