// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is a few nodes, each with a session to each other, on lines that delay, lose and reorder packets.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Duration
	nodes []*node
	wire  []message // sorted by time

	maxDelay time.Duration
	inOrder  bool // packets do not overtake each other
	arrives  map[way]time.Duration
	loss     float64
	// maxLost bounds the packets lost in a row on one way; -1: no bound.
	maxLost int
	cut     map[way]bool
	lost    map[way]int
	// lop[way] is since when only the first of the two is Up.
	lop      map[way]time.Duration
	patience time.Duration // longest time that may last
	heard    map[way]time.Duration
	failures []string // that were reported, with their time
	ever     map[way]bool
}

type way struct{ from, to int }

type message struct {
	at time.Duration
	way
	packet Packet
}

type node struct {
	index   int
	m       *Machine
	offset  time.Duration // of its clock
	jumped  time.Duration // when that changed last
	alarm   time.Duration // when Tick is called next, by a timer that knows nothing of steps
	stopped time.Duration // until when the process does not run
	waiting []message     // in the socket meanwhile
	want    []Settings    // by peer
	down    bool          // the process is not there
	last    map[int]sent  // by peer: for the rules of the wire
}

type sent struct {
	at     time.Duration
	packet Packet
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

func (w *world) clock(n *node) time.Time { return time.Unix(1_000_000, 0).Add(w.now + n.offset) }

func newWorld(t *testing.T, seed uint64, nodes int) *world {
	t.Helper()
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 5880)), maxLost: -1, cut: map[way]bool{}, lost: map[way]int{}, arrives: map[way]time.Duration{},
		lop: map[way]time.Duration{}, heard: map[way]time.Duration{}, ever: map[way]bool{},
	}
	for i := range nodes {
		n := &node{index: i, want: make([]Settings, nodes), last: map[int]sent{}}
		for j := range n.want {
			n.want[j] = w.settings()
		}
		w.nodes = append(w.nodes, n)
		w.start(n)
	}
	return w
}

func (w *world) settings() Settings {
	some := func() time.Duration { return time.Duration(50+50*w.rng.IntN(6)) * time.Millisecond }
	return Settings{Transmit: some(), Receive: some(), Multiplier: uint8(3 + w.rng.IntN(3))}
}

func (w *world) start(n *node) {
	n.m, n.down, n.waiting = New(w.rng.Uint64()), false, nil
	clear(n.last)
	w.set(n)
}

func (w *world) set(n *node) {
	var list []Session
	for j, s := range n.want {
		if j != n.index {
			list = append(list, Session{Key{Peer: address(j)}, s})
		}
	}
	n.m.Set(w.clock(n), list)
	w.collect(n)
}

