// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// grace is how long ago a reason for a change may be: the controllers have to
// hear of it, and may be paused or killed meanwhile.
const grace = 20 * time.Second

// watcher follows all Services, in the order in which they change, and knows
// what users have done and when.
type watcher struct {
	mu       sync.Mutex // guards everything below
	services map[string]*corev1.Service
	touched  map[string]time.Time // when a user last changed a Service
	ranges   map[string][2]netip.Addr
	only     map[string]string        // pool: namespace
	out      map[netip.Addr]time.Time // when an address was last in no pool
	wrong    []string
	moved    int
}

func watchServices(t *testing.T, client kubernetes.Interface) *watcher {
	t.Helper()
	w := &watcher{
		services: map[string]*corev1.Service{}, touched: map[string]time.Time{}, ranges: map[string][2]netip.Addr{}, only: map[string]string{},
		out: map[netip.Addr]time.Time{},
	}
	list, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	rw, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.CoreV1().Services("").Watch(ctx, o)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range rw.ResultChan() {
			if s, ok := e.Object.(*corev1.Service); ok {
				w.event(e.Type, s)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watcher) fail(format string, args ...any) {
	w.wrong = append(w.wrong, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *watcher) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wrong) > 0
}

func (w *watcher) problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

func (w *watcher) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved
}

// touch notes that a user changes a Service.
func (w *watcher) touch(ns, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched[ns+"/"+name] = time.Now()
}

// pool notes which addresses a pool has.
func (w *watcher) pool(p chaosPool, variant int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to, _ := strings.Cut(p.variants[variant], "-")
	now := [2]netip.Addr{netip.MustParseAddr(from), netip.MustParseAddr(to)}
	if old, ok := w.ranges[p.name]; ok {
		for a := old[0]; a.Compare(old[1]) <= 0; a = a.Next() {
			if !inside(now, a) {
				w.out[a] = time.Now()
			}
		}
	}
	w.ranges[p.name], w.only[p.name] = now, p.only
}

func inside(r [2]netip.Addr, a netip.Addr) bool { return r[0].Compare(a) <= 0 && a.Compare(r[1]) <= 0 }

// poolOf returns the pool that offers a to a namespace.
func (w *watcher) poolOf(ns string, a netip.Addr) string {
	for name, r := range w.ranges {
		if inside(r, a) && (w.only[name] == "" || w.only[name] == ns) {
			return name
		}
	}
	return ""
}

func key(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

// event judges one change.
func (w *watcher) event(kind watch.EventType, s *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.services[key(s)]
	if kind == watch.Deleted {
		delete(w.services, key(s))
		return
	}
	w.services[key(s)] = s
	var had []string
	if before != nil && before.UID == s.UID {
		had = addressesOf(before)
	}
	has := addressesOf(s)
	if slices.Equal(had, has) {
		return
	}
	w.moved++
	for _, a := range had {
		if !slices.Contains(has, a) {
			w.lost(s, netip.MustParseAddr(a))
		}
	}
	for _, a := range has {
		if !slices.Contains(had, a) {
			w.got(s, a)
		}
	}
}

func (w *watcher) lost(s *corev1.Service, a netip.Addr) {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || time.Since(w.touched[key(s)]) < grace || time.Since(w.out[a]) < grace {
		return
	}
	w.fail("%s has lost %s, which pool %q has had for long", key(s), a, w.poolOf(s.Namespace, a))
}

func (w *watcher) got(s *corev1.Service, a string) {
	addr := netip.MustParseAddr(a)
	if w.poolOf(s.Namespace, addr) == "" && time.Since(w.out[addr]) > grace {
		w.fail("%s has got %s, which is in no pool", key(s), a)
	}
	for _, t := range w.services {
		if t.UID != s.UID && slices.Contains(addressesOf(t), a) && !share(s, t) {
			w.fail("%s has got %s, which %s has", key(s), a, key(t))
		}
	}
}

func share(s, t *corev1.Service) bool {
	const shared = "metallb.io/allow-shared-ip"
	return s.Annotations[shared] != "" && s.Annotations[shared] == t.Annotations[shared] && s.Spec.Ports[0].Port != t.Spec.Ports[0].Port
}

// settled says what is not yet as it has to be in the end.
func (w *watcher) settled(services []corev1.Service) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	users := map[string][]*corev1.Service{}
	for i := range services {
		for _, a := range addressesOf(&services[i]) {
			users[a] = append(users[a], &services[i])
		}
	}
	for i := range services {
		s := &services[i]
		has := addressesOf(s)
		for _, a := range has {
			if w.poolOf(s.Namespace, netip.MustParseAddr(a)) == "" {
				return fmt.Errorf("%s has %s, which is in no pool for it", key(s), a)
			}
		}
		var said []metav1.Condition
		for _, c := range s.Status.Conditions {
			if c.Type == "heraldlb.io/Allocated" {
				said = append(said, c)
			}
		}
		if len(said) != 1 {
			return fmt.Errorf("%s has %d reasons", key(s), len(said))
		}
		if !w.isTrue(s, said[0].Reason, users) {
			return fmt.Errorf("%s has %v, and the reason %s is not true: %s", key(s), has, said[0].Reason, said[0].Message)
		}
	}
	return nil
}

// isTrue judges a reason.
func (w *watcher) isTrue(s *corev1.Service, code string, users map[string][]*corev1.Service) bool {
	asks := s.Annotations["metallb.io/loadBalancerIPs"]
	has := addressesOf(s)
	others := slices.DeleteFunc(slices.Clone(users[asks]), func(t *corev1.Service) bool { return t.UID == s.UID })
	switch code {
	case "AddressAssigned":
		return len(has) == 1 && (asks == "" || asks == has[0])
	case "AddressInUse":
		return asks != "" && len(has) == 0 && len(others) > 0
	case "SharingRefused":
		return asks != "" && len(has) == 0 && slices.ContainsFunc(others, func(t *corev1.Service) bool { return !share(s, t) })
	case "AddressNotInPool", "PoolNotAllowed": // it may keep another one
		return asks != "" && w.poolOf(s.Namespace, netip.MustParseAddr(asks)) == ""
	case "PoolsExhausted":
		return asks == "" && len(has) == 0 && !w.free(s, users)
	}
	return false
}

// free reports whether there is an address that s could have.
func (w *watcher) free(s *corev1.Service, users map[string][]*corev1.Service) bool {
	for name, r := range w.ranges {
		if w.only[name] != "" && w.only[name] != s.Namespace {
			continue
		}
		for a := r[0]; a.Compare(r[1]) <= 0; a = a.Next() {
			if !slices.ContainsFunc(users[a.String()], func(t *corev1.Service) bool { return !share(s, t) }) {
				return true
			}
		}
	}
	return false
}
