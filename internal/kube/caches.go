// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// NotSyncedError says that no complete reading is possible. Nothing may be
// planned or changed then.
type NotSyncedError struct {
	// Waiting are the kinds whose first list has not arrived, sorted.
	Waiting []string
	// Missing are the kinds that the API server does not know, sorted.
	Missing []string
}

// Error implements error.
func (e *NotSyncedError) Error() string {
	var parts []string
	if len(e.Missing) > 0 {
		parts = append(parts, fmt.Sprintf("the API server does not know %s: install the CustomResourceDefinitions; "+
			"until then nothing is changed", strings.Join(e.Missing, ", ")))
	}
	if len(e.Waiting) > 0 {
		parts = append(parts, "waiting for the first list of "+strings.Join(e.Waiting, ", "))
	}
	return strings.Join(parts, "; ")
}

// Caches keep a copy of the watched objects.
//
// They are client-go informers rather than controller-runtime's cache, for
// these reasons: List of that cache copies every struct on every read, it refuses to
// start a kind whose CustomResourceDefinition is missing, it does not tell when
// one is deleted later, and it brings all kinds of Kubernetes along.
type Caches struct {
	log     *slog.Logger
	sources []*source
	changed func()
	// reportChanged is for kinds that are reports, and for the reports in
	// Services; nil: as changed.
	reportChanged func()
	// quiet: what this program has written itself is no change.
	quiet bool
	// serviceGone gets Services that were deleted or are no longer of type
	// LoadBalancer.
	serviceGone func(*corev1.Service)
	// definitions looks why objects are gone; nil: they were deleted.
	definitions definitions
	vanished    chan struct{} // capacity 1
}

// source is one kind and its informer.
type source struct {
	kind     Kind
	informer cache.SharedIndexInformer
	overlay  overlay
	limbo    limbo

	mu sync.Mutex // guards missing, brokenAt
	// missing is set when the API server answers that it does not know the
	// kind. brokenAt is the version of the last good list at that time: when
	// there is a newer list, the kind is back.
	missing  bool
	brokenAt string
}

// listerWatchers makes the connection of each kind; tests replace it.
type listerWatchers func(Kind) (cache.ListerWatcher, error)

func newCaches(kinds []Kind, connect listerWatchers, log *slog.Logger, changed func(), serviceGone func(*corev1.Service)) (*Caches, error) {
	c := &Caches{log: log, changed: changed, serviceGone: serviceGone, vanished: make(chan struct{}, 1)}
	for _, k := range kinds {
		lw, err := connect(k)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", k, err)
		}
		s := &source{kind: k}
		lw = newPatient(lw, func(err error) { c.watchFailed(s, err) })
		s.informer = cache.NewSharedIndexInformerWithOptions(lw, k.object, cache.SharedIndexInformerOptions{
			ObjectDescription: k.String(),
		})
		if err := c.configure(s); err != nil {
			return nil, fmt.Errorf("watch %s: %w", k, err)
		}
		c.sources = append(c.sources, s)
	}
	return c, nil
}

func (c *Caches) configure(s *source) error {
	if err := s.informer.SetTransform(func(obj any) (any, error) {
		if _, tombstone := obj.(cache.DeletedFinalStateUnknown); !tombstone {
			s.kind.strip(obj)
		}
		return obj, nil
	}); err != nil {
		return err
	}
	if err := s.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		c.watchFailed(s, err)
	}); err != nil {
		return err
	}
	_, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.changedOf(s) },
		UpdateFunc: func(before, after any) {
			echo := false
			if o, ok := after.(snapshot.Object); ok {
				echo = s.overlay.echo(o)
			}
			switch {
			case echo && c.quiet || sameButVersion(before, after):
			case c.reportChanged != nil && onlyReported(before, after):
				c.reportChanged()
			default:
				c.changedOf(s)
			}
		},
		DeleteFunc: func(obj any) {
			if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = t.Obj
			}
			if o, ok := obj.(snapshot.Object); ok {
				s.overlay.drop(o.GetUID())
				c.gone(s, o)
			}
			if svc, ok := obj.(*corev1.Service); ok && c.serviceGone != nil {
				c.serviceGone(svc)
			}
			c.changedOf(s)
		},
	})
	return err
}

