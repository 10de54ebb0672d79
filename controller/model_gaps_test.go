// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// TestModelNotices switches off what keeps addresses apart, quotas, reservations
// and the memory, one thing at a time: each is needed, and the model sees it. TestOldCaches does it for the
// caches of a new leader.
func TestModelNotices(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		x    without
		want string // what the model says
	}{
		{"two leaders without a common journal", without{fence: true}, "given twice"},
		{"a new leader does not mind what the old one has recorded", without{forget: true}, "given twice"},
		{"nobody looks what has become of a lost request", without{look: true}, "given twice"},
		{"the planner knows no quotas", without{quotas: true}, "quota exceeded"},
		{"room in a quota is filled before it is made", without{patience: true}, "quota exceeded"},
		{"the planner knows no reservations", without{reserve: true}, "reservation"},
		{"reservations are for everybody in the namespace", without{whom: true}, "reserved for others"},
		{"what reservations have recorded is not read back", without{record: true}, "reservation"},
		{"nothing is remembered of Services that are gone", without{memory: true}, "back"},
		{"nothing is stored of them for the next leader", without{store: true}, "back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const first, histories = 1, 1000
			s, bad := search(tt.x, first, histories, occurrences{})
			if bad == nil {
				t.Fatalf("nothing found in %d histories", histories)
			}
			if !strings.Contains(strings.ToLower(bad.err.Error()), tt.want) {
				t.Errorf("found something else with seed %d: %v\n%s", s, bad.err, bad.story(tt.x))
			}
			if testing.Verbose() {
				t.Logf("seed %d: %v\n%s", s, bad.err, bad.story(tt.x))
			}
		})
	}
}

// TestComesBack: a Service is deleted, another one is created, and the first one
// comes back, in time or too late, to the same controller or to the next one.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			w := newWorld(without{})
			leader := w.replicas[0]
			round := func() {
				leader.catchUp(&w.apiServer)
				leader.decides(w)
				leader.writes(w, 10)
			}
			w.putPool(tiny(0, 9))
			w.putService(plain("blue", "a"))
			w.putService(plain("blue", "b"))
			round()
			w.services.remove("blue/a")
			w.services.remove("blue/b")
			round()
			if restart {
				w.start(0)
				w.replicas[0].leads, leader = true, w.replicas[0]
			}
			w.now = w.now.Add(window - 1*time.Second)
			if late {
				w.now = w.now.Add(time.Second)
			}
			w.putService(plain("blue", "c"))
			round()
			w.putService(plain("blue", "b"))
			round()
			want := map[string][]netip.Addr{"blue/c": {address(lb.IPv4, 2)}, "blue/b": {address(lb.IPv4, 1)}}
			if late {
				want["blue/c"] = []netip.Addr{address(lb.IPv4, 0)}
			}
			w.want(t, want)
			if w.settle(calm()); w.err != nil {
				t.Fatal(w.err)
			}
			w.want(t, want)
		}
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

// calm are dice for replicas that meet no fault.
func calm() dice { return dice{rand.New(fixed(0x9fffffff9fffffff))} }

// fixed is a source that always gives the same.
type fixed uint64

// Uint64 implements rand.Source.
func (f fixed) Uint64() uint64 { return uint64(f) }

// decides takes over, if need be, and plans.
func (r *replica) decides(w *world) {
	for r.basis = nil; r.basis == nil && w.err == nil && !r.lost; {
		r.decide(w, 100, calm())
	}
}

// writes lets n requests arrive, that of the journal included.
func (r *replica) writes(w *world, n int) {
	for range n {
		r.write(w, 0, arrives)
	}
}

