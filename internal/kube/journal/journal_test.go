// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// fakeServer holds the two ConfigMaps.
type fakeServer struct {
	have     *corev1.ConfigMap
	memory   *corev1.ConfigMap
	version  int
	requests []string
	// fail is the answer to the next request; with lose set it is carried out
	// nevertheless.
	fail       error
	lose       bool
	failMemory error // the next time that the memory is read
	// before is done when the next update arrives.
	before func()
}

var resource = schema.GroupResource{Resource: "configmaps"}

// of returns the ConfigMap of the name, and completes the text that says what was
// asked of it.
func (f *fakeServer) of(name string, what *string) **corev1.ConfigMap {
	if name == MemoryName {
		*what += " memory"
		return &f.memory
	}
	return &f.have
}

func (f *fakeServer) request(what string) error {
	f.requests = append(f.requests, what)
	err := f.fail
	f.fail = nil
	return err
}

func (f *fakeServer) Get(_ context.Context, name types.NamespacedName, obj snapshot.Object) error {
	what := "get"
	have := *f.of(name.Name, &what)
	if err := f.failMemory; err != nil && name.Name == MemoryName {
		f.failMemory = nil
		return err
	}
	if err := f.request(what); err != nil {
		return err
	}
	if have == nil {
		return apierrors.NewNotFound(resource, name.Name)
	}
	have.DeepCopyInto(obj.(*corev1.ConfigMap))
	return nil
}

func (f *fakeServer) Create(_ context.Context, obj snapshot.Object) error {
	what := "create"
	have := *f.of(obj.GetName(), &what)
	if err := f.request(what); err != nil {
		return err
	}
	if have != nil {
		return apierrors.NewAlreadyExists(resource, obj.GetName())
	}
	f.store(obj)
	return nil
}

func (f *fakeServer) Update(_ context.Context, obj snapshot.Object) error {
	if do := f.before; do != nil {
		f.before = nil
		do()
	}
	what := "update"
	have := *f.of(obj.GetName(), &what)
	err := f.request(what)
	if err != nil && !f.lose {
		return err
	}
	switch {
	case have == nil:
		return apierrors.NewNotFound(resource, obj.GetName())
	case have.ResourceVersion != obj.GetResourceVersion():
		return apierrors.NewConflict(resource, obj.GetName(), errors.New("changed"))
	}
	f.store(obj)
	return err
}

func (f *fakeServer) store(obj snapshot.Object) {
	f.version++
	obj.SetResourceVersion(strconv.Itoa(f.version))
	*f.of(obj.GetName(), new(string)) = obj.(*corev1.ConfigMap).DeepCopy()
}

