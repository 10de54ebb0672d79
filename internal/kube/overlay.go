// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// overlay holds what this program has written until the cache shows it, so
// that the next plan is not made from a state that is known to be old: no
// address is given twice, and no write repeated.
type overlay struct {
	mu      sync.Mutex // guards what follows
	entries map[types.UID]overlayEntry
	// own is the version that this program's last write gave each object,
	// until an event shows that version or a later one.
	own map[types.UID]string
}

type overlayEntry struct {
	obj snapshot.Object
	// created objects may not be in the cache at all yet; they are shown until
	// then, or until expires.
	created bool
	expires time.Time
}

// createdFor bounds how long a created object is shown without the cache
// having it: it may have been deleted before the cache ever saw it.
const createdFor = 10 * time.Second

func (o *overlay) put(obj snapshot.Object, created bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.entries == nil {
		o.entries = map[types.UID]overlayEntry{}
		o.own = map[types.UID]string{}
	}
	o.own[obj.GetUID()] = obj.GetResourceVersion()
	o.entries[obj.GetUID()] = overlayEntry{obj: obj, created: created, expires: time.Now().Add(createdFor)}
}

func (o *overlay) drop(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.entries, uid)
	delete(o.own, uid)
}

// echo reports whether a change of obj in the cache is this program's own last
// write to it. That was decided on the version before, and every reading since
// has had it in it, so there is nothing new to decide.
func (o *overlay) echo(obj snapshot.Object) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	version, ok := o.own[obj.GetUID()]
	if !ok {
		return false
	}
	if c, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), version); err == nil && c < 0 {
		return false // an earlier change; the echo is still to come
	}
	delete(o.own, obj.GetUID())
	return obj.GetResourceVersion() == version
}

// missing reports whether a created object is still shown without the cache
// having it.
func (o *overlay) missing(uid types.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.entries[uid].created
}

// apply returns the cached items with newer ones of the overlay in their
// place, and forgets what the cache has caught up with.
func (o *overlay) apply(items []any) []any {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.entries) == 0 {
		return items
	}
	kept := make(map[types.UID]overlayEntry, len(o.entries))
	for i, item := range items {
		cached, ok := item.(snapshot.Object)
		if !ok {
			continue
		}
		e, ok := o.entries[cached.GetUID()]
		if ok && newer(e.obj, cached) {
			items[i] = e.obj
			e.created = false
			kept[cached.GetUID()] = e
		}
		delete(o.entries, cached.GetUID())
	}
	for uid, e := range o.entries { // the order does not matter: lists have none
		if e.created && time.Now().Before(e.expires) {
			items = append(items, e.obj)
			kept[uid] = e
		}
	}
	o.entries = kept
	return items
}

// newer reports whether a is a later version of the object than b. If the
// versions cannot be compared, what the cache says counts.
func newer(a, b snapshot.Object) bool {
	c, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && c > 0
}

// remember puts an object that the API server has just returned into the
// overlay of its kind.
func (c *Caches) remember(obj snapshot.Object, created bool) {
	for _, s := range c.sources {
		if reflect.TypeOf(s.kind.object) == reflect.TypeOf(obj) {
			s.kind.strip(obj)
			s.overlay.put(obj, created)
			if uid := obj.GetUID(); created {
				// It may have been deleted before the answer to its creation came:
				// no event will tell.
				time.AfterFunc(createdFor, func() {
					if s.overlay.missing(uid) {
						c.changedOf(s)
					}
				})
			}
			return
		}
	}
}
