// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube"
	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

func TestSyncTakesOverBeforeTheFirstPlan(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{fail: map[string]error{}, objs: snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool("main")}, Services: []*corev1.Service{service("web", "")}}}
	c := newController(t, f)
	sync := func(want ...string) {
		t.Helper()
		_, err := c.sync(t.Context())
		if failed := len(f.fail) > 0; (err != nil) != failed {
			t.Errorf("sync: error %v", err)
		}
		if diff := cmp.Diff(want, f.steps); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		f.steps = nil
	}
	// Whatever fails, there is no plan, and it begins anew.
	for what, before := range map[string][]string{
		"take over": {"take over"},
		"catch up":  {"take over", "catch up"},
		"settle":    {"take over", "catch up", "settle"},
	} {
		c.caughtUp = false
		f.fail[what] = errors.New("no connection")
		sync(before...)
		if services := f.take(); len(services) > 0 && services[0] != "controller" {
			t.Errorf("written although it could not %s: %v", what, services)
		}
		delete(f.fail, what)
	}
	c.caughtUp = false
	sync("take over", "catch up", "settle")
	sync("settle")
	if diff := cmp.Diff("web", f.take()[0]); diff != "" {
		t.Errorf("written first (-want +got):\n%s", diff)
	}
}

func TestLeadEndsWhenTheJournalIsLost(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{outcome: kube.Outcome{Err: fmt.Errorf("write: %w", journal.ErrLost)}}
	c := newController(t, f)
	err := c.lead(t.Context(), func(ctx context.Context) error {
		for ctx.Err() == nil {
			_, _ = c.sync(ctx)
		}
		return nil
	})
	if !errors.Is(err, journal.ErrLost) {
		t.Errorf("error %v, want ErrLost: the program has to end", err)
	}
	if c.applied.Load() {
		t.Error("counts as applied")
	}

	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := c.lead(stopped, func(context.Context) error { return nil }); err != nil {
		t.Errorf("an ordinary stop: %v", err)
	}
}

func TestHolder(t *testing.T) {
	t.Parallel()
	a, b := holder(), holder()
	if a == b || !strings.Contains(a, "_") {
		t.Errorf("two starts are called %q and %q", a, b)
	}
}

// The write that keeps an old request out frees what was held back, and tells
// nobody by itself.
func TestSyncGoesOnWhileARequestIsUnderway(t *testing.T) {
	t.Parallel()
	web := service("web", "")
	web.UID = "uid"
	f := &fakeCluster{objs: snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool("main")}, Services: []*corev1.Service{web}}}
	c := newController(t, f)
	for _, open := range [][]status.Underway{nil, {{UID: "uid", Version: "1"}}} {
		f.underway = open
		again, err := c.sync(t.Context())
		if soon := again > 0 && again < time.Second; err != nil || soon != (open != nil) {
			t.Errorf("with %d requests under way: again in %v, error %v", len(open), again, err)
		}
	}
}