func (f *fakeServer) take() []string {
	out := f.requests
	f.requests = nil
	return out
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// holder returns a journal that is held.
func holder(t *testing.T, f *fakeServer, name string) *Journal {
	t.Helper()
	j := New(f, "herald", name, discard())
	if err := j.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.take()
	return j
}

// gift is a write that gives addresses.
func gift(name, version string, addrs ...string) status.Write {
	w := status.Write{
		Object: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: version}},
		Patch:  fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q}}`, version), Moves: true,
	}
	for _, a := range addrs {
		w.Addresses = append(w.Addresses, netip.MustParseAddr(a))
	}
	return w
}

func open(j *Journal) []string {
	var out []string
	for _, e := range j.Open() {
		out = append(out, fmt.Sprintf("%s@%s %v %s", e.Key(), e.Version, e.Addresses, e.Patch))
	}
	return out
}

func wantRequests(t *testing.T, f *fakeServer, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.take(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestCommitIsOneRequestAndOnlyForWhatMoves(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	j := New(f, "herald", "one", discard())
	if err := j.Commit(t.Context(), []status.Write{gift("a", "1")}); !errors.Is(err, ErrLost) {
		t.Errorf("commit before it is taken: %v, want ErrLost", err)
	}
	if err := j.Commit(t.Context(), nil); err != nil {
		t.Errorf("commit of nothing: %v", err)
	}
	if err := j.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRequests(t, f, "get", "create", "get memory")
	still := gift("c", "3")
	still.Moves = false
	commit := func(writes ...status.Write) {
		t.Helper()
		if err := j.Commit(t.Context(), writes); err != nil {
			t.Fatal(err)
		}
	}
	commit(still)
	commit()
	wantRequests(t, f)
	commit(gift("a", "1", "192.0.2.1", "2001:db8::1"), still, gift("b", "2"))
	wantRequests(t, f, "update")
	want := []string{
		`shop/a@1 [192.0.2.1 2001:db8::1] {"metadata":{"resourceVersion":"1"}}`,
		`shop/b@2 [] {"metadata":{"resourceVersion":"2"}}`,
	}
	if diff := cmp.Diff(want, open(j)); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	j.Close("uid-a", "1")
	j.Close("uid-b", "other")
	commit(gift("b", "2")) // once more: the younger one replaces it
	commit(gift("b", "2", "192.0.2.7"))
	want = []string{
		`shop/b@2 [] {"metadata":{"resourceVersion":"2"}}`,
		`shop/b@2 [192.0.2.7] {"metadata":{"resourceVersion":"2"}}`,
	}
	if diff := cmp.Diff(want, open(j)); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	// The next leader finds what is in the object.
	next := holder(t, f, "two")
	if diff := cmp.Diff(want, open(next)); diff != "" {
		t.Errorf("left to the next leader (-want +got):\n%s", diff)
	}
}

// TestRefused: one write to a Service is refused, and an older one to the same version is still on its way.
func TestRefused(t *testing.T) {
	t.Parallel()
	older, younger := gift("b", "2", "192.0.2.7"), gift("b", "2", "192.0.2.8")
	for _, tc := range []struct {
		name    string
		younger status.Write
		left    []string
	}{
		{"it wants another address", younger, []string{`shop/b@2 [192.0.2.7] {"metadata":{"resourceVersion":"2"}}`}},
		{"it wants the same", older, []string{`shop/b@2 [192.0.2.7] {"metadata":{"resourceVersion":"2"}}`}},
		{"it is for another version", gift("b", "3", "192.0.2.7"), []string{`shop/b@2 [192.0.2.7] {"metadata":{"resourceVersion":"2"}}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeServer{}
			if err := holder(t, f, "old").Commit(t.Context(), []status.Write{older}); err != nil {
				t.Fatal(err)
			}
			j := holder(t, f, "new")
			if err := j.Commit(t.Context(), []status.Write{tc.younger, gift("c", "1")}); err != nil {
				t.Fatal(err)
			}
			other := gift("c", "1")
			j.Refused(&other)
			j.Refused(&tc.younger)
			if diff := cmp.Diff(tc.left, open(j)); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
			j.Close("uid-b", "2")
			if left := open(j); left != nil {
				t.Errorf("open after all: %v", left)
			}
		})
	}
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	old := holder(t, f, "old")
	next := holder(t, f, "next")
	if err := old.Commit(t.Context(), []status.Write{gift("a", "1")}); !errors.Is(err, ErrLost) {
		t.Errorf("the old leader commits: %v, want ErrLost", err)
	}
	wantRequests(t, f, "update", "get")
	if err := old.Commit(t.Context(), []status.Write{gift("a", "1")}); !errors.Is(err, ErrLost) || old.Taken() {
		t.Errorf("it may go on: %v, want ErrLost", err)
	}
	// The old leader is quicker than the one that takes over.
	third := New(f, "herald", "third", discard())
	f.before = func() {
		if err := next.Commit(t.Context(), []status.Write{gift("b", "1")}); err != nil {
			t.Error(err)
		}
	}
	if err := third.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`shop/b@1 [] {"metadata":{"resourceVersion":"1"}}`}, open(third)); diff != "" {
		t.Errorf("taken over (-want +got):\n%s", diff)
	}
	f.have = nil
	if err := third.Commit(t.Context(), []status.Write{gift("a", "1")}); !errors.Is(err, ErrLost) {
		t.Errorf("the journal was deleted: %v, want ErrLost", err)
	}
}

func TestCommitAfterALostAnswer(t *testing.T) {
	t.Parallel()
	for _, lose := range []bool{false, true} {
		f := &fakeServer{}
		j := holder(t, f, "one")
		f.fail, f.lose = errors.New("timeout"), lose
		if err := j.Commit(t.Context(), []status.Write{gift("a", "1")}); err == nil {
			t.Error("no error")
		}
		if got := open(j); got != nil {
			t.Errorf("open although nothing may be sent: %v", got)
		}
		f.take()
		if err := j.Commit(t.Context(), []status.Write{gift("b", "1")}); err != nil {
			t.Error(err)
		}
		wantRequests(t, f, "get", "update")
		if diff := cmp.Diff(open(j), open(holder(t, f, "two"))); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	}
}

func TestUsersMayTouchTheObject(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	j := holder(t, f, "one")
	touched := f.have.DeepCopy()
	touched.Labels = map[string]string{"mine": "yes"}
	f.store(touched)
	if err := j.Commit(t.Context(), []status.Write{gift("a", "1")}); err != nil {
		t.Fatal(err)
	}
	wantRequests(t, f, "update", "get", "update")
	if f.have.Labels["mine"] != "yes" {
		t.Error("the label is gone")
	}
}

