// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// releaser removes Herald's annotation and conditions from Services that are
// no longer of type LoadBalancer. Caches hold only load balancers, so such a
// Service looks deleted there; the live object tells the two apart. (The API
// server itself clears the addresses.)
type releaser struct {
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex // guards leading and pending
	leading bool
	pending []types.NamespacedName
}

// Limits of a releaser.
const (
	releaseRetry = 5 * time.Second
	sweepPage    = 500
)

func newReleaser(log *slog.Logger) *releaser {
	return &releaser{log: log, wake: make(chan struct{}, 1)}
}

// add notes a Service that left the cache. It does not block. While another
// replica leads there is nothing to do: that one does it, and a new leader
// looks at all Services once.
func (r *releaser) add(s *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leading {
		return
	}
	r.pending = append(r.pending, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *releaser) take() []types.NamespacedName {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.pending
	r.pending = nil
	return out
}

// run works until ctx is done.
func (r *releaser) run(ctx context.Context, c client.Client) error {
	r.mu.Lock()
	r.leading = true
	r.mu.Unlock()
	var retry <-chan time.Time
	swept := false
	for {
		var err error
		if !swept {
			if err = r.sweep(ctx, c); err == nil {
				swept = true
			}
		}
		failed, err2 := r.all(ctx, c, r.take())
		if len(failed) > 0 {
			r.mu.Lock()
			r.pending = append(failed, r.pending...)
			r.mu.Unlock()
			err = err2
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("cannot clean up Services that are no longer load balancers; trying again", telemetry.KeyError, err)
			retry = time.After(releaseRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-retry:
		}
	}
}

// sweep looks at every Service of another type once, for changes made while
// nobody led.
func (r *releaser) sweep(ctx context.Context, c client.Client) error {
	opts := &client.ListOptions{
		FieldSelector: fields.OneTermNotEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
		Limit:         sweepPage,
	}
	for {
		var page corev1.ServiceList
		if err := c.List(ctx, &page, opts); err != nil {
			return fmt.Errorf("list Services: %w", err)
		}
		for i := range page.Items {
			if err := r.release(ctx, c, &page.Items[i]); err != nil {
				return err
			}
		}
		if page.Continue == "" {
			return nil
		}
		opts.Continue = page.Continue
	}
}

// all looks at the named Services and returns those to try again.
func (r *releaser) all(ctx context.Context, c client.Client, keys []types.NamespacedName) (failed []types.NamespacedName, err error) {
	for i, key := range keys {
		if ctx.Err() != nil {
			return keys[i:], ctx.Err()
		}
		var s corev1.Service
		one := c.Get(ctx, key, &s)
		if apierrors.IsNotFound(one) {
			continue
		}
		if one == nil {
			one = r.release(ctx, c, &s)
		}
		if one != nil {
			failed, err = append(failed, key), one
		}
	}
	return failed, err
}

func (r *releaser) release(ctx context.Context, c client.Client, s *corev1.Service) error {
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return nil
	}
	w, ok := status.Release(s)
	if !ok {
		return nil
	}
	err := c.Status().Patch(ctx, s, client.RawPatch(w.PatchType, w.Patch))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("clean up Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	r.log.Info("cleaned up a Service that is no longer a load balancer", telemetry.KeyService, s.Namespace+"/"+s.Name)
	return nil
}
