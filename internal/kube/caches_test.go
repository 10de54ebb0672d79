// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// server is an API server for the kinds of a test. Each kind can be away, as
// if its CustomResourceDefinition was missing.
type server struct {
	sources map[string]*fcache.FakeControllerSource
	away    map[string]*atomic.Bool
}

func newServer(kinds []Kind) *server {
	s := &server{sources: map[string]*fcache.FakeControllerSource{}, away: map[string]*atomic.Bool{}}
	for _, k := range kinds {
		s.sources[k.String()] = fcache.NewFakeControllerSource()
		s.away[k.String()] = &atomic.Bool{}
	}
	return s
}

func (s *server) connect(k Kind) (cache.ListerWatcher, error) {
	source, away := s.sources[k.String()], s.away[k.String()]
	notFound := apierrors.NewNotFound(schema.GroupResource{Group: k.gvk.Group, Resource: k.resource}, "")
	return &cache.ListWatch{
		ListWithContextFunc: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if away.Load() {
				return nil, notFound
			}
			return source.List(o)
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if away.Load() {
				return nil, notFound
			}
			if o.SendInitialEvents != nil {
				return nil, errors.New("streaming lists are not supported here")
			}
			return source.Watch(o)
		},
		DisableChunking: true,
	}, nil
}

// fixture is a running Caches.
type fixture struct {
	*Caches
	server *server
	pokes  atomic.Int32
	gone   chan string
}

func start(t *testing.T, kinds []Kind, prepare func(*server)) *fixture {
	t.Helper()
	return startWith(t, kinds, prepare, func(*Caches) {})
}

func startWith(t *testing.T, kinds []Kind, prepare func(*server), change func(*Caches)) *fixture {
	t.Helper()
	f := &fixture{server: newServer(kinds), gone: make(chan string, 100)}
	if prepare != nil {
		prepare(f.server)
	}
	c, err := newCaches(kinds, f.server.connect, slog.New(slog.DiscardHandler),
		func() { f.pokes.Add(1) }, func(s *corev1.Service) { f.gone <- s.Name })
	if err != nil {
		t.Fatal(err)
	}
	f.Caches = c
	change(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, source := range f.server.sources {
			source.Shutdown()
		}
	})
	return f
}

// settle lets everything happen that is on its way.
func settle() {
	time.Sleep(2 * time.Minute) // longer than every back-off, in the bubble's time
	synctest.Wait()
}

func testPool(name string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: name}}
}

func poolNames(t *testing.T, f *fixture) []string {
	t.Helper()
	o, err := f.read()
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	var out []string
	for _, p := range o.Pools {
		out = append(out, p.Name)
	}
	return out
}

func wantMissing(t *testing.T, f *fixture, kinds ...string) {
	t.Helper()
	o, err := f.read()
	var ns *NotSyncedError
	if !errors.As(err, &ns) {
		t.Fatalf("read: error %v, want NotSyncedError", err)
	}
	if diff := cmp.Diff(kinds, ns.Missing); diff != "" {
		t.Errorf("missing kinds (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(snapshot.Objects{}, o); diff != "" {
		t.Errorf("a partial reading was returned (-want +got):\n%s", diff)
	}
}

const poolKind = "IPAddressPool.metallb.io"

func TestCachesReadEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, ControllerKinds(), func(s *server) {
			s.sources[poolKind].Add(testPool("a"))
			s.sources["Node"].Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		})
		settle()
		if diff := cmp.Diff([]string{"a"}, poolNames(t, f)); diff != "" {
			t.Errorf("pools (-want +got):\n%s", diff)
		}
		if f.pokes.Load() == 0 {
			t.Error("nobody was told")
		}
	})
}

