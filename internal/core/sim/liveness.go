// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// startLiveness gives a node a machine that listens for the others.
func (c *Cluster) startLiveness(n *node) {
	if !c.cfg.Liveness {
		return
	}
	life := c.wall(n).UnixNano()
	n.liveness = liveness.New(liveness.Config{Self: n.name, Life: uint64(max(1, life))})
	n.beatAt = time.Time{}
	c.listen(n, func(m *liveness.Machine) { m.Tick(c.monotonic(n)) })
}

// listen gives the machine that listens something, and does what comes of it.
func (c *Cluster) listen(n *node, give func(*liveness.Machine)) {
	if n.frozen {
		n.inbox = append(n.inbox, func() { c.listen(n, give) })
		return
	}
	m := n.liveness
	m.Advance(c.monotonic(n))
	give(m)
	r := m.Ready()
	for _, p := range r.Send {
		c.sendPacket(n, p)
	}
	for _, name := range r.Down {
		c.trace("%s hears nothing of %s", n.name, name)
		c.input(n, func(m *ownership.Machine) { m.Down(name) })
	}
	for _, name := range r.Up {
		c.trace("%s hears %s", n.name, name)
		c.input(n, func(m *ownership.Machine) { m.Up(name) })
	}
	for _, rec := range r.Records {
		c.input(n, func(m *ownership.Machine) { m.Published(rec.Node, rec.Version) })
	}
	for _, name := range slices.Concat(r.Return, r.Rejoin) {
		c.visit(n, c.node(name))
	}
	if n.machine != nil { // it may have ended just now
		c.beatLater(n)
	}
}

// visit exchanges states with a node that was declared dead too soon, or that
// gossip does not know any more: then gossip meets it again.
func (c *Cluster) visit(a, b *node) {
	if !c.streams(a, b) {
		return
	}
	c.exchange(a, b)
	if !a.sees[b] || !b.sees[a] {
		c.at(c.draw(c.cfg.Delay), a, func() {
			if c.streams(a, b) {
				c.meet(a, b)
				c.meet(b, a)
			}
		})
	}
}

// beatLater lets the machine that listens have the time when it wants it.
func (c *Cluster) beatLater(n *node) {
	next := c.when(n, n.liveness.Next().Sub(c.monotonic(n)))
	if n.beatAt.After(c.now) && !next.Before(n.beatAt) {
		return
	}
	n.beatAt = next
	c.at(next.Sub(c.now), n, func() { c.listen(n, func(m *liveness.Machine) { m.Tick(c.monotonic(n)) }) })
}

func (c *Cluster) sendPacket(from *node, p liveness.Packet) {
	to := c.node(p.To)
	if to == nil || !c.direct(from, to) || c.cfg.Loss > 0 && c.rng.below(100) < c.cfg.Loss {
		return
	}
	arrive := func() { c.listen(to, func(m *liveness.Machine) { m.Receive(p) }) }
	c.at(c.draw(c.cfg.Delay), to, arrive)
	if c.cfg.Duplicates > 0 && c.rng.below(100) < c.cfg.Duplicates {
		c.at(c.draw(Span{c.cfg.Delay.Min, 5 * c.cfg.Delay.Max}), to, arrive)
	}
}

// up and down tell a node what gossip has found out.
func (c *Cluster) up(n *node, name lb.NodeName) {
	if n.liveness != nil {
		c.listen(n, func(m *liveness.Machine) { m.Join(name, true) })
		return
	}
	c.input(n, func(m *ownership.Machine) { m.Up(name) })
}

func (c *Cluster) down(n *node, name lb.NodeName, goodbye bool) {
	if n.liveness != nil {
		c.listen(n, func(m *liveness.Machine) { m.Leave(name, goodbye) })
		return
	}
	c.input(n, func(m *ownership.Machine) { m.Down(name) })
}
