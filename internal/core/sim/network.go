// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/heraldlb/herald/internal/core/ownership"
)

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
	for _, a := range r.Start {
		n.answers[a.IP] = true
	}
	for _, letter := range r.Send {
		c.send(n, letter)
	}
	if next := n.machine.Next(); !next.IsZero() && next.Before(c.now.Add(ownership.TickInterval)) {
		c.at(max(0, next.Sub(c.now)), n, func() { c.input(n, func(*ownership.Machine) {}) })
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
			c.exchange(n, peers[c.rng.below(len(peers))])
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

// send sends to one, or to all that the sender sees; a lost packet is repeated.
func (c *Cluster) send(from *node, letter ownership.Letter) {
	msg := letter.Data
	for _, to := range c.connectedTo(from) {
		if !from.sees[to] || letter.To != "" && letter.To != to.name {
			continue
		}
		delay := c.draw(c.cfg.Delay)
		for try := 0; c.rng.below(100) < c.cfg.Loss; try++ {
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
	return s.Min + time.Duration(c.rng.below(int(s.Max-s.Min)+1))
}
