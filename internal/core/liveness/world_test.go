// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// world is a number of machines, the links between them, and a slow gossip that
// tells them of each other.
type world struct {
	rng   *rand.Rand
	now   time.Time
	queue tasks
	seq   int
	nodes map[lb.NodeName]*node

	delay time.Duration // of a packet, at most
	loss  float64       // of packets, 0 to 1
	late  time.Duration // of timers, at most

	// cut links, from -> to.
	cut   map[[2]lb.NodeName]bool
	heals int
	// held are packets that wait until the cut links are mended, as kernels keep
	// them while they ask for a MAC address.
	held []func()
	// knows: gossip at the first believes the second alive.
	knows map[[2]lb.NodeName]bool

	events []event
	sent   int
}

type event struct {
	at       time.Time
	observer lb.NodeName
	subject  lb.NodeName
	up       bool
}

type node struct {
	name    lb.NodeName
	machine *liveness.Machine
	life    int
	running bool
	off     bool // the host has no power: nobody says that the speaker is gone
	frozen  bool
	thaws   int
	inbox   []func()
	up      map[lb.NodeName]bool
}

func newWorld(seed uint64) *world {
	return &world{
		rng:   rand.New(rand.NewPCG(seed, 1)),
		now:   time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		nodes: map[lb.NodeName]*node{},
		delay: 2 * time.Millisecond, late: 3 * time.Millisecond,
		cut: map[[2]lb.NodeName]bool{}, knows: map[[2]lb.NodeName]bool{},
	}
}

func (w *world) draw(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *world) names() []lb.NodeName { return slices.Sorted(maps.Keys(w.nodes)) }

// start starts a speaker, new or again.
func (w *world) start(name lb.NodeName) {
	n := w.nodes[name]
	if n == nil {
		n = &node{name: name}
		w.nodes[name] = n
	}
	n.life++
	n.running, n.off, n.frozen, n.inbox, n.up = true, false, false, nil, map[lb.NodeName]bool{}
	n.machine = liveness.New(liveness.Config{Self: name, Life: uint64(w.now.UnixNano())})
	for _, o := range w.names() {
		delete(w.knows, [2]lb.NodeName{name, o})
	}
	w.tick(n)
	for _, o := range w.names() {
		w.after(w.draw(5*time.Millisecond, 100*time.Millisecond), func() { w.meet(n, w.nodes[o], n.life) })
	}
}

// meet lets two nodes meet by gossip, if they can.
func (w *world) meet(a, b *node, life int) {
	if a == b || a.life != life || !a.running || !b.running || a.frozen || b.frozen || w.isCut(a, b) || w.isCut(b, a) {
		return
	}
	for _, p := range [][2]*node{{a, b}, {b, a}} {
		pair := [2]lb.NodeName{p[0].name, p[1].name}
		if !w.knows[pair] {
			w.knows[pair] = true
			w.input(p[0], func(m *liveness.Machine) { m.Join(pair[1], true) })
		}
	}
}

func (w *world) isCut(a, b *node) bool { return w.cut[[2]lb.NodeName{a.name, b.name}] }

// gossipLoses lets gossip notice, at last, whom it could not reach all the time.
func (w *world) gossipLoses() {
	for _, a := range w.names() {
		for _, b := range w.names() {
			n, o := w.nodes[a], w.nodes[b]
			pair := [2]lb.NodeName{a, b}
			if a == b || !w.knows[pair] || o.running && !o.frozen && !w.isCut(n, o) && !w.isCut(o, n) {
				continue
			}
			life, thaws, heals := o.life, o.thaws, w.heals
			w.after(w.draw(2*time.Second, 3*time.Second), func() {
				since := !o.running || o.frozen && o.thaws == thaws || (w.isCut(n, o) || w.isCut(o, n)) && w.heals == heals
				if w.knows[pair] && since && o.life == life {
					delete(w.knows, pair)
					w.input(n, func(m *liveness.Machine) { m.Leave(b, false) })
				}
			})
		}
	}
}

// kill ends a process. Its host says so if it has power.
func (w *world) kill(name lb.NodeName, power bool) {
	n := w.nodes[name]
	n.running, n.off = false, power
	w.gossipLoses()
}

