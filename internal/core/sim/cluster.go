// SPDX-License-Identifier: Apache-2.0

// Package sim runs many ownership machines against each other in simulated
// time: links that delay and lose, nodes that die, freeze and come back, seeded
// so that every run can be repeated. It is for tests only.
//
// What gossip does is modelled roughly: news reach every connected node after a
// delay, a lost packet is repeated a few times, full states are exchanged when
// two nodes meet and now and then, and a node that cannot be reached is declared
// dead some time later, by each of the others on its own.
package sim

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// Span is a range of durations, from which one is drawn.
type Span struct{ Min, Max time.Duration }

// Config says how the network behaves.
type Config struct {
	Seed uint64
	// Delay of a packet.
	Delay Span
	// Loss is the part of packets lost, in percent.
	Loss int
	// Repeats of a packet that was lost, RepeatAfter each other.
	Repeats     int
	RepeatAfter time.Duration
	// Detect is the time until a node declares another dead.
	Detect Span
	// Rejoin is the time until nodes meet that can reach each other again.
	Rejoin Span
	// Lag is the time until a node learns of a change of groups or peers.
	Lag Span
	// SyncEvery is the time between exchanges of full states.
	SyncEvery time.Duration
}

// DefaultConfig resembles a LAN of servers.
func DefaultConfig(seed uint64) Config {
	return Config{
		Seed:        seed,
		Delay:       Span{time.Millisecond, 10 * time.Millisecond},
		Repeats:     3,
		RepeatAfter: 50 * time.Millisecond,
		Detect:      Span{400 * time.Millisecond, 900 * time.Millisecond},
		Rejoin:      Span{10 * time.Millisecond, 300 * time.Millisecond},
		Lag:         Span{time.Millisecond, 50 * time.Millisecond},
		SyncEvery:   5 * time.Second,
	}
}

// Cluster is a number of nodes at one moment of simulated time.
type Cluster struct {
	cfg    Config
	rng    *rand.Rand
	start  time.Time
	now    time.Time
	events events
	seq    int
	nodes  []*node // by name
	groups []announce.Group
	watch  watch
}

type node struct {
	name       lb.NodeName
	machine    *ownership.Machine // nil: not running
	life       int                // counts starts; what was meant for a former life is dropped
	side       int                // of a partition
	frozen     bool
	inbox      []func() // what arrived while frozen
	interfaces []string
	sees       map[*node]bool // whom gossip on this node believes alive
	pending    map[*node]bool // of whom it is about to change its mind
	answers    map[netip.Addr]bool
}

// New makes a cluster without nodes.
func New(cfg Config) *Cluster {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &Cluster{
		cfg: cfg, start: start, now: start,
		rng:   rand.New(rand.NewPCG(cfg.Seed, 1)),
		watch: newWatch(),
	}
}

// Run lets time pass.
func (c *Cluster) Run(d time.Duration) {
	end := c.now.Add(d)
	for len(c.events) > 0 && !c.events[0].at.After(end) {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		e.do()
		c.watch.look(c)
	}
	c.now = end
	c.watch.look(c)
}

// Start starts the speakers of nodes, new or stopped ones.
func (c *Cluster) Start(names ...lb.NodeName) {
	for _, name := range names {
		n := c.node(name)
		if n == nil {
			n = &node{name: name, interfaces: []string{"eth0"}}
			c.nodes = append(c.nodes, n)
			slices.SortFunc(c.nodes, func(a, b *node) int { return cmpNames(a.name, b.name) })
		}
		n.life++
		n.machine = ownership.New(ownership.Config{Self: name})
		n.sees, n.pending, n.answers = map[*node]bool{}, map[*node]bool{}, map[netip.Addr]bool{}
		n.frozen, n.inbox = false, nil
		n.machine.Tick(c.now)
		c.ticks(n)
		c.syncs(n)
		c.informLater(n)
		c.at(c.draw(c.cfg.Lag), n, func() { c.input(n, func(m *ownership.Machine) { m.SetInterfaces(n.interfaces) }) })
	}
	for _, n := range c.nodes { // the others learn of new Pods
		c.informLater(n)
	}
	c.rewire()
}

