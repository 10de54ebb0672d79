// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// When a CustomResourceDefinition is deleted, the API server deletes its
// objects one by one. Who does that wants to install it again, or does not know
// what it does; nobody wants every address of the cluster to go dark. So an
// object that is gone stays in the reading until it is known that somebody
// deleted it, and not its definition:
//
//	definition is being deleted, or gone   it stays
//	definition is younger than the object  it stays for Settle: objects follow
//	otherwise                              it was deleted
//
// An object of the same name takes its place at once.

// Settle is how long after its installation a definition is not trusted to have
// all its objects back.
const Settle = time.Minute

// Times of limbo.
const (
	limboPoll  = time.Second
	limboRetry = 2 * time.Second
)

// limbo are the objects of one kind that are gone, but perhaps not for good.
type limbo struct {
	mu   sync.Mutex // guards objs
	objs map[types.NamespacedName]snapshot.Object
}

func (l *limbo) add(obj snapshot.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objs == nil {
		l.objs = map[types.NamespacedName]snapshot.Object{}
	}
	l.objs[nameOf(obj)] = obj
}

// apply adds the objects that nothing has taken the place of.
func (l *limbo) apply(items []any) []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.objs) == 0 {
		return items
	}
	for _, item := range items {
		if obj, ok := item.(snapshot.Object); ok {
			delete(l.objs, nameOf(obj))
		}
	}
	for _, obj := range l.objs { // lists have no order
		items = append(items, obj)
	}
	return items
}

func (l *limbo) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.objs) == 0
}

// drop forgets the objects that were made at that time or later.
func (l *limbo) drop(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.objs, func(_ types.NamespacedName, obj snapshot.Object) bool {
		return !obj.GetCreationTimestamp().Time.Before(since)
	})
}

func nameOf(obj snapshot.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// definitions reads a CustomResourceDefinition.
type definitions func(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error)

// watchDefinitions decides about what is in limbo until ctx is done.
func (c *Caches) watchDefinitions(ctx context.Context) error {
	if c.definitions == nil {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.vanished:
		case <-timer.C:
		}
		next := time.Hour
		for _, s := range c.sources {
			if !s.limbo.empty() {
				next = min(next, c.judge(ctx, s))
			}
		}
		timer.Reset(next)
	}
}

// judge decides about one kind and returns when to look again.
func (c *Caches) judge(ctx context.Context, s *source) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	crd, err := c.definitions(ctx, s.kind.definition)
	since := time.Time{}
	switch {
	case apierrors.IsForbidden(err):
		c.log.Warn("cannot tell a deleted object from a deleted CustomResourceDefinition; allow get on it", "definition", s.kind.definition, "error", err)
	case apierrors.IsNotFound(err), err == nil && crd.DeletionTimestamp != nil:
		return limboPoll
	case err != nil:
		c.log.Warn("cannot find out why objects are gone; they are kept for now", "definition", s.kind.definition, "error", err)
		return limboRetry
	case time.Since(crd.CreationTimestamp.Time) < Settle:
		since = crd.CreationTimestamp.Time
	}
	s.limbo.drop(since)
	c.changed()
	if s.limbo.empty() {
		return time.Hour
	}
	return Settle - time.Since(since)
}

// gone is called for every object that has left a cache.
func (c *Caches) gone(s *source, obj snapshot.Object) {
	if s.kind.definition == "" || c.definitions == nil {
		return
	}
	s.limbo.add(obj)
	select {
	case c.vanished <- struct{}{}:
	default:
	}
}

// definition implements definitions.
func (c *connections) definition(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	rc, err := c.to(schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"})
	if err != nil {
		return nil, err
	}
	var crd metav1.PartialObjectMetadata
	err = rc.Get().Resource("customresourcedefinitions").Name(name).
		SetHeader("Accept", runtime.ContentTypeJSON+";as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Do(ctx).Into(&crd)
	return &crd, err
}
