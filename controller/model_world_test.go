// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// A history is a list of operations. Each carries its own seed and finds its
// object by name, so that it means the same when others are left out.

// op is one operation.
type op struct {
	do   string
	seed uint64
}

// without switches off what keeps addresses apart, to see that the model
// notices.
type without struct {
	fence   bool // every leader has a journal of its own
	forget  bool // a new leader does not mind what the old one has recorded
	catchUp bool // a new leader plans from the caches as they are
	look    bool // nobody looks what has become of a lost request

	quotas   bool // the planner knows none
	patience bool // what makes room in a quota and what fills it are written at once
	reserve  bool // the planner knows no reservations
	whom     bool // and not whom they are for
	record   bool // and not what they have recorded
	memory   bool // nothing is remembered
	store    bool // nor stored for the next leader
}

// weights are how often an operation occurs.
type weight struct {
	do string
	n  int
}

func weights() []weight {
	return []weight{
		{"edit", 150}, {"delete", 25}, {"recreate", 15}, {"retype", 20}, {"announce", 20},
		{"pool", 50}, {"drop pool", 10}, {"wipe", 1}, {"namespace", 10}, {"drop namespace", 3},
		{"reserve", 25}, {"drop reservation", 8}, {"quota", 12}, {"return", 15}, {"leap", 4},
		{"see", 170}, {"decide", 170}, {"write", 330}, {"late", 20}, {"restart", 8}, {"lead", 10}, {"settle", 30},
	}
}

// history makes n random operations.
func history(seed uint64, n int) []op {
	r := rand.New(rand.NewPCG(seed, 0))
	var total int
	for _, w := range weights() {
		total += w.n
	}
	out := make([]op, 0, n+1)
	for range n {
		x := r.IntN(total)
		for _, w := range weights() {
			if x -= w.n; x < 0 {
				out = append(out, op{w.do, r.Uint64()})
				break
			}
		}
	}
	return append(out, op{"settle", r.Uint64()})
}

type world struct {
	apiServer
	without
	replicas [2]*replica
	// leader has the Lease. The other one may believe so, too: it was paused,
	// and has not looked.
	leader int
	starts int // of replicas

	err     error
	trace   []string
	tracing bool
	seen    occurrences
	gone    map[string]*svcIntent // what users have deleted
	stored  map[string]departure  // by the last leader, for the next one
}

func newWorld(without without) *world {
	w := &world{without: without, seen: occurrences{}, gone: map[string]*svcIntent{}}
	w.journals, w.bases = map[string]*corev1.ConfigMap{}, map[string]*reading{}
	w.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range w.replicas {
		w.start(i)
	}
	w.replicas[0].leads = true
	return w
}

// start starts a replica, in the place of one that has ended. What that one had
// under way may arrive later.
func (w *world) start(i int) {
	if old := w.replicas[i]; old != nil {
		old.abandon(w)
	}
	w.starts++
	w.replicas[i] = newReplica(fmt.Sprintf("replica %d", i), w)
}

