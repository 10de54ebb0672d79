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
	"maps"
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
	rng    random
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
		rng:   random{state: cfg.Seed},
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
		c.input(n, func(m *ownership.Machine) { m.SetInterfaces(n.interfaces) })
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