// Kill ends a speaker without goodbye.
func (c *Cluster) Kill(name lb.NodeName) {
	n := c.node(name)
	n.machine, n.answers = nil, nil
	n.life++
	c.rewire()
}

// Leave ends a speaker as SIGTERM does: it gives away what it has, and goes.
func (c *Cluster) Leave(name lb.NodeName) {
	n := c.node(name)
	c.input(n, (*ownership.Machine).Leave)
	c.at(100*time.Millisecond, n, func() { c.Kill(name) })
}

// Freeze stops a node's process for a while; Thaw lets it go on.
func (c *Cluster) Freeze(name lb.NodeName) {
	c.node(name).frozen = true
	c.rewire()
}

// Thaw ends Freeze.
func (c *Cluster) Thaw(name lb.NodeName) {
	n := c.node(name)
	n.frozen = false
	for _, do := range n.inbox {
		c.at(c.draw(c.cfg.Delay), n, do)
	}
	n.inbox = nil
	c.rewire()
}

// Partition separates the named nodes from the others.
func (c *Cluster) Partition(names ...lb.NodeName) {
	for _, n := range c.nodes {
		n.side = 0
		if slices.Contains(names, n.name) {
			n.side = 1
		}
	}
	c.rewire()
}

// SetInterfaces changes the usable interfaces of a node.
func (c *Cluster) SetInterfaces(name lb.NodeName, up ...string) {
	n := c.node(name)
	n.interfaces = up
	if n.machine != nil {
		c.input(n, func(m *ownership.Machine) { m.SetInterfaces(up) })
	}
}

// SetGroups changes the plan. Every node learns of it in its own time.
func (c *Cluster) SetGroups(groups []announce.Group) {
	c.groups = groups
	for _, n := range c.nodes {
		c.informLater(n)
	}
}

// informLater gives a node the present groups and peers after a lag.
func (c *Cluster) informLater(n *node) {
	if n.machine == nil {
		return
	}
	c.at(c.draw(c.cfg.Lag), n, func() {
		c.input(n, func(m *ownership.Machine) {
			var peers []lb.NodeName
			for _, p := range c.nodes {
				if p.machine != nil || p.life > 0 { // a Pod that died is restarted
					peers = append(peers, p.name)
				}
			}
			m.SetPeers(peers)
			m.SetGroups(c.groups)
		})
	})
}

func (c *Cluster) node(name lb.NodeName) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func cmpNames(a, b lb.NodeName) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// input gives a machine something and does what comes of it, in the order that
// ownership.Ready asks for.
func (c *Cluster) input(n *node, give func(*ownership.Machine)) {
	if n.frozen {
		n.inbox = append(n.inbox, func() { c.input(n, give) })
		return
	}
	n.machine.Tick(c.now)
	give(n.machine)
	r := n.machine.Ready()
	for _, ip := range r.Stop {
		delete(n.answers, ip)
	}
	for _, msg := range r.Send {
		c.broadcast(n, msg)
	}
	for _, a := range r.Start {
		n.answers[a.IP] = true
	}
	if len(r.StopLast) > 0 {
		c.at(50*time.Millisecond, n, func() {
			for _, ip := range r.StopLast {
				delete(n.answers, ip)
			}
		})
	}
	if r.Resync {
		for i, p := range c.connectedTo(n) {
			if i < 3 {
				c.exchange(n, p)
			}
		}
	}
}

func (c *Cluster) ticks(n *node) {
	c.at(c.draw(Span{0, ownership.TickInterval}), n, func() { c.tick(n) })
}

func (c *Cluster) tick(n *node) {
	if !n.frozen {
		c.input(n, func(*ownership.Machine) {})
	}
	c.at(ownership.TickInterval, n, func() { c.tick(n) })
}

