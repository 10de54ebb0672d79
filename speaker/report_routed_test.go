// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/status"
)

// TestReportsRouted: as long as a node announces the Service with BGP, the condition
// does not say that nobody does, whichever node has lost its session.
func TestReportsRouted(t *testing.T) {
	t.Parallel()
	for _, down := range []lb.NodeName{"n1", "n2", "n3"} {
		for _, local := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s local %t", down, local), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { reportsRouted(t, down, local) })
			})
		}
	}
}

func reportsRouted(t *testing.T, down lb.NodeName, local bool) {
	w := newWorld(t, 1, "n1", "n2", "n3")
	defer w.stopAll()
	w.advertise(false, true)
	if local {
		w.api.edit("services/default/web", func(o fakeObject) {
			spec := o["spec"].(fakeObject)
			spec["externalTrafficPolicy"], spec["healthCheckNodePort"] = "Local", 30000
		})
	}
	w.partial = true // the objects are another test's
	w.startAll()
	w.settle("start", worldLimit)

	// The one that the condition names loses its session, and the next one.
	for range 2 {
		lost := w.named()
		w.setSession(lost, false)
		w.never("False", 20*time.Second)
		if w.named() == lost {
			t.Errorf("the condition still names %s, which has no session", lost)
		}
		w.setSession(lost, true)
	}

	// One has none when the Service comes back; with Local, only one other node has
	// endpoints, and waits for its kube-proxy, which nobody else knows.
	w.setSession(down, false)
	w.never("False", 20*time.Second)
	w.setEndpoints()
	w.settle("no endpoints", worldLimit)
	for _, n := range w.names {
		if n != down {
			w.setEndpoints(n)
			break
		}
	}
	w.never("False NoSession", 20*time.Second)

	// Nobody has one: that is said.
	for _, n := range w.names {
		w.setSession(n, false)
	}
	w.settle("no session", worldLimit+patience)
}

// TestCourtesy: of two nodes that learn at the same time that the condition names
// nobody, the one that announces speaks first.
func TestCourtesy(t *testing.T) {
	t.Parallel()
	key, now := lb.ServiceKey{Namespace: "default", Name: "web"}, time.Now()
	written := func(rep status.ServiceReport) time.Duration {
		var r reporter
		for d := time.Duration(0); d < time.Minute; d += 100 * time.Millisecond {
			list := []status.ServiceReport{rep}
			if r.wait(list, now.Add(d)); list[0].Write {
				return d
			}
		}
		return time.Minute
	}
	good := written(status.ServiceReport{Key: key, Reason: reason.New(reason.Announcing, "n1"), Write: true, Patient: true})
	bad := written(status.ServiceReport{Key: key, Reason: reason.New(reason.NoSession, "nobody"), Write: true})
	if good == 0 || bad-good < patience/2 {
		t.Errorf("good news after %v, bad news after %v", good, bad)
	}
}

// never fails if the condition says something within a time.
func (w *world) never(what string, d time.Duration) {
	w.t.Helper()
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		if got := w.condition(); strings.HasPrefix(got, what) {
			w.t.Fatalf("after %v the condition is %q\nwrites:\n%s", time.Since(begun), got, w.lastWrites())
		}
	}
}
