// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// sameButVersion reports whether two readings of an object differ in nothing
// but the resource version, that is, only in fields that are not kept.
func sameButVersion(before, after any) bool {
	b, ok := before.(client.Object)
	if !ok {
		return false
	}
	a, ok := after.(client.Object)
	if !ok || reflect.TypeOf(b) != reflect.TypeOf(a) {
		return false
	}
	if b.GetResourceVersion() == a.GetResourceVersion() {
		return true
	}
	// A shallow copy: b itself is shared with the cache.
	copied := reflect.New(reflect.TypeOf(b).Elem())
	copied.Elem().Set(reflect.ValueOf(b).Elem())
	c := copied.Interface().(client.Object)
	c.SetResourceVersion(a.GetResourceVersion())
	return equality.Semantic.DeepEqual(c, a)
}
