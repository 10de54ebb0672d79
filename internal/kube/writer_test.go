// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// fakeAPI answers each request after a while.
type fakeAPI struct {
	takes time.Duration
	live  string // version of every object

	mu      sync.Mutex // guards everything below
	fail    map[string]error
	calls   []string
	current int
	most    int
}

func (f *fakeAPI) Get(_ context.Context, name types.NamespacedName, obj snapshot.Object) error {
	if err := f.request("get"); err != nil {
		return err
	}
	if f.live == "" {
		return apierrors.NewNotFound(schema.GroupResource{}, name.Name)
	}
	obj.SetUID(types.UID("uid-" + name.Name))
	obj.SetResourceVersion(f.live)
	return nil
}

func (f *fakeAPI) Create(_ context.Context, obj snapshot.Object) error {
	return f.request("create " + obj.GetName())
}

func (f *fakeAPI) PatchStatus(ctx context.Context, obj snapshot.Object, _ types.PatchType, _ []byte) error {
	if err := f.request(obj.GetName()); err != nil {
		return err
	}
	obj.SetResourceVersion("9")
	return ctx.Err()
}

func (f *fakeAPI) Delete(_ context.Context, obj snapshot.Object) error {
	return f.request("delete " + string(obj.GetUID()))
}

func (f *fakeAPI) request(name string) error {
	f.mu.Lock()
	f.current++
	f.most = max(f.most, f.current)
	f.mu.Unlock()
	time.Sleep(f.takes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current--
	f.calls = append(f.calls, name)
	return f.fail[name]
}

func (f *fakeAPI) setFail(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = map[string]error{name: err}
}

func (f *fakeAPI) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.calls
	f.calls = nil
	return out
}

type writerFixture struct {
	*Writer
	api        *fakeAPI
	events     *record.FakeRecorder
	remembered []string
}

func testWriter(api *fakeAPI) *writerFixture {
	f := &writerFixture{api: api, events: record.NewFakeRecorder(1000)}
	var mu sync.Mutex // guards remembered
	f.Writer = newWriter(api, func(obj snapshot.Object, created bool) {
		mu.Lock()
		defer mu.Unlock()
		f.remembered = append(f.remembered, fmt.Sprintf("%s@%s created=%v", obj.GetName(), obj.GetResourceVersion(), created))
	}, f.events, telemetry.NewControllerMetrics().Client, slog.New(slog.DiscardHandler))
	return f
}

func write(name string) status.Write {
	return status.Write{
		Object:    &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: name, ResourceVersion: "1"}},
		Patch:     []byte("{}"),
		PatchType: types.MergePatchType,
		Events:    []status.Event{{Type: "Normal", Reason: "Done", Message: name}},
	}
}

var conflict = apierrors.NewConflict(schema.GroupResource{Resource: "pools"}, "x", errors.New("changed"))

func TestWriterWritesInParallelAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{takes: 10 * time.Millisecond})
		var all []status.Write
		for i := range 1000 {
			all = append(all, write(fmt.Sprintf("p%04d", i)))
		}
		started := time.Now()
		out := f.Apply(t.Context(), all)
		if out.Written != batch || out.Again == 0 || out.Err != nil {
			t.Errorf("outcome %+v, want %d written and more to do", out, batch)
		}
		if f.api.most != writers {
			t.Errorf("%d requests at once, want %d", f.api.most, writers)
		}
		if got, want := time.Since(started), batch/writers*10*time.Millisecond; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		if n := len(f.events.Events); n != batch {
			t.Errorf("%d events, want %d", n, batch)
		}
	})
}

func TestWriterConflictIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{})
		f.api.setFail("a", conflict)
		out := f.Apply(t.Context(), []status.Write{write("a"), write("b")})
		want := Outcome{Written: 1, Done: []status.Write{write("b")}, Conflicts: 1, Again: conflictFirst}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
		if n := len(f.events.Events); n != 1 {
			t.Errorf("%d events, want 1: none about a write that did not happen", n)
		}
		if diff := cmp.Diff([]string{"b@9 created=false"}, f.remembered); diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
		if n := testutil.ToFloat64(f.metrics.Writes.WithLabelValues("IPAddressPool", "conflict")); n != 1 {
			t.Errorf("conflicts counted: %v, want 1", n)
		}

		f.api.setFail("", nil)
		time.Sleep(out.Again)
		if out := f.Apply(t.Context(), []status.Write{write("a")}); out.Written != 1 || out.Again != 0 {
			t.Errorf("next round: %+v, want one written and nothing left", out)
		}
	})
}

func TestWriterFailureDelaysOnlyThatObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{})
		f.api.setFail("a", errors.New("refused"))
		all := []status.Write{write("a"), write("b")}
		out := f.Apply(t.Context(), all)
		if out.Failed != 1 || out.Written != 1 || out.Err == nil || out.Again != retryFirst {
			t.Errorf("first round: %+v", out)
		}
		f.api.take()
		time.Sleep(retryFirst / 2)
		out = f.Apply(t.Context(), all)
		if diff := cmp.Diff([]string{"b"}, f.api.take()); diff != "" {
			t.Errorf("requests while a waits (-want +got):\n%s", diff)
		}
		if out.Again != retryFirst/2 {
			t.Errorf("again in %v, want %v", out.Again, retryFirst/2)
		}
		time.Sleep(out.Again)
		out = f.Apply(t.Context(), []status.Write{write("a")})
		if out.Failed != 1 || out.Again != 2*retryFirst {
			t.Errorf("second failure: %+v, want a wait twice as long", out)
		}
	})
}

func TestWriterCountersWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{})
		minor := write("a")
		minor.Minor = true
		f.Apply(t.Context(), []status.Write{minor})
		out := f.Apply(t.Context(), []status.Write{minor})
		if out.Written != 0 || out.Again != minorInterval {
			t.Errorf("second time at once: %+v, want nothing written and again in %v", out, minorInterval)
		}
		if out := f.Apply(t.Context(), []status.Write{write("a")}); out.Written != 1 {
			t.Errorf("an important write of the same object waited: %+v", out)
		}
		time.Sleep(minorInterval)
		if out := f.Apply(t.Context(), []status.Write{minor}); out.Written != 1 {
			t.Errorf("after the wait: %+v, want one written", out)
		}
	})
}

func TestWriterCompletesRequestsAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{takes: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		var all []status.Write
		for i := range 100 {
			all = append(all, write(fmt.Sprint(i)))
		}
		out := f.Apply(ctx, all)
		if out.Failed != 0 || out.Written < writers || out.Written > writers+1 {
			t.Errorf("outcome %+v, want the requests under way completed and no others begun", out)
		}
	})
}

func TestWriterCreates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{})
		w := write("state")
		w.Create = true
		f.Apply(t.Context(), []status.Write{w})
		if diff := cmp.Diff([]string{"create state", "state"}, f.api.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"state@1 created=true", "state@9 created=true"}, f.remembered); diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
	})
}

func TestWriterDeletes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testWriter(&fakeAPI{})
		w := write("l2-abc")
		w.Object.SetUID("u1")
		w.Delete = true
		f.Apply(t.Context(), []status.Write{w})
		if diff := cmp.Diff([]string{"delete u1"}, f.api.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := func(uid types.UID, version string) *v1beta1.IPAddressPool {
			return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{UID: uid, ResourceVersion: version}}
		}
		versions := func(items []any) []string {
			var out []string
			for _, i := range items {
				o := i.(snapshot.Object)
				out = append(out, string(o.GetUID())+"@"+o.GetResourceVersion())
			}
			return out
		}
		check := func(what string, o *overlay, items []any, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, versions(o.apply(items))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		var o overlay
		o.put(at("a", "10"), false)
		check("the cache is behind", &o, []any{at("a", "9"), at("b", "9")}, "a@10", "b@9")
		check("it still is", &o, []any{at("a", "9")}, "a@10")
		check("it has caught up", &o, []any{at("a", "11")}, "a@11")
		check("forgotten", &o, []any{at("a", "9")}, "a@9")

		o.put(at("c", "10"), false)
		check("deleted meanwhile", &o, []any{at("b", "9")}, "b@9")

		o.put(at("d", "10"), true)
		check("created, not in the cache yet", &o, []any{at("b", "9")}, "b@9", "d@10")
		o.drop("d")
		check("and deleted", &o, []any{at("b", "9")}, "b@9")

		o.put(at("e", "10"), true)
		time.Sleep(createdFor)
		check("created, never seen in the cache", &o, []any{at("b", "9")}, "b@9")
	})
}