func TestRemembered(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	j := holder(t, f, "one")
	store := func(text string) {
		t.Helper()
		if err := j.SetRemembered(text); err != nil {
			t.Fatal(err)
		}
		if err := j.Store(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	store("")
	wantRequests(t, f)
	store("shop/a 192.0.2.1")
	store("shop/a 192.0.2.1")
	wantRequests(t, f, "create memory")
	// The journal, which is written for each address, does not carry it.
	if err := j.Commit(t.Context(), []status.Write{gift("a", "1")}); err != nil {
		t.Fatal(err)
	}
	wantRequests(t, f, "update")
	if _, ok := f.have.Data[keyRemembered]; ok {
		t.Error("the journal has what is remembered")
	}
	// What has ended leaves with the next that is new, and causes no request.
	j.TrimRemembered("")
	store("")
	wantRequests(t, f)
	store("shop/b 192.0.2.2")
	wantRequests(t, f, "update memory")
	if got := f.memory.Data[keyRemembered]; got != "shop/b 192.0.2.2" {
		t.Errorf("stored %q", got)
	}
	if err := j.SetRemembered("shop/c 192.0.2.3"); err != nil {
		t.Fatal(err)
	}
	j.TrimRemembered("shop/c 192.0.2.3")
	store("shop/c 192.0.2.3")
	wantRequests(t, f, "update memory")
	next := holder(t, f, "two")
	if got := next.Remembered(); got != "shop/c 192.0.2.3" {
		t.Errorf("the next leader remembers %q", got)
	}
	if err := next.SetRemembered(strings.Repeat("x", MaxRemembered+1)); err == nil {
		t.Error("takes a text that is too long")
	}
}

// TestStoreMeetsOthers: users change or delete the ConfigMap, answers are lost, and another leader has its own memory.
func TestStoreMeetsOthers(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	j := holder(t, f, "one")
	store := func(text string) error {
		t.Helper()
		if err := j.SetRemembered(text); err != nil {
			t.Fatal(err)
		}
		return j.Store(t.Context())
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(store("a"))
	touched := f.memory.DeepCopy()
	touched.Labels = map[string]string{"mine": "yes"}
	f.store(touched)
	f.take()
	must(store("b"))
	wantRequests(t, f, "update memory", "get", "get memory", "update memory")
	if f.memory.Labels["mine"] != "yes" {
		t.Error("the label is gone")
	}
	f.memory = nil
	must(store("c"))
	wantRequests(t, f, "update memory", "get", "get memory", "create memory")
	for _, f.lose = range []bool{false, true} {
		f.fail = errors.New("timeout")
		if err := store(fmt.Sprint("d", f.lose)); err == nil {
			t.Error("no error")
		}
		must(store(fmt.Sprint("e", f.lose)))
		if got, want := f.memory.Data[keyRemembered], fmt.Sprint("e", f.lose); got != want {
			t.Errorf("stored %q, want %q", got, want)
		}
	}
	next := holder(t, f, "two")
	must(next.SetRemembered("of the next"))
	must(next.Store(t.Context()))
	if err := store("of the old"); !errors.Is(err, ErrLost) || j.Taken() {
		t.Errorf("the old leader stores: %v, want ErrLost", err)
	}
	if got := f.memory.Data[keyRemembered]; got != "of the next" {
		t.Errorf("stored %q", got)
	}
}

// TestTakeWithoutMemory: leading needs the journal; what is remembered is tried until it can be read, or may not be.
func TestTakeWithoutMemory(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	old := holder(t, f, "old")
	if err := errors.Join(old.SetRemembered("a"), old.Store(t.Context())); err != nil {
		t.Fatal(err)
	}
	j := New(f, "herald", "one", discard())
	f.failMemory = errors.New("timeout")
	if err := j.Take(t.Context()); err == nil {
		t.Error("no error")
	}
	f.take()
	if err := j.Take(t.Context()); err != nil || j.Remembered() != "a" {
		t.Errorf("remembers %q, error %v", j.Remembered(), err)
	}
	wantRequests(t, f, "get memory")
	f.failMemory = apierrors.NewForbidden(resource, MemoryName, errors.New("role"))
	j = New(f, "herald", "two", discard())
	if err := j.Take(t.Context()); err != nil || !j.Taken() || j.Remembered() != "" {
		t.Errorf("takes over: %v; remembers %q", err, j.Remembered())
	}
}

func TestUnreadableEntries(t *testing.T) {
	t.Parallel()
	f := &fakeServer{}
	j := holder(t, f, "one")
	if err := j.Commit(t.Context(), []status.Write{gift("a", "1")}); err != nil {
		t.Fatal(err)
	}
	f.have.Data["other"] = "of nobody"
	f.have.Data[keyWrites] += "nonsense\n{\"name\":\"b\"}\n"
	var log bytes.Buffer
	next := New(f, "herald", "two", slog.New(slog.NewTextHandler(&log, nil)))
	if err := next.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.have.Data["other"]; ok {
		t.Errorf("carries %q along", got)
	}
	if len(next.Open()) != 1 || !strings.Contains(log.String(), "lacks a field") {
		t.Errorf("open %v, log %s", open(next), log.String())
	}
}
