// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/heraldlb/herald/api/v1beta1"
)

// storeOnly is an informer that is nothing but its store.
type storeOnly struct {
	cache.SharedIndexInformer
	store cache.Store
}

func (s storeOnly) GetStore() cache.Store { return s.store }

func pooled(name, version string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: version}}
}

func cached(objs ...*v1beta1.IPAddressPool) *source {
	store := cache.NewStore(cache.MetaNamespaceKeyFunc)
	for _, o := range objs {
		if err := store.Add(o); err != nil {
			panic(err)
		}
	}
	return &source{informer: storeOnly{store: store}}
}

func TestReached(t *testing.T) {
	t.Parallel()
	now := present{version: "100", versions: map[types.UID]string{"a": "7", "b": "9"}}
	tests := []struct {
		name string
		s    *source
		want bool
	}{
		{"nothing yet", cached(), false},
		{"the same, with older events", cached(pooled("a", "7"), pooled("b", "9")), true},
		{"an old version", cached(pooled("b", "9"), pooled("a", "6")), false},
		{"one that is not there yet", cached(pooled("b", "9")), false},
		{"one that is gone", cached(pooled("c", "3"), pooled("a", "7"), pooled("b", "9")), false},
		{"a newer version", cached(pooled("a", "7"), pooled("b", "101")), true},
		{"versions are numbers", cached(pooled("a", "7"), pooled("b", "10")), true},
		{"all that happened since the list", cached(pooled("d", "102")), true}, // a and b are gone again
	}
	for _, tt := range tests {
		if got := tt.s.reached(now); got != tt.want {
			t.Errorf("%s: reached %v, want %v", tt.name, got, tt.want)
		}
	}
	empty := present{version: "100"}
	if !cached().reached(empty) || cached(pooled("a", "7")).reached(empty) {
		t.Error("of no object")
	}
}

func TestCatchUpWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pools, spaces := cached(pooled("a", "7")), cached()
		c := &Caches{sources: []*source{pools, spaces}}
		list := func(_ context.Context, _ Kind) (present, error) {
			return present{version: "100", versions: map[types.UID]string{"a": "8"}}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.catchUp(ctx, list) }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("does not wait: %v", err)
		default:
		}
		for _, s := range c.sources {
			if err := s.informer.GetStore().Add(pooled("a", "8")); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()

		_ = pools.informer.GetStore().Replace([]any{pooled("a", "7")}, "7")
		if err := c.catchUp(t.Context(), list); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a cache that stays behind: %v", err)
		}
		gone := func(context.Context, Kind) (present, error) { return present{}, errors.New("no such kind") }
		if err := c.catchUp(t.Context(), gone); err == nil || !strings.Contains(err.Error(), "no such kind") {
			t.Errorf("a list that fails: %v", err)
		}
	})
}