// run carries out a history until something is wrong.
func (w *world) run(ops []op) error {
	for _, o := range ops {
		w.do(o)
		if w.err != nil {
			break
		}
	}
	return w.err
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// tell notes what happens, if anybody wants to know.
func (w *world) tell(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

func (w *world) do(o op) {
	r := dice{rand.New(rand.NewPCG(o.seed, 1))}
	if r.one(3) {
		w.now = w.now.Add(time.Second)
	}
	i := w.leader
	if other := 1 - i; w.replicas[other].leads && r.one(2) {
		i = other
	}
	leader := w.replicas[i]
	switch o.do {
	case "see":
		w.see(r)
	case "decide":
		if len(leader.pending) == 0 {
			w.tell("%s decides", leader.name)
		}
		leader.decide(w, pick(r, []int{1, 3, 100, 100}), r)
	case "write":
		leader.write(w, r.IntN(1<<16), w.fate(r))
	case "late":
		w.late(r)
	case "restart":
		w.tell("%s restarts", leader.name)
		w.start(i)
		w.replicas[i].leads = i == w.leader
	case "lead":
		w.lead(r)
	case "settle":
		w.settle(r)
	case "leap":
		w.now = w.now.Add(time.Duration(5+r.IntN(80)) * time.Second)
		w.tell("it is %s", w.now.Format(time.TimeOnly))
	default:
		w.user(o.do, r)
	}
	for i, x := range w.replicas {
		if x.lost { // and ends
			w.tell("%s has lost the journal", x.name)
			w.start(i)
			w.replicas[i].leads = i == w.leader
		}
	}
}

// see lets one replica see some events of one kind.
func (w *world) see(r dice) {
	to, n := w.replicas[r.IntN(2)], pick(r, []int{1, 2, 5, 1000})
	switch r.IntN(7) {
	case 6:
		to.reservations.see(&w.reservations, n)
		w.tell("%s sees reservations", to.name)
	case 0:
		to.pools.see(&w.pools, n)
		w.tell("%s sees pools", to.name)
	case 1:
		to.namespaces.see(&w.namespaces, n)
		to.states.see(&w.states, n)
		w.tell("%s sees namespaces", to.name)
	default:
		n = min(n, to.services.behind(&w.services))
		to.services.see(&w.services, n)
		w.tell("%s sees %d events of Services, %d are on their way", to.name, n, to.services.behind(&w.services))
	}
}

// fate is what happens to a request on its way.
type fate int

const (
	arrives fate = iota
	refused      // never carried out, and the program knows
	dropped      // never carried out, but the program does not know
	lost         // carried out, but the program does not know
	delayed      // carried out later, perhaps; the program does not know
)

func (w *world) fate(r dice) fate {
	if x := r.IntN(20); x < int(delayed) {
		return refused + fate(x)
	}
	return arrives
}

// late lets one of the requests arrive that nobody waits for any more.
func (w *world) late(r dice) {
	if len(w.requests) == 0 {
		return
	}
	i := r.IntN(len(w.requests))
	do := w.requests[i]
	w.requests = slices.Delete(w.requests, i, i+1)
	do()
}

// lead makes the other replica lead. The old one ends, as the program does when
// it loses the lease, and is started again; or it does not know yet.
func (w *world) lead(r dice) {
	old := w.leader
	w.leader = 1 - old
	if w.replicas[w.leader].leads { // from long ago: it has ended before
		w.start(w.leader)
	}
	w.replicas[w.leader].leads = true
	w.tell("%s leads", w.replicas[w.leader].name)
	if r.one(2) {
		w.start(old)
	}
}

// mostRounds is how many rounds a settling cluster may take: clean up, take
// away, give, count.
const mostRounds = 8

// settle lets everybody see everything and finish, and looks at the result.
func (w *world) settle(r dice) {
	w.tell("settle")
	if other := 1 - w.leader; w.replicas[other].leads {
		for x := w.replicas[other]; len(x.pending) > 0 && w.err == nil; {
			x.write(w, r.IntN(1<<16), arrives)
		}
		w.start(other)
	}
	for len(w.requests) > 0 {
		w.late(r)
	}
	for round := 0; w.err == nil; round++ {
		for _, x := range w.replicas {
			x.catchUp(&w.apiServer)
		}
		if w.settleRound(r) == 0 {
			break
		}
		if round > mostRounds {
			x := w.replicas[w.leader]
			x.decide(w, 1000, r)
			w.fail("does not settle: %d writes left, the first is %s of %s", len(x.pending), x.pending[0].Patch, objectID(&x.pending[0]))
		}
	}
	if w.err != nil {
		return
	}
	w.checkSettled(w.replicas[w.leader].basis)
	again := newReplica("a new replica", w)
	again.journal, again.caughtUp = nil, true
	if again.decide(w, 1000, r); len(again.pending) > 0 {
		w.fail("settled, but %s writes %s to %s", again.name, again.pending[0].Patch, objectID(&again.pending[0]))
	}
}

// settleRound returns how much there was to do.
func (w *world) settleRound(r dice) int {
	busy := release(w)
	if w.replicas[w.leader].lost { // to an old leader that woke up before it took over
		w.start(w.leader)
		w.replicas[w.leader].leads = true
	}
	x := w.replicas[w.leader]
	for len(x.pending) > 0 && w.err == nil { // from before
		x.write(w, r.IntN(1<<16), arrives)
	}
	clear(x.waiting)
	for x.basis = nil; x.basis == nil && w.err == nil && !x.lost; {
		x.decide(w, 1000, r)
	}
	busy += len(x.pending)
	for len(x.pending) > 0 && w.err == nil {
		x.write(w, r.IntN(1<<16), arrives)
	}
	if x.lost {
		busy++
	}
	return busy
}

// dice are the random choices of one operation.
type dice struct{ *rand.Rand }

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// some returns a random part of a list.
func some[T any](d dice, from []T) []T {
	var out []T
	for _, x := range from {
		if d.one(2) {
			out = append(out, x)
		}
	}
	return out
}

func (d dice) family() lb.Family { return pick(d, []lb.Family{lb.IPv4, lb.IPv6}) }

func (d dice) address(f lb.Family) netip.Addr { return address(f, d.IntN(last+1)) }
