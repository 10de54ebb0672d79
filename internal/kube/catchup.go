// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Settings of CatchUp.
const (
	catchUpPage  = 500
	catchUpPoll  = 10 * time.Millisecond
	catchUpLists = 3                // at once
	catchUpLimit = 20 * time.Second // for one try
)

// present is one kind in the API server at one moment.
type present struct {
	version  string // of the list
	versions map[types.UID]string
}

// presentLister lists a kind past every cache.
type presentLister func(ctx context.Context, k Kind) (present, error)

// CatchUp returns when the caches hold what the API server held when it was
// called, or something newer. A cache may lag behind by any time; a replica
// that begins to lead must not plan before it has seen what the one before it
// has written.
//
// The API server is asked for names and versions only, in a reading that its
// own caches do not answer on their own. Versions of objects of one kind can be
// compared (Kubernetes 1.35 and later promise it, all others do it).
func (c *Cluster) CatchUp(ctx context.Context) error {
	return c.caches.catchUp(ctx, c.listPresent)
}

func (c *Caches) catchUp(ctx context.Context, list presentLister) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(catchUpLists)
	for _, s := range c.sources {
		g.Go(func() error {
			now, err := list(ctx, s.kind)
			if err != nil {
				return fmt.Errorf("list the versions of %s: %w", s.kind, err)
			}
			for !s.reached(now) {
				if !sleep(ctx, catchUpPoll) {
					return fmt.Errorf("wait until the cache of %s is up to date: %w", s.kind, ctx.Err())
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// reached reports whether the cache is at least as new as what was present.
func (s *source) reached(now present) bool {
	store := s.informer.GetStore()
	// Usually nothing tells a cache that all is well: it learns of events, and
	// the last event of this kind may be old, while versions count the events
	// of all kinds. Then object by object.
	if atLeast(store.LastStoreSyncResourceVersion(), now.version) {
		return true
	}
	found := 0
	for _, item := range store.List() {
		obj, ok := item.(snapshot.Object)
		if !ok {
			continue
		}
		want, exists := now.versions[obj.GetUID()]
		switch have := obj.GetResourceVersion(); {
		case exists && !atLeast(have, want):
			return false
		case exists:
			found++
		case !atLeast(have, now.version):
			return false // it is gone, which the cache has not heard of
		}
	}
	return found == len(now.versions)
}

// atLeast reports whether version a is b or a later one.
func atLeast(a, b string) bool {
	if a == b {
		return true
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c >= 0
}

// listPresent asks the API server, in pages, for metadata only.
func (c *Cluster) listPresent(ctx context.Context, k Kind) (present, error) {
	rc, err := c.connections.to(k.gvk.GroupVersion())
	if err != nil {
		return present{}, err
	}
	now := present{versions: map[types.UID]string{}}
	opts := metav1.ListOptions{Limit: catchUpPage}
	if k.fields != nil {
		opts.FieldSelector = k.fields.String()
	}
	if k.labels != nil {
		opts.LabelSelector = k.labels.String()
	}
	for {
		var page metav1.PartialObjectMetadataList
		err := rc.Get().NamespaceIfScoped(c.namespace, k.own).Resource(k.resource).VersionedParams(&opts, c.client.params).
			SetHeader("Accept", asMetadata(runtime.ContentTypeProtobuf), asMetadata(runtime.ContentTypeJSON)).Do(ctx).Into(&page)
		if err != nil {
			return present{}, err
		}
		for i := range page.Items {
			now.versions[page.Items[i].UID] = page.Items[i].ResourceVersion
		}
		now.version = page.ResourceVersion
		if opts.Continue = page.Continue; opts.Continue == "" {
			return now, nil
		}
	}
}

func asMetadata(contentType string) string {
	return contentType + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
}