// What this program writes comes back as an event, and is no news; what
// others write is, also when it comes in between.
func TestCachesQuietWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The source numbers the versions of its only object, from 1.
		version := func(v int, text string) *v1beta1.IPAddressPool {
			p := testPool("a")
			p.UID, p.ResourceVersion, p.Labels = "u", fmt.Sprint(v), map[string]string{"is": fmt.Sprint(text, v)}
			return p
		}
		f := start(t, ControllerKinds(), func(s *server) { s.sources[poolKind].Add(version(1, "first")) })
		f.quiet = true
		settle()
		source := f.server.sources[poolKind]
		others := func(v int) func() { return func() { source.Modify(version(v, "of others")) } }
		for _, step := range []struct {
			what   string
			change func()
			want   int32
		}{
			{"another's write", others(2), 1},
			{"an own one", func() { f.remember(version(3, "own"), false); source.Modify(version(3, "own")) }, 0},
			{"another's after it", others(4), 1},
			{"another's that is heard of after the answer to the own one", func() { f.remember(version(6, "own"), false); others(5)() }, 1},
			{"and then the own one", func() { source.Modify(version(6, "own")) }, 0},
			{"an own one that is never heard of, and another's", func() {
				f.remember(version(7, "own"), false)
				source.ModifyDropWatch(version(7, "own"))
				others(8)()
			}, 1},
			{"another's", others(9), 1},
		} {
			before := f.pokes.Load()
			step.change()
			settle()
			if got := f.pokes.Load() - before; got != step.want {
				t.Errorf("%s: %d rounds, want %d", step.what, got, step.want)
			}
		}
	})
}

// TestCachesReports: what a speaker reports leads to other calls than what it plans from.
func TestCachesReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reports atomic.Int32
		f := startWith(t, SpeakerKinds("n1", labels.Nothing()), nil, func(c *Caches) { c.reportChanged = func() { reports.Add(1) } })
		settle()
		meta := metav1.ObjectMeta{Namespace: "metallb-system", Name: "a", UID: "u"}
		changed := meta
		changed.Labels = map[string]string{"is": "changed"}
		for kind, object := range map[string]func(metav1.ObjectMeta) runtime.Object{
			"ServiceL2Status.metallb.io":    func(m metav1.ObjectMeta) runtime.Object { return &v1beta1.ServiceL2Status{ObjectMeta: m} },
			"ServiceBGPStatus.metallb.io":   func(m metav1.ObjectMeta) runtime.Object { return &v1beta1.ServiceBGPStatus{ObjectMeta: m} },
			"BGPSession.heraldlb.io":        func(m metav1.ObjectMeta) runtime.Object { return &v1alpha1.BGPSession{ObjectMeta: m} },
			"ConfigurationState.metallb.io": func(m metav1.ObjectMeta) runtime.Object { return &v1beta1.ConfigurationState{ObjectMeta: m} },
		} {
			plans, before := f.pokes.Load(), reports.Load()
			source := f.server.sources[kind]
			for _, change := range []func(){
				func() { source.Add(object(meta)) },
				func() { source.Modify(object(changed)) },
				func() { source.Delete(object(changed)) },
			} {
				change()
				settle()
			}
			if p, r := f.pokes.Load()-plans, reports.Load()-before; p != 0 || r != 3 {
				t.Errorf("%s: %d plans and %d reports after three changes, want 0 and 3", kind, p, r)
			}
		}

		// A Service is both. Whether this program has written the condition does not
		// matter: the news of that may come before the answer.
		svc := &corev1.Service{ObjectMeta: meta}
		source := f.server.sources["Service"]
		source.Add(svc)
		settle()
		for _, step := range []struct {
			what           string
			change         func(*corev1.Service)
			plans, reports int32
		}{
			{"a condition", func(s *corev1.Service) {
				s.Status.Conditions = []metav1.Condition{{Type: api.ConditionAnnounced, Message: "n1"}}
			}, 0, 1},
			{"another node's", func(s *corev1.Service) { s.Status.Conditions[0].Message = "n2" }, 0, 1},
			{"the controller's", func(s *corev1.Service) {
				s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{Type: api.ConditionAllocated})
			}, 0, 0},
			{"an address", func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
			}, 1, 0},
			{"both", func(s *corev1.Service) { s.Labels, s.Status.Conditions = map[string]string{"a": "b"}, nil }, 1, 0},
		} {
			plans, before := f.pokes.Load(), reports.Load()
			svc = svc.DeepCopy()
			step.change(svc)
			source.Modify(svc.DeepCopy())
			settle()
			if p, r := f.pokes.Load()-plans, reports.Load()-before; p != step.plans || r != step.reports {
				t.Errorf("%s: %d plans and %d reports, want %d and %d", step.what, p, r, step.plans, step.reports)
			}
		}

		plans := f.pokes.Load()
		f.server.sources["L2Advertisement.metallb.io"].Add(&v1beta1.L2Advertisement{ObjectMeta: meta})
		settle()
		if p := f.pokes.Load() - plans; p != 1 {
			t.Errorf("%d plans after an L2Advertisement, want 1", p)
		}
	})
}