// jump changes the clock of a node.
func (w *world) jump(n *node) {
	if w.now-n.jumped < 4*time.Second {
		return // one at a time
	}
	n.jumped = w.now
	n.offset += time.Duration(w.rng.Int64N(int64(4*time.Hour))) - 2*time.Hour
	clear(n.last) // it cannot know how often it sends
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// collect puts what a node has to say on the wire.
func (w *world) collect(n *node) {
	b := n.m.Take()
	for _, o := range b.Send {
		to := int(o.Key.Peer.As4()[3])
		w.obey(n, to, o.Packet)
		v := way{n.index, to}
		if w.cut[v] || w.chance(w.loss) && (w.maxLost < 0 || w.lost[v] < w.maxLost) {
			w.lost[v]++
			continue
		}
		w.lost[v] = 0
		msg := message{w.now + time.Duration(w.rng.Int64N(int64(w.maxDelay)+1)), v, o.Packet}
		if w.inOrder {
			msg.at = max(msg.at, w.arrives[v])
			w.arrives[v] = msg.at
		}
		i, _ := slices.BinarySearchFunc(w.wire, msg, func(a, b message) int {
			return cmp.Or(cmp.Compare(a.at, b.at), -1) // behind those of the same time
		})
		w.wire = slices.Insert(w.wire, i, msg)
	}
	for _, e := range b.Events {
		v := way{n.index, int(e.Key.Peer.As4()[3])}
		if e.Kind == CameUp {
			w.ever[v] = true
		} else {
			w.failures = append(w.failures, fmt.Sprintf("%v: %v to %v: %v", w.now, v.from, v.to, e))
		}
	}
	n.alarm = time.Duration(never)
	if next := n.m.Next(); !next.IsZero() {
		n.alarm = w.now + max(0, next.Sub(w.clock(n)))
	}
	w.watch()
}

// obey checks the rules of what goes out.
func (w *world) obey(n *node, to int, p Packet) {
	last, again := n.last[to]
	n.last[to] = sent{w.now, p}
	gap := w.now - last.at
	switch {
	case p.Poll && p.Final:
		w.t.Fatalf("%v: both bits: %+v", w.now, p)
	case p.State != Up && p.DesiredMinTx < 1_000_000:
		w.t.Fatalf("%v: fast while not Up: %+v", w.now, p)
	case again && !p.Final && !last.packet.Final && p.State == Down && last.packet.State == Down && gap < 750*time.Millisecond:
		w.t.Fatalf("%v: %d says Down twice within %v", w.now, n.index, gap)
	}
}

// run lets time pass, with something happening at random intervals.
func (w *world) run(d, every time.Duration, happen func()) {
	end := w.now + d
	event := w.now + every
	for {
		next := min(end, event)
		if len(w.wire) > 0 {
			next = min(next, w.wire[0].at)
		}
		for _, n := range w.nodes {
			next = min(next, w.wakes(n))
		}
		w.now = max(next, w.now)
		if w.now == end {
			return
		}
		if w.now == event {
			happen()
			event += time.Duration(w.rng.Int64N(int64(2 * every)))
		}
		for len(w.wire) > 0 && w.wire[0].at <= w.now {
			msg := w.wire[0]
			w.wire = w.wire[1:]
			w.deliver(msg)
		}
		for _, n := range w.nodes {
			if w.wakes(n) <= w.now {
				w.wake(n)
			}
		}
	}
}

func (w *world) wakes(n *node) time.Duration {
	if n.down {
		return time.Duration(never)
	}
	if len(n.waiting) > 0 {
		return n.stopped
	}
	return max(n.stopped, n.alarm)
}

// wake does what a driver does: first read what came, then look at the time.
func (w *world) wake(n *node) {
	for _, msg := range n.waiting {
		w.step(n, msg)
	}
	n.waiting = nil
	n.m.Tick(w.clock(n))
	w.collect(n)
}

func (w *world) deliver(msg message) {
	n := w.nodes[msg.to]
	switch {
	case n.down:
	case n.stopped > w.now:
		if len(n.waiting) < 8 { // then the socket is full
			n.waiting = append(n.waiting, msg)
		}
	default:
		w.step(n, msg)
	}
}

func (w *world) step(n *node, msg message) {
	b := msg.packet.Append(nil)
	p, err := Parse(b)
	if err != nil {
		w.t.Fatalf("%v: %+v: %v", w.now, msg.packet, err)
	}
	w.heard[way{msg.to, msg.from}] = w.now
	n.m.Step(w.clock(n), &Arrival{Source: address(msg.from), Destination: address(msg.to), TTL: 255, Packet: p})
	w.collect(n)
}

func (w *world) isUp(v way) bool {
	n := w.nodes[v.from]
	if n.down {
		return false
	}
	s := n.m.sessions[Key{Peer: address(v.to)}]
	return s != nil && s.state == Up
}

func (w *world) ways(do func(v way)) {
	for i := range w.nodes {
		for j := range w.nodes {
			if i != j {
				do(way{i, j})
			}
		}
	}
}

// watch checks what must hold at any time.
func (w *world) watch() {
	w.ways(func(v way) {
		n := w.nodes[v.from]
		if n.stopped > w.now {
			delete(w.lop, v)
			return
		}
		up := w.isUp(v)
		if !up || w.isUp(way{v.to, v.from}) {
			delete(w.lop, v)
		} else if since, known := w.lop[v]; !known {
			w.lop[v] = w.now
		} else if w.patience > 0 && w.now-since > w.patience {
			w.t.Fatalf("%v: only %d of %v is Up since %v", w.now, v.from, v, since)
		}
		if silence := w.now - max(w.heard[v], n.stopped); up && w.patience > 0 && silence > w.patience {
			w.t.Fatalf("%v: %d is Up with %d, which it has not heard for %v", w.now, v.from, v.to, silence)
		}
	})
}

func (w *world) allUp(by string) {
	w.t.Helper()
	w.ways(func(v way) {
		if !w.isUp(v) {
			w.t.Fatalf("%v: %d is not Up with %d %s\n%s", w.now, v.from, v.to, by, strings.Join(w.failures, "\n"))
		}
	})
}

// seeds gives each run of the simulation another world; the number is in the name of a failing test.
func seeds(t *testing.T, n uint64, run func(t *testing.T, seed uint64)) {
	t.Helper()
	if testing.Short() {
		n /= 10
	}
	for seed := range n {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			run(t, seed)
		})
	}
}

