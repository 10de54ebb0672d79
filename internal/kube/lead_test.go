// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// fakeMap is the API server's ConfigMap of the journal, and what was stored in
// the other one.
type fakeMap struct {
	mu       sync.Mutex // guards the rest
	have     *corev1.ConfigMap
	err      error // of the next updates
	requests int

	stored   string
	storeErr error // of the next ones
}

func (f *fakeMap) Get(_ context.Context, name types.NamespacedName, obj snapshot.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name.Name == journal.MemoryName {
		return apierrors.NewNotFound(schema.GroupResource{}, "")
	}
	if f.have == nil {
		return apierrors.NewNotFound(schema.GroupResource{}, "")
	}
	f.have.DeepCopyInto(obj.(*corev1.ConfigMap))
	return nil
}

func (f *fakeMap) Create(ctx context.Context, obj snapshot.Object) error { return f.Update(ctx, obj) }

func (f *fakeMap) Update(_ context.Context, obj snapshot.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if obj.GetName() == journal.MemoryName {
		if f.storeErr == nil {
			f.stored = obj.(*corev1.ConfigMap).Data["remembered"]
		}
		return f.storeErr
	}
	f.requests++
	if f.err != nil {
		return f.err
	}
	if f.have != nil && f.have.ResourceVersion != obj.GetResourceVersion() {
		return conflict
	}
	obj.SetResourceVersion(fmt.Sprint(f.requests))
	f.have = obj.(*corev1.ConfigMap).DeepCopy()
	return nil
}

// leader is a Writer that has taken the journal over.
func leader(t *testing.T, api *fakeAPI, m *fakeMap) *writerFixture {
	t.Helper()
	f := testWriter(api)
	f.journal = journal.New(m, "herald", "me", slog.New(slog.DiscardHandler))
	if err := f.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.requests = 0
	return f
}

// gift gives an address to a Service.
func gift(name string) status.Write {
	return status.Write{
		Object: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"}},
		Patch:  []byte("{}"), PatchType: types.StrategicMergePatchType, Moves: true, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
}

func underway(w *Writer) []string {
	var out []string
	for _, u := range w.Underway() {
		out = append(out, fmt.Sprintf("%s@%s %v", u.UID, u.Version, u.Addresses))
	}
	return out
}

func TestWriterRecordsWhatMoves(t *testing.T) {
	t.Parallel()
	m := &fakeMap{}
	f := leader(t, &fakeAPI{}, m)
	out := f.Apply(t.Context(), []status.Write{gift("a"), write("pool"), gift("b")})
	if out.Err != nil || out.Written != 3 || m.requests != 1 {
		t.Errorf("%+v, and %d writes of the journal, want 3 writes after one of the journal", out, m.requests)
	}
	if !strings.Contains(m.have.Data["writes"], `"name":"b"`) || strings.Contains(m.have.Data["writes"], "pool") {
		t.Errorf("the journal has %q", m.have.Data["writes"])
	}
	f.Apply(t.Context(), []status.Write{write("pool")})
	if m.requests != 1 {
		t.Error("a write of the journal for nothing")
	}
	if got := underway(f.Writer); got != nil {
		t.Errorf("under way after all have been answered: %v", got)
	}
}

func TestWriterWithoutAJournalGivesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMap{}
		f := leader(t, &fakeAPI{}, m)
		all := []status.Write{gift("a"), write("pool")}
		m.err = errors.New("timeout")
		out := f.Apply(t.Context(), all)
		if diff := cmp.Diff([]string{"pool"}, f.api.take()); diff != "" || out.Err == nil || out.Again != retryFirst {
			t.Errorf("outcome %+v, requests (-want +got):\n%s", out, diff)
		}
		f.Apply(t.Context(), all)
		if m.requests != 1 {
			t.Errorf("%d tries at once, want 1", m.requests)
		}
		m.err = nil
		time.Sleep(retryFirst)
		f.api.take()
		out = f.Apply(t.Context(), all)
		if diff := cmp.Diff([]string{"a", "pool"}, sorted(f.api.take())); diff != "" || out.Err != nil {
			t.Errorf("outcome %+v, requests (-want +got):\n%s", out, diff)
		}
		// Another replica takes over.
		other := journal.New(m, "herald", "other", slog.New(slog.DiscardHandler))
		if err := other.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		out = f.Apply(t.Context(), all)
		if got := f.api.take(); !errors.Is(out.Err, journal.ErrLost) || got != nil {
			t.Errorf("outcome %+v, requests %v, want none and ErrLost", out, got)
		}
	})
}

