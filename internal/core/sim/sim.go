// SPDX-License-Identifier: Apache-2.0

// Package sim runs many ownership machines against each other in simulated
// time: links that delay, lose, repeat and reorder, nodes that die, freeze and
// come back, partitions in both directions or one, seeded so that every run can
// be repeated. It is for tests only.
//
// What gossip does is modelled roughly: news reach every node that the sender
// sees after a delay, a lost packet is repeated a few times, and by way of third
// nodes; full states are exchanged when two nodes meet and now and then.
//
// Who finds out that a node is dead is either modelled too (each of the others
// on its own, after a time that is drawn from Config.Detect), or it is the
// liveness machine, whose packets go over the same links (Config.Liveness).
package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
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
	// Duplicates is the part of packets that arrive twice, in percent. The second
	// one has a delay of its own, so it is out of order.
	Duplicates int
	// Repeats by gossip of a message that was lost, RepeatAfter each other.
	Repeats     int
	RepeatAfter time.Duration
	// Detect is the time until gossip on a node declares another dead.
	Detect Span
	// Rejoin is the time until nodes meet that can reach each other again.
	Rejoin Span
	// Lag is the time until a node learns of a change of groups or peers.
	Lag Span
	// Opening is the time until an address that a node starts to answer for is
	// answered for: sockets are opened, filters changed.
	Opening Span
	// SyncEvery is the time between exchanges of full states.
	SyncEvery time.Duration
	// Balance is the interval of automatic balance; 0 is off.
	Balance time.Duration
	// Bound is the longest that an address may be without an answer although a
	// node could answer, counted from the last disturbance. 0: not watched.
	Bound time.Duration
	// Liveness has the liveness machine find out who is dead; Detect is then how
	// long gossip takes, which is the slow path.
	Liveness bool
	// Trace is told what nodes do; nil: nobody is.
	Trace func(at time.Duration, what string)
}

// DefaultConfig resembles a LAN of servers.
func DefaultConfig(seed uint64) Config {
	return Config{
		Seed:        seed,
		Delay:       Span{time.Millisecond, 10 * time.Millisecond},
		Repeats:     4,
		RepeatAfter: 50 * time.Millisecond,
		Detect:      Span{300 * time.Millisecond, 600 * time.Millisecond},
		Rejoin:      Span{10 * time.Millisecond, 300 * time.Millisecond},
		Lag:         Span{time.Millisecond, 50 * time.Millisecond},
		Opening:     Span{0, 10 * time.Millisecond},
		SyncEvery:   5 * time.Second,
	}
}

// Cluster is a number of nodes at one moment of simulated time.
type Cluster struct {
	cfg     Config
	rng     random
	start   time.Time
	now     time.Time
	events  events
	seq     int
	nodes   []*node // by name
	groups  []announce.Group
	blocked map[link]bool            // links that lose everything in one direction
	reach   map[*node]map[*node]bool // see reaches; cleared when links or nodes change
	sides   int                      // of partitions so far, at least 1
	watch   watch
}

// link is the way of packets from one node to another.
type link struct{ from, to *node }

type node struct {
	name       lb.NodeName
	machine    *ownership.Machine // nil: not running
	liveness   *liveness.Machine  // nil: modelled
	beatAt     time.Time          // when it is to be told the time
	life       int                // counts starts; what was meant for a former life is dropped
	joined     bool               // somebody has let it in, in this life
	leaving    bool
	side       int           // of a partition
	clock      time.Duration // how much its clock was ahead when it was started
	jumped     time.Duration // how much its clock on the wall has jumped since
	stood      time.Duration // how long its monotonic clock has stood still since
	drift      int64         // how much faster its clocks run, in millionths
	since      time.Time     // from when on it drifts
	frozen     bool
	ticked     time.Time // when its process last worked
	inbox      []func()  // what arrived while frozen
	interfaces []string
	sees       map[*node]bool // whom gossip on this node believes alive
	pending    map[*node]bool // of whom it is about to change its mind
	met        map[*node]bool // full states were exchanged with these
	answers    map[netip.Addr]bool
	hushed     map[netip.Addr]bool
	opening    map[netip.Addr]int // started, not answered for yet; which start it was
	wake       time.Time          // when an early tick is due
}

// New makes a cluster without nodes.
func New(cfg Config) *Cluster {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &Cluster{
		cfg: cfg, start: start, now: start,
		rng:     random{state: cfg.Seed},
		blocked: map[link]bool{},
		reach:   map[*node]map[*node]bool{},
		sides:   1,
		watch:   newWatch(),
	}
}

// Run lets time pass.
func (c *Cluster) Run(d time.Duration) {
	end := c.now.Add(d)
	c.watch.look(c) // what was done between
	for len(c.events) > 0 && !c.events[0].at.After(end) {
		e := c.events.pop()
		if e.node.life != e.life || e.node.machine == nil {
			continue
		}
		c.now = e.at
		e.do()
		c.watch.look(c)
	}
	c.now = end
	c.watch.look(c)
}

func (c *Cluster) trace(format string, args ...any) {
	if c.cfg.Trace != nil {
		c.cfg.Trace(c.Elapsed(), fmt.Sprintf(format, args...))
	}
}

// Elapsed is how much time has passed since New.
func (c *Cluster) Elapsed() time.Duration { return c.now.Sub(c.start) }

func (c *Cluster) node(name lb.NodeName) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// answering reports whether a client that reaches the node gets an answer. A
// process that stood still is kept from answering until it has worked again: the
// driver of ARP and NDP sees to that.
func (n *node) answering(ip netip.Addr) bool {
	return n.machine != nil && !n.frozen && n.answers[ip]
}

// Answering lists who answers for an address, by name.
func (c *Cluster) Answering(ip netip.Addr) []lb.NodeName {
	var out []lb.NodeName
	for _, n := range c.nodes {
		if n.answering(ip) {
			out = append(out, n.name)
		}
	}
	return out
}

// Hushed lists the addresses of a node that it answers for and does not announce.
func (c *Cluster) Hushed(name lb.NodeName) []netip.Addr {
	return slices.SortedFunc(maps.Keys(c.node(name).hushed), netip.Addr.Compare)
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

// Holdings are the owners of all groups, as one node believes.
func (c *Cluster) Holdings(name lb.NodeName) []ownership.Holding {
	return c.node(name).machine.Holdings()
}
