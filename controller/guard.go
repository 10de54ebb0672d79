// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// guard tells a pool that a user has removed from one that is gone only
// because its CustomResourceDefinition is being removed or has just been
// installed again, or that is only the first of several to go. When a
// definition is deleted, or all pools are, they are deleted one by one; a plan
// made in the middle of that would move Services from pools that are gone to
// pools that are not gone yet.
//
//	a Service has an address of a pool that does not exist, and others exist
//	  definition is being deleted, or gone   nothing is changed
//	  definition is younger than settle      the missing pools count as frozen
//	  a pool has gone within grace           the missing pools count as frozen
//	  otherwise                              a user removed the pool
type guard struct {
	client client.Reader
	log    *slog.Logger
	told   bool // that it may not look

	// What the check before this one saw, and until when more pools may follow.
	exist, missing []string
	until          time.Time
}

// settle is how long after its installation the definition is not trusted to
// have all its objects back.
const settle = time.Minute

// grace is how long after a pool has gone others may follow it: kubectl delete
// --all makes one request after the other.
const grace = 2 * time.Second

const poolDefinition = "ipaddresspools." + api.GroupMetalLB

// check returns the pools to treat as frozen and when to look again, or an
// error if nothing may be changed.
func (g *guard) check(ctx context.Context, objs snapshot.Objects, namespace string, now time.Time) (frozen []string, again time.Duration, err error) {
	exist := poolNames(objs, namespace)
	missing := missingPools(objs, exist)
	left := g.follow(exist, missing, now)
	if len(missing) == 0 {
		return nil, 0, nil
	}
	installed, err := g.installed(ctx, missing)
	if err != nil {
		return nil, 0, err
	}
	if left = max(left, settle-now.Sub(installed)); left > 0 {
		return missing, left, nil
	}
	return nil, 0, nil
}

// follow compares with the check before, and returns how long it takes until no
// other pool is expected to go.
func (g *guard) follow(exist, missing []string, now time.Time) time.Duration {
	// A leader that has just begun has not seen them go.
	if lacks(exist, g.exist) || lacks(g.missing, missing) {
		g.until = now.Add(grace)
	}
	g.exist, g.missing = exist, missing
	return g.until.Sub(now)
}

// lacks reports whether some of these names are not in the list, which is sorted.
func lacks(list, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		_, found := slices.BinarySearch(list, n)
		return !found
	})
}

// installed returns when the definition was installed, or an error if it is
// gone or on its way. The zero time: it may not look.
func (g *guard) installed(ctx context.Context, missing []string) (time.Time, error) {
	crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}}
	switch err := g.client.Get(ctx, types.NamespacedName{Name: poolDefinition}, crd); {
	case apierrors.IsForbidden(err):
		if !g.told {
			g.told = true
			g.log.Warn("cannot tell a removed pool from a removed CustomResourceDefinition; allow get on it", "definition", poolDefinition, "error", err)
		}
		return time.Time{}, nil
	case apierrors.IsNotFound(err):
		return time.Time{}, fmt.Errorf("the CustomResourceDefinition %s is gone: nothing is changed until it is back", poolDefinition)
	case err != nil:
		return time.Time{}, fmt.Errorf("look whether the pools %v were removed: %w", missing, err)
	}
	if crd.DeletionTimestamp != nil {
		return time.Time{}, fmt.Errorf("the CustomResourceDefinition %s is being deleted: nothing is changed until it is back", poolDefinition)
	}
	return crd.CreationTimestamp.Time, nil
}

// poolNames returns the names of all pools, sorted.
func poolNames(objs snapshot.Objects, namespace string) []string {
	var out []string
	for _, p := range objs.Pools {
		if p.Namespace == namespace {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return out
}

// missingPools returns the pools that Services have addresses of but that do
// not exist, sorted. Without any pool nothing is taken away anyhow.
func missingPools(objs snapshot.Objects, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	exist := make(map[string]bool, len(names))
	for _, n := range names {
		exist[n] = true
	}
	var out []string
	for _, s := range objs.Services {
		if exist[s.Annotations[api.AnnotationAllocatedFromPool]] {
			continue // almost all of them
		}
		for _, p := range snapshot.AllocatedPools(s) {
			if !exist[p] {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
