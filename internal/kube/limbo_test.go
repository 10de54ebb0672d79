// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/api/v1beta1"
)

const l2Kind = "L2Advertisement.metallb.io"

// crdState is what the API server says of a definition.
type crdState struct {
	age     time.Duration
	deleted bool
	err     error
}

func TestLimbo(t *testing.T) {
	t.Parallel()
	var (
		old       = &crdState{age: time.Hour}
		deleting  = &crdState{age: time.Hour, deleted: true}
		gone      = &crdState{err: apierrors.NewNotFound(schema.GroupResource{}, "")}
		young     = &crdState{age: time.Second}
		forbidden = &crdState{err: apierrors.NewForbidden(schema.GroupResource{}, "", nil)}
		away      = &crdState{err: errors.New("no connection")}
	)
	type step struct {
		state *crdState
		wait  time.Duration
		again bool // the object is made again
		have  int
	}
	tests := []struct {
		name  string
		fresh bool // the object has just been made
		steps []step
	}{
		{"a user deletes it", false, []step{{state: old, have: 0}}},
		{"a user deletes it soon after the installation", true, []step{{state: young, have: 0}}},
		{"the definition goes and does not come back", false, []step{{state: deleting, have: 1}, {state: gone, wait: time.Hour, have: 1}}},
		{"the definition comes back, the object does not", false, []step{{state: gone, have: 1}, {state: young, wait: 30 * time.Second, have: 1}, {state: old, wait: time.Minute, have: 0}}},
		{"both come back", false, []step{{state: gone, have: 1}, {state: young, wait: 5 * time.Second, again: true, have: 1}, {state: old, wait: time.Hour, have: 1}}},
		{"it may not look", false, []step{{state: forbidden, have: 0}}},
		{"no answer for a while", false, []step{{state: away, wait: time.Minute, have: 1}, {state: old, wait: time.Minute, have: 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				settle := func() { time.Sleep(time.Second); synctest.Wait() }
				var state atomic.Pointer[crdState]
				all := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "all"}}
				if tt.fresh {
					all.CreationTimestamp = metav1.NewTime(time.Now())
				}
				f := startWith(t, SpeakerKinds("node1", labels.Nothing()), func(s *server) { s.sources[l2Kind].Add(all.DeepCopy()) },
					func(c *Caches) {
						c.definitions = func(_ context.Context, name string) (*metav1.PartialObjectMetadata, error) {
							if name != "l2advertisements.metallb.io" {
								t.Errorf("asks for %s", name)
							}
							s := state.Load()
							crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Now().Add(-s.age))}}
							if s.deleted {
								crd.DeletionTimestamp = &metav1.Time{Time: time.Now()}
							}
							return crd, s.err
						}
					})
				settle()
				state.Store(tt.steps[0].state)
				f.server.sources[l2Kind].Delete(all.DeepCopy())
				for i, s := range tt.steps {
					state.Store(s.state)
					if s.again {
						f.server.sources[l2Kind].Add(all.DeepCopy())
					}
					time.Sleep(s.wait + time.Millisecond)
					synctest.Wait()
					o, err := f.read()
					if err != nil {
						t.Fatal(err)
					}
					if got := len(o.L2Advertisements); got != s.have {
						t.Errorf("after step %d: %d advertisements, want %d", i, got, s.have)
					}
				}
			})
		})
	}
}

func TestReadDefinition(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x","creationTimestamp":"2026-01-01T00:00:00Z"}}`)
	got, err := c.connections.definition(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), got.CreationTimestamp.UTC()); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	wantRequest(t, w, `GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/x type "" accept "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"`)
}
