// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// sameButVersion reports whether two readings of an object differ in nothing
// but the resource version, that is, only in fields that are not kept.
func sameButVersion(before, after any) bool {
	b, ok := before.(snapshot.Object)
	if !ok {
		return false
	}
	a, ok := after.(snapshot.Object)
	if !ok || reflect.TypeOf(b) != reflect.TypeOf(a) {
		return false
	}
	if b.GetResourceVersion() == a.GetResourceVersion() {
		return true
	}
	// A shallow copy: b itself is shared with the cache.
	copied := reflect.New(reflect.TypeOf(b).Elem())
	copied.Elem().Set(reflect.ValueOf(b).Elem())
	c := copied.Interface().(snapshot.Object)
	c.SetResourceVersion(a.GetResourceVersion())
	return equality.Semantic.DeepEqual(c, a)
}

// onlyReported reports whether two readings of a Service differ in nothing but
// what a speaker reports on it: its condition. That is the echo of its own write,
// which may come before the answer to it, or the report of another speaker.
func onlyReported(before, after any) bool {
	b, ok := before.(*corev1.Service)
	if !ok {
		return false
	}
	a, ok := after.(*corev1.Service)
	if !ok {
		return false
	}
	c := *b // b itself is shared with the cache
	c.Status.Conditions = a.Status.Conditions
	return sameButVersion(&c, a)
}
