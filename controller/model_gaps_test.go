// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/internal/core/lb"
)

// TestModelGaps shows what the controller does not stand, each by a history
// that the model finds. Who closes a gap sees its case fail, and moves the
// fault to TestModel.
func TestModelGaps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		f    faults
		want string // of the failure
		// close says what would close the gap.
		close string
	}{
		{
			"an address is given before it is taken", faults{},
			"before it has been taken",
			"Taking and giving are two requests, sent at once. status should hold an address back until the reading shows that nobody else has it (TestModelRemedies).",
		},
		{
			"a Service that is being deleted loses its address in the plan", faults{early: true, linger: true},
			"",
			"The plan takes the address and may give a new one, but a Service that is being deleted is not written to. The planner should keep what it has, and give it nothing.",
		},
		{
			"a new leader has not seen the old one's writes", faults{early: true, staleTakeover: true},
			"does not know",
			"Before its first plan a leader should ask the API server for the present version of each collection and wait until its caches have reached it.",
		},
		{
			"two leaders", faults{early: true, twoLeaders: true},
			"does not know",
			"See TestTwoLeaders.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const first, histories = 1, 2000
			s, bad := search(tt.f, remedies{}, first, histories)
			if bad == nil {
				t.Fatalf("no longer found in %d histories. It was to be closed so: %s", histories, tt.close)
			}
			if !strings.Contains(bad.err.Error(), tt.want) {
				t.Errorf("found something else with seed %d: %v\n%s", s, bad.err, bad.story(tt.f, remedies{}))
			}
			if testing.Verbose() {
				t.Logf("seed %d: %v\n%s", s, bad.err, bad.story(tt.f, remedies{}))
			}
		})
	}
}

// tiny is a pool of a few IPv4 addresses.
func tiny(from, to int) *poolIntent {
	return &poolIntent{name: "p0", segments: []segment{{family: lb.IPv4, from: from, to: to}}}
}

func plain(ns, name string) *svcIntent {
	return &svcIntent{
		ns: ns, name: name, balancer: true, selector: "x", policy: lb.SingleStack,
		families: []lb.Family{lb.IPv4}, ports: []lb.Port{{Protocol: "TCP", Number: 80}},
	}
}

// TestLostAnswer is the shortest history in which the answer to a write does
// not reach the controller, its cache does not show the write yet, and a plan
// made meanwhile gives the address to another Service. To read the object
// afresh before there is another plan closes the gap.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, r := range []remedies{{}, {reread: true}} {
		w := newWorld(faults{lose: true}, r)
		leader := w.replicas[0]
		w.putPool(tiny(1, 1))
		w.putService(plain("blue", "a"))
		w.putService(plain("green", "b"))
		leader.catchUp(&w.apiServer)
		leader.decide(w, 1)
		leader.write(w, 0, lost) // blue/a gets .1

		pinned := tiny(1, 1)
		pinned.pin = &pinIntent{namespaces: []string{"green"}}
		w.putPool(pinned)
		leader.pools.see(&w.pools, 10)
		leader.decide(w, 100)
		if want := []netip.Addr{address(lb.IPv4, 1)}; !slices.Equal(assigned(w.services.live["blue/a"]), want) {
			t.Fatalf("blue/a has %v, want %v", assigned(w.services.live["blue/a"]), want)
		}
		for len(leader.pending) > 0 && w.err == nil {
			leader.write(w, 0, arrives)
		}
		want := "203.0.113.1 given twice: to green/b while blue/a has it, which the replica does not know"
		if r.reread {
			want = "<nil>"
		}
		if got := fmt.Sprint(w.err); got != want {
			t.Errorf("with %+v: outcome %q, want %q", r, got, want)
		}
	}
}

// TestTwoLeaders is the shortest history in which an old leader that wakes up
// gives an address that the new one has given, although every write carries the
// resource version that it was decided on: the two writes are to different
// Services, and no version covers both.
//
//	old leader   pool {.1 .2}: blue/a gets .1, blue/b gets .2   pauses
//	user         pool {.2}
//	new leader   blue/a gets .2; blue/b gets nothing            has written to blue/a only
//	old leader   wakes up, writes .2 to blue/b                  the version of blue/b is still right
//
// A lease cannot exclude it: the old leader may stop between its last look at
// the clock and its request. What does exclude it is an object that every gift
// of an address of one pool must pass, with a version of its own: before the
// writes of a round, the leader records the gifts it is about to make (address,
// UID) in the status of the pool, one write for the whole round; a plan counts
// recorded gifts as taken until the Service shows them or is seen without. The
// old leader's record then meets a conflict, or the new leader sees it.
func TestTwoLeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(faults{early: true, twoLeaders: true}, remedies{})
	old, next := w.replicas[0], w.replicas[1]
	w.putPool(tiny(1, 2))
	w.putService(plain("blue", "a"))
	w.putService(plain("blue", "b"))
	old.catchUp(&w.apiServer)
	old.decide(w, 100)

	w.putPool(tiny(2, 2))
	next.catchUp(&w.apiServer)
	next.decide(w, 100)
	next.write(w, 0, arrives)

	old.write(w, 0, arrives) // blue/a: a conflict
	if w.err != nil {
		t.Fatal(w.err)
	}
	old.write(w, 0, arrives)
	const want = "203.0.113.2 given twice: to blue/b while blue/a has it, which the replica does not know"
	if w.err == nil || w.err.Error() != want {
		t.Errorf("outcome %q, want %q", w.err, want)
	}
	if w.err = nil; t.Failed() {
		return
	}

	// It does not last: the next plan of whoever sees both takes it from the
	// younger one.
	w.twoLeaders, w.leader = false, 1
	w.settle(dice{rand.New(rand.NewPCG(1, 1))})
	if w.err != nil {
		t.Fatal(w.err)
	}
	only := []netip.Addr{address(lb.IPv4, 2)}
	if a, b := assigned(w.services.live["blue/a"]), assigned(w.services.live["blue/b"]); !slices.Equal(a, only) || len(b) != 0 {
		t.Errorf("blue/a has %v and blue/b has %v, want %v and none", a, b, only)
	}
}
