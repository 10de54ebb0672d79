// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// Start starts the speakers of nodes, new or stopped ones.
func (c *Cluster) Start(names ...lb.NodeName) {
	for _, name := range names {
		n := c.node(name)
		if n == nil {
			n = &node{name: name, interfaces: []string{"eth0"}}
			c.nodes = append(c.nodes, n)
			slices.SortFunc(c.nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
		}
		n.life++
		n.since = c.now
		clear(c.reach)
		n.machine = ownership.New(ownership.Config{Self: name, BalanceInterval: c.cfg.Balance, StartLimit: ownership.StartLimit})
		n.sees, n.pending, n.answers = map[*node]bool{}, map[*node]bool{}, map[netip.Addr]bool{}
		n.met, n.opening, n.hushed = map[*node]bool{}, map[netip.Addr]int{}, map[netip.Addr]bool{}
		n.frozen, n.leaving, n.joined, n.inbox, n.wake = false, false, false, nil, time.Time{}
		n.tick(c)
		c.ticks(n)
		c.startLiveness(n)
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
	n.leaving = true
	c.watch.disturbed(c)
	c.input(n, (*ownership.Machine).Leave)
}

// leave ends a speaker that has given everything away. Its goodbye is a message
// like others: who misses it has to find out.
func (c *Cluster) leave(n *node) {
	for _, p := range c.nodes {
		if p != n && c.reaches(n, p) && c.rng.below(100) >= c.cfg.Loss {
			c.at(c.draw(c.cfg.Delay), p, func() { c.realize(p, n, true) })
		}
	}
	c.Kill(n.name)
}

// Freeze stops a node's process for a while; Thaw lets it go on.
func (c *Cluster) Freeze(name lb.NodeName) {
	c.node(name).frozen = true
	c.rewire()
}

// Thaw ends Freeze. The process works on what was due and what waits in its
// sockets, in any order; before it answers anything it looks at the clock.
func (c *Cluster) Thaw(name lb.NodeName) {
	n := c.node(name)
	if !n.frozen {
		return
	}
	n.frozen = false
	clear(c.reach)
	c.input(n, func(*ownership.Machine) {})
	for _, do := range n.inbox {
		c.at(c.draw(c.cfg.Delay), n, do)
	}
	n.inbox = nil
	c.rewire()
}

// Partition separates the named nodes from the others; without names it heals
// everything, one-way losses too.
func (c *Cluster) Partition(names ...lb.NodeName) {
	if len(names) == 0 {
		clear(c.blocked)
		c.Split()
		return
	}
	c.Split(names)
}

// Split divides the cluster: each of the given sets, and the rest, hears only
// itself.
func (c *Cluster) Split(sets ...[]lb.NodeName) {
	for _, n := range c.nodes {
		n.side = 1 + slices.IndexFunc(sets, func(set []lb.NodeName) bool { return slices.Contains(set, n.name) })
	}
	c.sides = max(c.sides, len(sets)+1)
	c.rewire()
}

// Block loses everything on the way from some nodes to some others, not back.
func (c *Cluster) Block(from, to []lb.NodeName) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				c.blocked[link{c.node(a), c.node(b)}] = true
			}
		}
	}
	c.rewire()
}

// SetInterfaces changes the usable interfaces of a node.
func (c *Cluster) SetInterfaces(name lb.NodeName, up ...string) {
	n := c.node(name)
	n.interfaces = up
	c.watch.disturbed(c)
	if n.machine != nil {
		c.input(n, func(m *ownership.Machine) { m.SetInterfaces(n.interfaces) })
	}
}

// SetGroups changes the plan. Every node learns of it in its own time.
func (c *Cluster) SetGroups(groups []announce.Group) {
	c.groups = groups
	c.watch.disturbed(c)
	for _, n := range c.nodes {
		c.informLater(n)
	}
}

// Groups is the plan.
func (c *Cluster) Groups() []announce.Group { return c.groups }

// Move asks for a group to be moved, as an annotation does.
func (c *Cluster) Move(key netip.Addr, to lb.NodeName) {
	groups := slices.Clone(c.groups)
	for i := range groups {
		if groups[i].Key == key {
			groups[i].Move = lb.Move{To: to, At: c.now}
		}
	}
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
