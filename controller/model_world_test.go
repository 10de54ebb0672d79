// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// A history is a list of operations. Each carries its own seed and finds its
// object by name, so that it means the same when others are left out.

// op is one operation.
type op struct {
	do   string
	seed uint64
}

// faults are what a history may meet beyond lagging caches, refused requests,
// conflicts, restarts and changes of leader, which are always there. The
// product does not stand these yet: TestModelGaps shows each of them.
type faults struct {
	// early excuses an address that is given in the same round in which it is
	// taken from another Service, with the giving carried out first.
	early         bool
	lose          bool // requests are carried out, but the answer is lost
	linger        bool // finalizers hold Services that are being deleted
	staleTakeover bool // a new leader plans before it has seen the old one's writes
	twoLeaders    bool // both replicas believe that they lead
}

// remedies are what would close gaps, tried here before the product has them.
type remedies struct {
	// takeFirst gives an address only when the reading shows that nobody else
	// has it who is not to keep it.
	takeFirst bool
	// reread reads an object afresh when the answer to a write is lost.
	reread bool
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
		{"see", 170}, {"decide", 150}, {"write", 330}, {"restart", 8}, {"lead", 8}, {"settle", 30},
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
	faults
	remedies
	replicas [2]*replica
	leader   int

	err     error
	trace   []string
	tracing bool
	reasons map[reason.Code]int
	// excused notes addresses given to one Service before they were taken from
	// another.
	excused map[holders]bool
}

// holders are an address and two Services, in order.
type holders struct {
	addr          netip.Addr
	first, second string
}

func held(a netip.Addr, s, t svc) holders {
	return holders{a, min(s.in.key(), t.in.key()), max(s.in.key(), t.in.key())}
}

func newWorld(f faults, r remedies) *world {
	w := &world{faults: f, remedies: r, reasons: map[reason.Code]int{}, excused: map[holders]bool{}}
	w.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range w.replicas {
		w.replicas[i] = newReplica(fmt.Sprintf("replica %d", i), &w.apiServer)
	}
	return w
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
	leader := w.replicas[w.leader]
	if w.twoLeaders {
		leader = w.replicas[r.IntN(2)]
	}
	switch o.do {
	case "see":
		w.see(r)
	case "decide":
		if len(leader.pending) == 0 {
			w.tell("%s decides", leader.name)
		}
		leader.decide(w, pick(r, []int{1, 3, 100, 100}))
	case "write":
		w.write(r, leader)
	case "restart":
		w.tell("%s restarts", leader.name)
		i := slices.Index(w.replicas[:], leader)
		w.replicas[i] = newReplica(leader.name, &w.apiServer)
	case "lead":
		w.lead()
	case "settle":
		w.settle(r)
	default:
		w.user(o.do, r)
	}
}

// see lets one replica see some events of one kind.
func (w *world) see(r dice) {
	to, n := w.replicas[r.IntN(2)], pick(r, []int{1, 2, 5, 1000})
	switch r.IntN(6) {
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

func (w *world) write(r dice, leader *replica) {
	f := arrives
	switch x := r.IntN(20); {
	case x == 0:
		f = refused
	case x == 1 && w.lose:
		f = lost
	}
	leader.write(w, r.IntN(1<<16), f)
}

// lead makes the other replica lead. The old one ends, as the program does
// when it loses the lease, and is started again. Its requests under way never
// arrive, or have arrived: which of them have is up to the operations before.
func (w *world) lead() {
	if w.twoLeaders {
		return
	}
	old := w.replicas[w.leader]
	w.replicas[w.leader] = newReplica(old.name, &w.apiServer)
	w.leader = 1 - w.leader
	next := w.replicas[w.leader]
	w.tell("%s leads", next.name)
	if !w.staleTakeover {
		next.catchUp(&w.apiServer)
	}
}

// mostRounds is how many rounds a settling cluster may take: clean up, take
// away, give, count.
const mostRounds = 8

// settle lets everybody see everything and finish, and looks at the result.
func (w *world) settle(r dice) {
	w.tell("settle")
	for round := 0; ; round++ {
		busy := release(w)
		for i, x := range w.replicas {
			x.catchUp(&w.apiServer)
			if i != w.leader && !w.twoLeaders {
				continue
			}
			clear(x.waiting)
			x.decide(w, 1000)
			busy += len(x.pending)
			if round > mostRounds {
				w.fail("does not settle: %d writes left, the first is %s of %s", len(x.pending), x.pending[0].Patch, objectID(&x.pending[0]))
			}
			for len(x.pending) > 0 && w.err == nil {
				x.write(w, r.IntN(1<<16), arrives)
			}
		}
		if busy == 0 || w.err != nil {
			break
		}
	}
	if w.err != nil {
		return
	}
	w.checkSettled(w.replicas[w.leader].basis)
	again := newReplica("a new replica", &w.apiServer)
	if again.decide(w, 1000); len(again.pending) > 0 {
		w.fail("settled, but %s writes %s to %s", again.name, again.pending[0].Patch, objectID(&again.pending[0]))
	}
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
