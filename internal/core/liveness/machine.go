// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"maps"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Machine decides which nodes are alive. See the package comment.
//
// Inputs may be given in any order; after one or more of them, Ready returns
// what is to be done.
type Machine struct {
	cfg   Config
	now   time.Time
	peers map[lb.NodeName]*peer
	ring  ring // of the living, this node included
	// watched by this node, in order of the ring's distance.
	watched []*peer
	// watchers are those who want to be answered, and are not watched.
	watchers []*peer
	doubted  []*peer // see peer.doubted; may hold some that are not any more

	incarnation uint64
	record      uint64 // see SetRecord
	sent        uint64 // packets, to whomever
	// insist: at how many more heartbeats to tell all that this node is alive.
	insist int
	// spread: nodes whose verdicts are to be told once more at the next heartbeat.
	spread []lb.NodeName

	nextBeat time.Time
	beats    int
	heard    time.Time     // from anybody; zero: nobody yet
	listened time.Time     // from when on silence counts: heard, or later
	late     time.Duration // the longest that a timer was late; decays
	strain   time.Duration // the same, but for what no patience covers; decays more slowly

	ready   Ready
	before  map[lb.NodeName]bool // who was up when Ready was last called
	changed []lb.NodeName        // who came or went since
}

// New makes a machine that knows of nobody.
func New(cfg Config) *Machine {
	switch {
	case cfg.Self == "":
		panic("liveness: Config.Self is empty")
	case cfg.Life == 0:
		panic("liveness: Config.Life is zero")
	}
	return &Machine{
		cfg:    cfg.withDefaults(),
		peers:  map[lb.NodeName]*peer{},
		ring:   ring{newPlace(cfg.Self)},
		before: map[lb.NodeName]bool{},
		// Higher than in former lives, if the clock is right. If it is not, the
		// first verdict on it tells.
		incarnation: cfg.Life,
	}
}

// Tick tells the time. It is the first input of all, and then due at Next.
func (m *Machine) Tick(now time.Time) {
	m.Advance(now)
	if !now.Before(m.nextBeat) {
		m.beat()
		m.nextBeat = now.Add(m.cfg.Interval)
	}
	for _, p := range slices.Clone(m.watched) { // a verdict changes the ring
		if p.watch != nil {
			m.judge(p)
		}
	}
	m.judgeDoubted()
}

// Advance tells the time and no more: call it before other inputs, and give
// those that wait already before Tick passes a verdict.
func (m *Machine) Advance(now time.Time) {
	if m.now.IsZero() {
		m.nextBeat = now
	} else {
		m.excuse(now, now.Sub(latest(m.deadline(), m.now))) // m.now is when it was running last
	}
	m.now = now
}

// Next is when Tick is due.
func (m *Machine) Next() time.Time {
	next := m.deadline()
	for _, p := range m.watched {
		w := p.watch
		due := w.probe(&m.cfg)
		if !w.suspected.IsZero() {
			due = w.again
		}
		if due.After(m.now) && due.Before(next) {
			next = due
		}
	}
	return next
}

// deadline is the same without what only puts questions to who is not suspected,
// or has been for long: nothing is judged by them, so that one of them is late
// excuses nothing.
func (m *Machine) deadline() time.Time {
	next := m.nextBeat
	for _, p := range m.watched {
		w := p.watch
		due := w.base.Add(w.patience(&m.cfg))
		if !w.suspected.IsZero() {
			due = w.suspected.Add(m.cfg.Refute)
			if w.again.Before(due) {
				due = w.again
			}
		}
		if due.After(m.now) && due.Before(next) {
			next = due
		}
	}
	return next
}

// tolerance is how late a timer may be without further ado.
const tolerance = 10 * time.Millisecond

// excuse makes up for the time in which this node was not running: packets that
// came meanwhile still wait to be read. Nothing is put off into the future: it
// may be called more than once before Tick is.
func (m *Machine) excuse(now time.Time, late time.Duration) {
	if late <= tolerance {
		return
	}
	m.late = max(m.late, late)
	if late < m.cfg.StrainMax {
		m.strain = max(m.strain, late)
	}
	for _, p := range m.watched {
		w := p.watch
		w.base = later(w.base, late, now)
		if !w.suspected.IsZero() {
			w.suspected = later(w.suspected, late, now)
		}
	}
	if !m.heard.IsZero() {
		m.listened = later(m.listened, late, now)
	}
}

// later adds to a time, but not beyond now.
func later(t time.Time, by time.Duration, now time.Time) time.Time {
	if sum := t.Add(by); sum.Before(now) {
		return sum
	}
	return latest(t, now)
}