// TestCachesCreatedAndGone: the answer to a creation comes after the news that the
// object was deleted. It is shown as if it was there, but not for long, and then
// somebody is told.
func TestCachesCreatedAndGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, ControllerKinds(), nil)
		settle()
		late := testPool("late")
		late.UID = "late"
		f.remember(late, true)
		if diff := cmp.Diff([]string{"late"}, poolNames(t, f)); diff != "" {
			t.Errorf("pools after the answer (-want +got):\n%s", diff)
		}
		pokes := f.pokes.Load()
		time.Sleep(createdFor)
		synctest.Wait()
		if got := f.pokes.Load() - pokes; got != 1 {
			t.Errorf("%d rounds when it is not shown any more, want 1", got)
		}
		if got := poolNames(t, f); len(got) != 0 {
			t.Errorf("pools %v, want none", got)
		}
	})
}

func TestCachesMissingKindAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, ControllerKinds(), func(s *server) { s.away[poolKind].Store(true) })
		settle()
		wantMissing(t, f, poolKind)

		f.server.sources[poolKind].Add(testPool("a"))
		f.server.away[poolKind].Store(false)
		time.Sleep(missingPoll + time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a"}, poolNames(t, f)); diff != "" {
			t.Errorf("pools after the definition was installed (-want +got):\n%s", diff)
		}
	})
}

func TestCachesKindDeletedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, ControllerKinds(), func(s *server) { s.sources[poolKind].Add(testPool("a")) })
		settle()
		pokes := f.pokes.Load()
		f.server.away[poolKind].Store(true)
		f.server.sources[poolKind].ResetWatch()
		settle()
		wantMissing(t, f, poolKind)
		if f.pokes.Load() == pokes {
			t.Error("nobody was told that the kind is gone")
		}

		f.server.sources[poolKind].Add(testPool("b"))
		f.server.away[poolKind].Store(false)
		settle()
		if got := poolNames(t, f); len(got) != 2 {
			t.Errorf("pools after the definition came back: %v, want a and b", got)
		}
	})
}

func TestCachesLostWatchKeepsTheReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := start(t, ControllerKinds(), func(s *server) { s.sources[poolKind].Add(testPool("a")) })
		settle()
		f.server.sources[poolKind].ResetWatch()
		if diff := cmp.Diff([]string{"a"}, poolNames(t, f)); diff != "" {
			t.Errorf("pools (-want +got):\n%s", diff)
		}
	})
}

func TestCachesWakeOnlyForWhatMatters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		f := start(t, ControllerKinds(), func(s *server) { s.sources["Node"].Add(node.DeepCopy()) })
		settle()
		before := f.pokes.Load()
		heartbeat := node.DeepCopy()
		heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
		f.server.sources["Node"].Modify(heartbeat)
		settle()
		if n := f.pokes.Load() - before; n != 0 {
			t.Errorf("a heartbeat woke the loop %d times", n)
		}
		labelled := node.DeepCopy()
		labelled.Labels = map[string]string{"zone": "a"}
		f.server.sources["Node"].Modify(labelled)
		settle()
		if n := f.pokes.Load() - before; n != 1 {
			t.Errorf("a new label woke the loop %d times, want 1", n)
		}
	})
}

func TestCachesTellOfServicesThatLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
		f := start(t, ControllerKinds(), func(s *server) { s.sources["Service"].Add(svc) })
		settle()
		f.server.sources["Service"].Delete(svc)
		settle()
		select {
		case name := <-f.gone:
			if name != "web" {
				t.Errorf("Service %q left, want web", name)
			}
		default:
			t.Error("nobody was told that the Service left")
		}
	})
}
