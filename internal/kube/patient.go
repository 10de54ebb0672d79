// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/watchlist"
)

// missingPoll is how often to ask for a kind that the API server does not
// know. An informer alone backs off to a minute, which is long for somebody
// who installs everything with one command.
const missingPoll = 2 * time.Second

// patient is a ListerWatcher that waits for a missing kind instead of failing.
type patient struct {
	// ListerWatcher has the methods without a context, which informers do not
	// call when there are others.
	cache.ListerWatcher
	inner cache.ListerWatcherWithContext
	// missing is called for each answer that the kind is unknown.
	missing func(error)
}

func newPatient(lw cache.ListerWatcher, missing func(error)) *patient {
	return &patient{ListerWatcher: lw, inner: cache.ToListerWatcherWithContext(lw), missing: missing}
}

// IsWatchListSemanticsUnSupported tells informers whether to stream lists.
func (p *patient) IsWatchListSemanticsUnSupported() bool {
	return watchlist.DoesClientNotSupportWatchListSemantics(p.ListerWatcher)
}

// ListWithContext implements cache.ListerWithContext.
func (p *patient) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	return untilKnown(ctx, p.missing, func() (runtime.Object, error) { return p.inner.ListWithContext(ctx, o) })
}

// WatchWithContext implements cache.WatcherWithContext. It waits only if the
// watch begins with a list: otherwise the informer has to list again first.
func (p *patient) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if o.SendInitialEvents == nil {
		return p.inner.WatchWithContext(ctx, o)
	}
	return untilKnown(ctx, p.missing, func() (watch.Interface, error) { return p.inner.WatchWithContext(ctx, o) })
}

func untilKnown[T any](ctx context.Context, missing func(error), try func() (T, error)) (T, error) {
	for {
		v, err := try()
		if !apierrors.IsNotFound(err) {
			return v, err
		}
		missing(err)
		if !sleep(ctx, missingPoll) {
			return v, err
		}
	}
}