// changedOf says that an object of a kind changed.
func (c *Caches) changedOf(s *source) {
	if s.kind.report && c.reportChanged != nil {
		c.reportChanged()
		return
	}
	c.changed()
}

// watchFailed notes a kind that is not served. Everything else (a lost
// connection, a server that restarts) leaves the last good reading in place,
// and the informer tries again by itself.
func (c *Caches) watchFailed(s *source, err error) {
	switch {
	case apierrors.IsNotFound(err):
		s.mu.Lock()
		first := !s.missing
		s.missing = true
		s.brokenAt = s.informer.LastSyncResourceVersion()
		s.mu.Unlock()
		if first {
			c.log.Error("the API server does not know this kind; nothing is changed until its CustomResourceDefinition is installed", "kind", s.kind.String())
			c.changed()
		}
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		c.log.Error("not allowed to watch; check the roles of the service account", "kind", s.kind.String(), "error", err)
	case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
		// Ordinary: the next list starts afresh.
	default:
		c.log.Warn("watch interrupted; connecting again", "kind", s.kind.String(), "error", err)
	}
}

// run keeps the caches up to date until ctx is done.
func (c *Caches) run(ctx context.Context) error {
	var g errgroup.Group
	for _, s := range c.sources {
		g.Go(func() error { s.informer.RunWithContext(ctx); return nil })
	}
	g.Go(func() error { return c.watchDefinitions(ctx) })
	g.Go(func() error {
		for _, s := range c.sources {
			if !cache.WaitForCacheSync(ctx.Done(), s.informer.HasSynced) {
				return nil
			}
		}
		c.changed()
		return nil
	})
	return g.Wait()
}

// read returns one reading of all kinds, or *NotSyncedError.
func (c *Caches) read() (snapshot.Objects, error) {
	if err := c.synced(); err != nil {
		return snapshot.Objects{}, err
	}
	var o snapshot.Objects
	for _, s := range c.sources {
		s.kind.put(&o, s.limbo.apply(s.overlay.apply(s.informer.GetStore().List())))
	}
	return o, nil
}

// synced returns nil or *NotSyncedError.
func (c *Caches) synced() error {
	var e NotSyncedError
	for _, s := range c.sources {
		switch {
		case s.isMissing():
			e.Missing = append(e.Missing, s.kind.String())
		case !s.informer.HasSynced():
			e.Waiting = append(e.Waiting, s.kind.String())
		}
	}
	if len(e.Missing)+len(e.Waiting) == 0 {
		return nil
	}
	slices.Sort(e.Missing)
	slices.Sort(e.Waiting)
	return &e
}

func (s *source) isMissing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing && s.informer.LastSyncResourceVersion() != s.brokenAt {
		s.missing = false
	}
	return s.missing
}

// watch returns the connections of caches to a real API server.
func (c *connections) watch(namespace string) listerWatchers {
	return func(k Kind) (cache.ListerWatcher, error) {
		rc, err := c.to(k.gvk.GroupVersion())
		if err != nil {
			return nil, err
		}
		ns := metav1.NamespaceAll
		if k.own {
			ns = namespace
		}
		return cache.ToListWatcherWithWatchListSemantics(cache.NewFilteredListWatchFromClient(rc, k.resource, ns, func(o *metav1.ListOptions) {
			if k.fields != nil {
				o.FieldSelector = k.fields.String()
			}
			if k.labels != nil {
				o.LabelSelector = k.labels.String()
			}
		}), rc), nil
	}
}

// WaitSynced blocks until a complete reading is possible or ctx is done.
func (c *Cluster) WaitSynced(ctx context.Context) error {
	for {
		err := c.caches.synced()
		if err == nil {
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return errors.Join(ctx.Err(), err)
		}
	}
}