// Join tells that gossip believes a node to be alive. A node that speaks
// heartbeats also answers them.
func (m *Machine) Join(node lb.NodeName, speaks bool) {
	if node == m.cfg.Self {
		return
	}
	p, known := m.peers[node]
	if !known {
		p = &peer{name: node}
		m.peers[node] = p
	}
	p.member, p.speaks, p.doubted, p.accuser = true, speaks, false, ""
	if !p.up {
		p.dead = 0
		m.setUp(p)
		if speaks {
			m.send(p, Packet{Kind: Heartbeat}) // it may remember that a former life of this node is dead
		}
	}
}

// Leave tells that gossip does not believe a node to be alive any more, or that
// it said goodbye.
func (m *Machine) Leave(node lb.NodeName, goodbye bool) {
	p, known := m.peers[node]
	if !known {
		return
	}
	p.member = false
	switch {
	case goodbye:
		m.setDown(p)
		m.remove(p)
	case p.up && p.speaks:
		m.doubt(p)
	default:
		m.setDown(p)
	}
}

// SetRecord tells which version of its own record this node has published.
func (m *Machine) SetRecord(version uint64) { m.record = version }

// Forget drops a node that gossip has lost and that will not come back, as when
// it was removed from the cluster.
func (m *Machine) Forget(node lb.NodeName) {
	if p, known := m.peers[node]; known && !p.member && !p.up {
		m.remove(p)
	}
}

func (m *Machine) remove(p *peer) {
	delete(m.peers, p.name)
	m.watchers = slices.DeleteFunc(m.watchers, func(o *peer) bool { return o == p })
}

// Unreachable tells that a node's host has said that nobody listens there. It
// is a hint only: anybody can forge it.
func (m *Machine) Unreachable(node lb.NodeName) {
	if p, known := m.peers[node]; known && p.watch != nil && !p.heard.IsZero() {
		p.watch.refused = true
	}
}

// Ready returns the work that became due since the last call.
func (m *Machine) Ready() Ready {
	r := m.ready
	m.ready = Ready{}
	slices.Sort(m.changed)
	for _, name := range slices.Compact(m.changed) {
		p, known := m.peers[name]
		switch up := known && p.up; {
		case up && !m.before[name]:
			m.before[name] = true
			r.Up = append(r.Up, name)
		case !up && m.before[name]:
			delete(m.before, name)
			r.Down = append(r.Down, name)
		}
	}
	m.changed = m.changed[:0]
	return r
}

// CutOff reports whether there should be others and nobody is heard.
func (m *Machine) CutOff() bool {
	return len(m.peers) > 0 && !m.heard.IsZero() && m.now.Sub(m.listened) >= m.cfg.Silence
}

// State returns what the machine knows.
func (m *Machine) State() State {
	s := State{CutOff: m.CutOff(), Heard: m.heard, Late: m.late}
	for _, name := range slices.Sorted(maps.Keys(m.peers)) {
		p := m.peers[name]
		n := NodeState{Node: name, Up: p.up, Heard: p.heard, Gossip: p.member}
		if p.watch != nil {
			n.Watched, n.Suspected, n.Patience = true, p.watch.suspected, p.watch.patience(&m.cfg)
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

func (m *Machine) setUp(p *peer) {
	p.up, p.doubted, p.accuser = true, false, ""
	p.askUntil = time.Time{}
	m.ring = m.ring.add(p.name)
	m.changed = append(m.changed, p.name)
	m.rewatch()
}

func (m *Machine) setDown(p *peer) {
	if !p.up {
		return
	}
	p.up, p.doubted, p.accuser, p.gone = false, false, "", m.now
	m.ring = m.ring.remove(p.name)
	m.changed = append(m.changed, p.name)
	m.rewatch()
}

// rewatch watches the present neighbours.
func (m *Machine) rewatch() {
	old := m.watched
	m.watched = nil
	for _, name := range m.ring.neighbours(m.cfg.Self) {
		p := m.peers[name]
		if !p.speaks {
			continue
		}
		if p.watch == nil {
			// It gets twice the usual time to answer for the first time.
			p.watch = &watch{base: m.now.Add(m.cfg.Silence), late: p.late, votes: map[lb.NodeName]time.Time{}}
			m.send(p, Packet{Kind: Heartbeat})
		}
		m.watched = append(m.watched, p)
	}
	for _, p := range old {
		if !slices.Contains(m.watched, p) {
			p.watch = nil
		}
	}
}

// send puts a packet to a node into the batch.
func (m *Machine) send(to *peer, p Packet) {
	m.sent++
	p.From, p.To = m.cfg.Self, to.name
	p.Life, p.Echo, p.Count = m.cfg.Life, to.life, m.sent
	p.Incarnation, p.Record, p.Late = m.incarnation, m.record, m.strain
	p.Watching = to.watch != nil
	p.Lost = !to.up
	p.Deaf = m.CutOff()
	m.ready.Send = append(m.ready.Send, p)
}

// sendAll sends a packet to all nodes that are up, in order.
func (m *Machine) sendAll(p Packet) {
	for _, place := range m.ring {
		if to := m.peers[place.node]; to != nil && to.speaks {
			m.send(to, p)
		}
	}
}