func (w *world) want(t *testing.T, have map[string][]netip.Addr) {
	t.Helper()
	if w.err != nil {
		t.Fatal(w.err)
	}
	for name, want := range have {
		if got := assigned(w.services.live[name]); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}

var one = []netip.Addr{address(lb.IPv4, 1)}

// TestLostAnswer: the answer to a write does not reach the controller, its cache
// does not show the write yet, and the next plan wants to give the address to
// another Service.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, f := range []fate{lost, delayed, dropped} {
		w := newWorld(without{})
		leader := w.replicas[0]
		w.putPool(tiny(1, 1))
		w.putService(plain("blue", "a"))
		w.putService(plain("green", "b"))
		leader.catchUp(&w.apiServer)
		leader.decides(w)
		leader.pending = leader.pending[:1]
		leader.writes(w, 1)   // the journal
		leader.write(w, 0, f) // blue/a gets .1
		clear(leader.waiting)

		pinned := tiny(1, 1)
		pinned.pin = &pinIntent{namespaces: []string{"green"}}
		w.putPool(pinned)
		leader.pools.see(&w.pools, 10)
		leader.decides(w)
		leader.writes(w, 100)
		if f == delayed {
			// It comes too late: the version has changed.
			if len(w.requests) != 1 {
				t.Fatalf("%d requests are late, want 1", len(w.requests))
			}
			w.late(calm())
		}
		w.want(t, map[string][]netip.Addr{"blue/a": nil, "green/b": nil})
		leader.decides(w)
		leader.writes(w, 100)
		w.want(t, map[string][]netip.Addr{"blue/a": nil, "green/b": one})
		w.settle(calm())
		w.want(t, map[string][]netip.Addr{"blue/a": nil, "green/b": one})
	}
}

// TestTwoLeaders: an old leader wakes up, and would give an address that the new
// one has given, although every write carries the resource version that it was
// decided on: the two writes are to different Services, and no version covers
// both.
//
//	old leader   pool {.1 .2}: blue/a gets .1, blue/b gets .2   pauses before or after the journal
//	user         pool {.2}
//	new leader   takes the journal over; blue/b may get .2, so blue/a has to wait.
//	             blue/b gets a reason, and so a new version. blue/a gets .2
//	old leader   wakes up: all its requests conflict
func TestTwoLeaders(t *testing.T) {
	t.Parallel()
	want := map[string][]netip.Addr{"blue/a": {address(lb.IPv4, 2)}, "blue/b": nil}
	for _, recorded := range []bool{false, true} {
		w := newWorld(without{})
		old, next := w.replicas[0], w.replicas[1]
		w.putPool(tiny(1, 2))
		w.putService(plain("blue", "a"))
		w.putService(plain("blue", "b"))
		old.catchUp(&w.apiServer)
		old.decides(w)
		if recorded {
			old.writes(w, 1)
		}

		w.putPool(tiny(2, 2))
		w.leader, next.leads = 1, true
		for range 2 {
			next.decides(w)
			next.writes(w, 100)
		}
		w.want(t, want)

		old.writes(w, 100)
		w.want(t, want)
		if !old.lost {
			old.decides(w)
			old.writes(w, 100)
		}
		w.want(t, want)
		if !recorded && !old.lost {
			t.Error("it does not know that it does not lead")
		}
		if w.settle(calm()); w.err != nil {
			t.Fatal(w.err)
		}
		w.want(t, want)
	}
}

// TestOldCaches: a new leader has not seen what the old one has written, and
// would give it once more after a change of the configuration.
func TestOldCaches(t *testing.T) {
	t.Parallel()
	for _, stale := range []bool{false, true} {
		w := newWorld(without{catchUp: stale})
		old, next := w.replicas[0], w.replicas[1]
		w.putPool(tiny(1, 2))
		w.putService(plain("blue", "a"))
		w.putService(plain("blue", "b"))
		w.putService(plain("green", "c"))
		old.catchUp(&w.apiServer)
		next.catchUp(&w.apiServer)
		for range 2 { // .1 to blue/a, .2 to blue/b: the journal names the latter only
			old.decides(w)
			old.pending = old.pending[:1]
			old.writes(w, 2)
		}
		pinned := tiny(1, 1)
		pinned.pin = &pinIntent{namespaces: []string{"green"}}
		w.putPool(pinned)
		next.pools.see(&w.pools, 10)

		w.leader, next.leads = 1, true
		next.decides(w)
		next.writes(w, 100)
		if got := w.err != nil; got != stale {
			t.Errorf("with old caches %v: %v", stale, w.err)
		}
		if stale {
			continue
		}
		w.settle(calm())
		w.want(t, map[string][]netip.Addr{"blue/a": nil, "blue/b": nil, "green/c": one})
	}
}
