// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// perService is a kind T of which a speaker has one object for each Service that
// it says something about, and what it has to say, a W. Nearly always all objects
// are as they should be, and to find that out takes no memory for each.
type perService[T snapshot.Object, W any] struct {
	// key says which Service it is about, and whether there is to be an object.
	key func(*W) (lb.ServiceKey, bool)
	// same reports whether the status of an object says it.
	same func(T, *W) bool
	// make returns a new object, and its status.
	make func(*W) (T, any)
}

// writes returns what is to be done: first what is about objects that exist, by
// name, then those to be made, in the order of all.
func (k perService[T, W]) writes(who Speaker, have []T, all []W) []Write {
	place := make(map[lb.ServiceKey]int32, len(all))
	for i := range all {
		if key, ok := k.key(&all[i]); ok {
			place[key] = int32(i)
		}
	}
	var out []Write
	owners := who.owners()
	kept := make([]*T, len(all)) // the object of each, if there is one
	for n := range have {
		h := &have[n]
		set := (*h).GetLabels()
		if set[api.LabelNode] != string(who.Node) {
			continue // another node's: not ours to touch
		}
		i, ok := place[lb.ServiceKey{Namespace: set[api.LabelServiceNamespace], Name: set[api.LabelServiceName]}]
		if !ok || !sameOwner((*h).GetOwnerReferences(), owners) {
			out = append(out, Write{Object: *h, Delete: true})
			continue
		}
		if other := kept[i]; other != nil { // one too many
			if (*other).GetName() < (*h).GetName() {
				h, other = other, h
			}
			out = append(out, Write{Object: *other, Delete: true})
		}
		kept[i] = h
	}
	var create []Write
	for i := range all {
		_, wanted := k.key(&all[i])
		switch h := kept[i]; {
		case !wanted || h != nil && k.same(*h, &all[i]):
		case h != nil:
			_, status := k.make(&all[i])
			out = append(out, Write{Object: *h, PatchType: types.MergePatchType, Patch: encode(map[string]any{"status": status})})
		default:
			obj, status := k.make(&all[i])
			create = append(create, Write{Object: obj, Create: true, PatchType: types.MergePatchType, Patch: encode(map[string]any{"status": status})})
		}
	}
	slices.SortFunc(out, func(a, b Write) int { return strings.Compare(a.Object.GetName(), b.Object.GetName()) })
	return append(out, create...)
}

func (who Speaker) owners() []metav1.OwnerReference {
	if who.Owner == nil {
		return nil
	}
	return []metav1.OwnerReference{*who.Owner}
}

// sameOwner compares by UID: a Pod of the same name may be another one.
func sameOwner(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool { return x.UID == y.UID })
}