// TestSimCalm: as long as fewer packets in a row are lost than the multiplier bridges, nothing ever goes down, whatever
// else happens. Three kinds of worlds, because the protocol does not stand all of it at once: its packets have no numbers,
// so an old one that comes last undoes a change until the next one comes, and that must not be lost, too.
func TestSimCalm(t *testing.T) {
	t.Parallel()
	seeds(t, 120, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 2+int(seed%2))
		kind := seed / 2 % 3
		lossy, jumps, overtaking := kind == 0, kind == 1, kind == 2
		w.maxDelay = 20 * time.Millisecond // less than half of the shortest interval
		w.inOrder = !overtaking
		if !jumps { // a jump of the clock may cost a packet
			w.loss, w.maxLost = 0.3, 1 // of 3 and more
		}
		// Each of up to three packets of the handshake may be lost, and then comes a second later.
		w.run(8*time.Second, time.Second, func() {})
		w.allUp("after 8 s")
		w.failures = nil // packets that overtake each other may spoil a handshake
		w.run(2*time.Minute, 300*time.Millisecond, func() {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			switch {
			case jumps:
				w.jump(n)
			case lossy && w.chance(0.5):
				j := w.rng.IntN(len(w.nodes))
				multiplier := n.want[j].Multiplier // fewer would count for packets that were lost before
				n.want[j] = w.settings()
				n.want[j].Multiplier = max(multiplier, n.want[j].Multiplier)
				w.set(n)
			default:
				n.stopped = w.now + 20*time.Millisecond
			}
		})
		w.allUp("at the end")
		if len(w.failures) > 0 {
			t.Errorf("flapped %d times, first %v", len(w.failures), w.failures[0])
		}
	})
}

// TestSimStorm: with every kind of fault, no side believes for longer than the detection time that it is Up when the
// other is not, and when the faults end, all come up.
func TestSimStorm(t *testing.T) {
	t.Parallel()
	// Multipliers are up to 5, of intervals that are 1 s when one side is not Up, and all that again after a stop.
	const detection = 10 * time.Second
	seeds(t, 120, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 2+int(seed%3))
		w.maxDelay = time.Duration(1+w.rng.IntN(100)) * time.Millisecond
		w.patience = detection + time.Second // a jump back loses the time since the last packet
		for range 3 {
			w.loss = w.rng.Float64() * 0.6
			w.run(time.Minute, 500*time.Millisecond, w.fault)
			clear(w.cut)
			w.loss = 0
			for _, n := range w.nodes {
				if n.down {
					w.start(n)
				}
				for j := range n.want {
					n.want[j].AdminDown, n.want[j].Passive = false, false
				}
				w.set(n)
			}
			// At worst one side has to notice first that the other has gone, and then waits for a slow packet.
			quiet := detection + 2*time.Second
			w.run(quiet, time.Second, func() {})
			w.allUp("after the faults")
			w.failures = nil
			if w.maxDelay < 25*time.Millisecond {
				w.run(20*time.Second, time.Second, func() {})
				if len(w.failures) > 0 {
					t.Fatalf("flapped %d times without faults, first %v", len(w.failures), w.failures[0])
				}
			}
		}
		w.ways(func(v way) {
			if !w.ever[v] {
				t.Errorf("%v never came up", v)
			}
		})
	})
}

func (w *world) fault() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	j := w.rng.IntN(len(w.nodes))
	switch w.rng.IntN(9) {
	case 0:
		w.cut[way{n.index, j}] = true
	case 1:
		w.cut[way{n.index, j}], w.cut[way{j, n.index}] = true, true
	case 2:
		clear(w.cut)
	case 3: // without goodbye
		w.start(n)
	case 4:
		if n.down = !n.down; !n.down {
			w.start(n)
		}
	case 5:
		n.stopped = w.now + time.Duration(w.rng.IntN(3000))*time.Millisecond
	case 6:
		w.jump(n)
	case 7:
		n.want[j] = w.settings()
		n.want[j].AdminDown, n.want[j].Passive = w.chance(0.2), w.chance(0.2)
		if !n.down {
			w.set(n)
		}
	case 8:
		w.loss = w.rng.Float64() * 0.6
	}
}