func (c *Cluster) syncs(n *node) {
	c.at(c.draw(Span{c.cfg.SyncEvery / 2, c.cfg.SyncEvery}), n, func() {
		if peers := c.connectedTo(n); len(peers) > 0 && !n.frozen {
			c.exchange(n, peers[c.rng.IntN(len(peers))])
		}
		c.syncs(n)
	})
}

// exchange is a push/pull: reliable, both ways.
func (c *Cluster) exchange(a, b *node) {
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		state := pair[0].machine.State()
		to := pair[1]
		c.at(c.draw(c.cfg.Delay), to, func() { c.receive(to, state) })
	}
}

func (c *Cluster) receive(to *node, data []byte) {
	c.input(to, func(m *ownership.Machine) {
		if err := m.Receive(data); err != nil {
			panic(fmt.Sprintf("sim: %s cannot read a message: %v", to.name, err))
		}
	})
}

// broadcast sends to all that the sender sees; a lost packet is repeated.
func (c *Cluster) broadcast(from *node, msg []byte) {
	for _, to := range c.connectedTo(from) {
		if !from.sees[to] {
			continue
		}
		delay := c.draw(c.cfg.Delay)
		for try := 0; c.rng.IntN(100) < c.cfg.Loss; try++ {
			if try == c.cfg.Repeats {
				delay = -1
				break
			}
			delay += c.cfg.RepeatAfter
		}
		if delay >= 0 {
			c.at(delay, to, func() { c.receive(to, msg) })
		}
	}
}

func (c *Cluster) connected(a, b *node) bool {
	return a.machine != nil && b.machine != nil && !a.frozen && !b.frozen && a.side == b.side
}

func (c *Cluster) connectedTo(n *node) []*node {
	var out []*node
	for _, p := range c.nodes {
		if p != n && c.connected(n, p) {
			out = append(out, p)
		}
	}
	return out
}

// rewire schedules what nodes will find out about each other.
func (c *Cluster) rewire() {
	for _, a := range c.nodes {
		if a.machine == nil || a.frozen {
			continue
		}
		for _, b := range c.nodes {
			if a == b || a.pending[b] || c.connected(a, b) == a.sees[b] {
				continue
			}
			a.pending[b] = true
			wait := c.cfg.Detect
			if c.connected(a, b) {
				wait = c.cfg.Rejoin
			}
			c.at(c.draw(wait), a, func() { c.realize(a, b) })
		}
	}
}

// realize tells a what is true of b now.
func (c *Cluster) realize(a, b *node) {
	delete(a.pending, b)
	conn := c.connected(a, b)
	switch {
	case a.frozen || conn == a.sees[b]:
	case !conn:
		a.sees[b] = false
		c.input(a, func(m *ownership.Machine) { m.Down(b.name) })
	default:
		c.meet(a, b)
		c.meet(b, a)
		c.exchange(a, b)
	}
}

func (c *Cluster) meet(a, b *node) {
	if !a.sees[b] {
		a.sees[b] = true
		c.input(a, func(m *ownership.Machine) { m.Up(b.name) })
	}
}

func (c *Cluster) draw(s Span) time.Duration {
	return s.Min + time.Duration(c.rng.Int64N(int64(s.Max-s.Min)+1))
}

// at does something on a node later, unless the node is restarted before.
func (c *Cluster) at(d time.Duration, n *node, do func()) {
	life := n.life
	c.seq++
	heap.Push(&c.events, event{at: c.now.Add(d), seq: c.seq, do: func() {
		if n.life == life && n.machine != nil {
			do()
		}
	}})
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

// events is a heap by time, then age.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// Answering lists who answers for an address, by name.
func (c *Cluster) Answering(ip netip.Addr) []lb.NodeName {
	var out []lb.NodeName
	for _, n := range c.nodes {
		if n.machine != nil && !n.frozen && n.answers[ip] {
			out = append(out, n.name)
		}
	}
	return out
}

// Addresses of all groups, sorted.
func (c *Cluster) Addresses() []netip.Addr {
	set := map[netip.Addr]bool{}
	for _, g := range c.groups {
		for _, ip := range g.Addresses {
			set[ip] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}