func (w *world) leave(name lb.NodeName) {
	w.nodes[name].running = false
	for _, o := range w.names() {
		if w.knows[[2]lb.NodeName{o, name}] {
			delete(w.knows, [2]lb.NodeName{o, name})
			w.after(w.draw(0, w.delay), func() { w.input(w.nodes[o], func(m *liveness.Machine) { m.Leave(name, true) }) })
		}
	}
}

func (w *world) freeze(name lb.NodeName) {
	w.nodes[name].frozen = true
	w.gossipLoses()
}

func (w *world) thaw(name lb.NodeName) {
	n := w.nodes[name]
	n.frozen = false
	n.thaws++
	for _, do := range n.inbox {
		w.after(0, do)
	}
	n.inbox = nil
	w.tick(n)
	w.reunite()
}

// sever cuts the links between two sets of nodes, in one direction.
func (w *world) sever(from, to []lb.NodeName) {
	for _, a := range from {
		for _, b := range to {
			w.cut[[2]lb.NodeName{a, b}] = true
		}
	}
	w.gossipLoses()
}

func (w *world) heal() {
	clear(w.cut)
	w.heals++
	for _, arrive := range w.held {
		w.after(w.draw(w.delay/10, w.delay), arrive)
	}
	w.held = nil
	w.reunite()
}

// reunite lets gossip find those again whom it has lost, in its own time.
func (w *world) reunite() {
	for _, a := range w.names() {
		for _, b := range w.names() {
			n, o := w.nodes[a], w.nodes[b]
			life := n.life
			if !w.knows[[2]lb.NodeName{a, b}] {
				w.after(w.draw(time.Second, 2*time.Second), func() { w.meet(n, o, life) })
			}
		}
	}
}

// tick gives a machine the time whenever it wants it, late as the case may be.
func (w *world) tick(n *node) {
	life := n.life
	var step func()
	step = func() {
		if n.life != life || !n.running || n.frozen {
			return
		}
		w.input(n, func(*liveness.Machine) {})
		w.after(n.machine.Next().Sub(w.now)+w.draw(0, w.late), step)
	}
	step()
}

// input gives a machine something and does what comes of it.
func (w *world) input(n *node, give func(*liveness.Machine)) {
	if !n.running {
		return
	}
	if n.frozen {
		life := n.life
		n.inbox = append(n.inbox, func() {
			if n.life == life {
				w.input(n, give)
			}
		})
		return
	}
	n.machine.Tick(w.now)
	give(n.machine)
	r := n.machine.Ready()
	for _, name := range r.Down {
		delete(n.up, name)
		w.events = append(w.events, event{w.now, n.name, name, false})
	}
	for _, name := range r.Up {
		n.up[name] = true
		w.events = append(w.events, event{w.now, n.name, name, true})
	}
	for _, name := range r.Rejoin {
		life := n.life
		w.after(w.draw(5*time.Millisecond, 20*time.Millisecond), func() { w.meet(n, w.nodes[name], life) })
	}
	for _, p := range r.Send {
		w.send(n, p)
	}
}

func (w *world) send(from *node, p liveness.Packet) {
	w.sent++
	to := w.nodes[p.To]
	if w.rng.Float64() < w.loss {
		return
	}
	life := to.life
	arrive := func() {
		switch {
		case to.life != life:
		case to.running:
			w.input(to, func(m *liveness.Machine) { m.Receive(p) })
		case !to.off && !w.isCut(to, from):
			w.input(from, func(m *liveness.Machine) { m.Unreachable(p.To) })
		}
	}
	if w.isCut(from, to) {
		w.held = append(w.held, arrive)
		return
	}
	w.after(w.draw(w.delay/10, w.delay), arrive)
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, task{at: w.now.Add(max(d, 0)), seq: w.seq, do: do})
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		t := heap.Pop(&w.queue).(task)
		w.now = t.at
		t.do()
	}
	w.now = end
}

type task struct {
	at  time.Time
	seq int
	do  func()
}

// tasks is a heap by time, then age.
type tasks []task

func (t tasks) Len() int      { return len(t) }
func (t tasks) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *tasks) Push(x any)   { *t = append(*t, x.(task)) }
func (t tasks) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}

func (t *tasks) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