// TestWriterStoresWhatIsRemembered: beside the writes, which do not fail with it.
func TestWriterStoresWhatIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMap{storeErr: errors.New("unavailable")}
		f := leader(t, &fakeAPI{}, m)
		if err := f.journal.SetRemembered("shop/gone 192.0.2.9"); err != nil {
			t.Fatal(err)
		}
		out := f.Apply(t.Context(), []status.Write{gift("a")})
		if out.Err != nil || out.Written != 1 || out.Again != retryFirst {
			t.Errorf("%+v, want one write, and another round in %v", out, retryFirst)
		}
		m.storeErr = nil
		if out := f.Apply(t.Context(), nil); m.stored != "" || out.Again != retryFirst {
			t.Errorf("tried again at once: %+v", out)
		}
		time.Sleep(retryFirst)
		if out := f.Apply(t.Context(), nil); m.stored != "shop/gone 192.0.2.9" || out.Again != 0 || out.Err != nil {
			t.Errorf("%+v, stored %q", out, m.stored)
		}
	})
}

func TestSettle(t *testing.T) {
	t.Parallel()
	status500 := apierrors.NewInternalError(errors.New("etcd: timeout"))
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "a", nil)
	tests := []struct {
		name   string
		answer error
		open   bool   // after the answer
		live   string // version; empty: gone
		after  bool   // after Settle
		seen   bool   // the overlay has the live object
	}{
		{name: "answered", live: "2"},
		{name: "refused", answer: invalid, live: "1"},
		{name: "gone", answer: apierrors.NewNotFound(schema.GroupResource{}, "a")},
		{name: "timeout, carried out", answer: context.DeadlineExceeded, open: true, live: "2", seen: true},
		{name: "timeout, not carried out so far", answer: context.DeadlineExceeded, open: true, live: "1", after: true},
		{name: "timeout, and deleted", answer: context.DeadlineExceeded, open: true},
		{name: "error of the server", answer: status500, open: true, live: "1", after: true},
		{name: "conflict, perhaps with itself", answer: conflict, open: true, live: "2", seen: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := leader(t, &fakeAPI{}, &fakeMap{})
			f.api.setFail("a", tt.answer)
			f.Apply(t.Context(), []status.Write{gift("a")})
			if got := len(f.Underway()) > 0; got != tt.open {
				t.Fatalf("under way: %v, want %v", underway(f.Writer), tt.open)
			}
			f.remembered = nil
			f.api.setFail("get", errors.New("no connection"))
			if err := f.Settle(t.Context()); (err != nil) != tt.open {
				t.Errorf("settle without a connection: %v", err)
			}
			f.api.setFail("get", nil)
			f.api.live = tt.live
			if err := f.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := len(f.Underway()) > 0; got != tt.after {
				t.Errorf("under way after settling: %v, want %v", underway(f.Writer), tt.after)
			}
			if got := len(f.remembered) > 0; got != tt.seen {
				t.Errorf("remembered %v, want %v", f.remembered, tt.seen)
			}
		})
	}
}

// TestRefusedAfterALostAnswer: nobody knows what becomes of the first write, and the second one to the same version of the
// Service is refused, which says nothing about the first.
func TestRefusedAfterALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := leader(t, &fakeAPI{}, &fakeMap{})
		f.api.setFail("a", context.DeadlineExceeded)
		f.Apply(t.Context(), []status.Write{gift("a")})
		second := gift("a")
		second.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		f.api.setFail("a", apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "a", nil))
		time.Sleep(retryMax)
		f.api.take()
		if f.Apply(t.Context(), []status.Write{second}); len(f.api.take()) != 1 {
			t.Fatal("the second write was not sent")
		}
		if diff := cmp.Diff([]string{"uid-a@1 [192.0.2.1]"}, underway(f.Writer)); diff != "" {
			t.Errorf("under way (-want +got):\n%s", diff)
		}
	})
}

func TestFit(t *testing.T) {
	t.Parallel()
	small := make([]status.Write, batch+50)
	if got := fit(small); got != batch {
		t.Errorf("%d writes fit, want %d", got, batch)
	}
	big := make([]status.Write, 300)
	for i := range big {
		big[i] = status.Write{Moves: true, Patch: make([]byte, 4096)}
	}
	got := fit(big)
	if size := got * (4096 + recordSize); got == 0 || size > journal.MaxWrites || size < journal.MaxWrites/2 {
		t.Errorf("%d writes of 4 KiB fit", got)
	}
	huge := []status.Write{{Moves: true, Patch: make([]byte, journal.MaxWrites)}, {}}
	if got := fit(huge); got != 1 {
		t.Errorf("%d writes fit, want 1: at least one has to", got)
	}
}

func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}
