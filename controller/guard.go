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
// installed again. When a definition is deleted, its objects are deleted one
// by one; a plan made in the middle of that would move Services from pools
// that are gone to pools that are not gone yet.
//
//	a Service has an address of a pool that does not exist, and others exist
//	  definition is being deleted, or gone   nothing is changed
//	  definition is younger than settle      the missing pools count as frozen
//	  otherwise                              a user removed the pool
type guard struct {
	client client.Reader
	log    *slog.Logger
	told   bool // that it may not look
}

// settle is how long after its installation the definition is not trusted to
// have all its objects back.
const settle = time.Minute

const poolDefinition = "ipaddresspools." + api.GroupMetalLB

// check returns the pools to treat as frozen and when to look again, or an
// error if nothing may be changed.
func (g *guard) check(ctx context.Context, objs snapshot.Objects, namespace string, now time.Time) (frozen []string, again time.Duration, err error) {
	missing := missingPools(objs, namespace)
	if len(missing) == 0 {
		return nil, 0, nil
	}
	crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}}
	switch err := g.client.Get(ctx, types.NamespacedName{Name: poolDefinition}, crd); {
	case apierrors.IsForbidden(err):
		if !g.told {
			g.told = true
			g.log.Warn("cannot tell a removed pool from a removed CustomResourceDefinition; allow get on it", "definition", poolDefinition, "error", err)
		}
		return nil, 0, nil
	case apierrors.IsNotFound(err):
		return nil, 0, fmt.Errorf("the CustomResourceDefinition %s is gone: nothing is changed until it is back", poolDefinition)
	case err != nil:
		return nil, 0, fmt.Errorf("look whether the pools %v were removed: %w", missing, err)
	}
	if crd.DeletionTimestamp != nil {
		return nil, 0, fmt.Errorf("the CustomResourceDefinition %s is being deleted: nothing is changed until it is back", poolDefinition)
	}
	if left := settle - now.Sub(crd.CreationTimestamp.Time); left > 0 {
		return missing, left, nil
	}
	return nil, 0, nil
}

// missingPools returns the pools that Services have addresses of but that do
// not exist, sorted. Without any pool nothing is taken away anyhow.
func missingPools(objs snapshot.Objects, namespace string) []string {
	exist := map[string]bool{}
	for _, p := range objs.Pools {
		if p.Namespace == namespace {
			exist[p.Name] = true
		}
	}
	if len(exist) == 0 {
		return nil
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
