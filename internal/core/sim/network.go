// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/ownership"
)

// tick tells a machine the time that its node believes it is.
func (n *node) tick(c *Cluster) {
	n.ticked = c.now
	n.machine.Tick(c.wall(n))
}

// input gives a machine something and does what comes of it, in the order that
// ownership.Ready asks for.
func (c *Cluster) input(n *node, give func(*ownership.Machine)) {
	if n.frozen {
		n.inbox = append(n.inbox, func() { c.input(n, give) })
		return
	}
	if n.machine == nil {
		return // it left a moment ago
	}
	was := n.machine.Settled()
	n.tick(c)
	give(n.machine)
	r := n.machine.Ready()
	if n.liveness != nil {
		n.liveness.SetRecord(n.machine.Record())
	}
	if now := n.machine.Settled(); now != was {
		c.watch.stale = true // whether it could answer for what others have
		c.trace("%s settled: %v", n.name, now)
	}
	for _, ip := range r.Stop {
		delete(n.answers, ip)
		delete(n.opening, ip)
		delete(n.hushed, ip)
	}
	if len(r.Stop)+len(r.Start) > 0 {
		c.trace("%s stops %v, starts %v", n.name, r.Stop, r.Start)
		c.watch.changed(r.Stop)
		c.open(n, r.Start)
	}
	for _, letter := range r.Send {
		c.send(n, letter)
	}
	if r.Resync {
		for i, p := range c.reachable(n) {
			if i < 3 {
				c.exchange(n, p)
			}
		}
	}
	c.wakeLater(n)
	if n.leaving && n.machine.Left() {
		c.leave(n)
	}
}

// open begins to answer, which takes a moment.
func (c *Cluster) open(n *node, start []ownership.Answer) {
	var ips []netip.Addr
	c.seq++
	for _, a := range start {
		if delete(n.hushed, a.IP); a.Hushed {
			n.hushed[a.IP] = true
		}
		if !n.answers[a.IP] { // else only its interfaces have changed
			n.opening[a.IP] = c.seq
			ips = append(ips, a.IP)
		}
	}
	if len(ips) > 0 {
		number := c.seq
		c.at(c.draw(c.cfg.Opening), n, func() { c.opened(n, ips, number) })
	}
}

// opened answers from now on for what was not stopped, or started anew, since.
func (c *Cluster) opened(n *node, ips []netip.Addr, number int) {
	if n.frozen {
		n.inbox = append(n.inbox, func() { c.opened(n, ips, number) })
		return
	}
	ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return n.opening[ip] != number })
	for _, ip := range ips {
		delete(n.opening, ip)
		n.answers[ip] = true
	}
	c.watch.changed(ips)
	c.input(n, func(m *ownership.Machine) { m.Started(ips...) })
}

// wakeLater sees to it that the machine gets the time when it wants it.
func (c *Cluster) wakeLater(n *node) {
	next := n.machine.Next()
	if next.IsZero() {
		return
	}
	next = c.when(n, next.Sub(c.wall(n)))
	if !next.Before(c.now.Add(ownership.TickInterval)) || n.wake.After(c.now) && !next.Before(n.wake) {
		return
	}
	n.wake = next
	c.at(next.Sub(c.now), n, func() { c.input(n, func(*ownership.Machine) {}) })
}

func (c *Cluster) ticks(n *node) {
	c.at(c.draw(Span{0, ownership.TickInterval}), n, func() { c.nextTick(n) })
}

func (c *Cluster) nextTick(n *node) {
	if !n.frozen {
		c.input(n, func(*ownership.Machine) {})
	}
	if n.machine != nil { // it may have left
		c.at(ownership.TickInterval, n, func() { c.nextTick(n) })
	}
}

func (c *Cluster) syncs(n *node) {
	c.at(c.draw(Span{c.cfg.SyncEvery / 2, c.cfg.SyncEvery}), n, func() {
		if peers := c.reachable(n); len(peers) > 0 && !n.frozen {
			c.exchange(n, peers[c.rng.below(len(peers))])
		}
		c.syncs(n)
	})
}

// exchange is a push/pull: reliable, both ways.
func (c *Cluster) exchange(a, b *node) {
	a.met[b], b.met[a] = true, true
	a.joined, b.joined = true, true
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		state := pair[0].machine.State()
		from, to := pair[0], pair[1]
		c.at(c.draw(c.cfg.Delay), to, func() {
			if !to.sees[from] && c.connected(to, from) {
				c.meet(to, from)
				c.introduce(to, from) // its list of members comes along
			}
			c.receive(to, state)
		})
	}
}

func (c *Cluster) receive(to *node, data []byte) {
	c.input(to, func(m *ownership.Machine) {
		if err := m.Receive(data); err != nil {
			panic(fmt.Sprintf("sim: %s cannot read a message: %v", to.name, err))
		}
	})
}

// send sends to one, once, or to all that the sender sees: then gossip repeats
// what was lost, also by way of others.
func (c *Cluster) send(from *node, letter ownership.Letter) {
	for _, to := range c.nodes {
		if to == from || !from.sees[to] || letter.To != "" && letter.To != to.name {
			continue
		}
		repeats := c.cfg.Repeats
		if letter.To != "" {
			repeats = 0
		}
		for try := range repeats + 1 {
			arrives := c.direct(from, to)
			if try > 0 {
				arrives = c.reaches(from, to)
			}
			if arrives && (c.cfg.Loss == 0 || c.rng.below(100) >= c.cfg.Loss) {
				c.deliver(to, time.Duration(try)*c.cfg.RepeatAfter, letter.Data)
				break
			}
		}
	}
}

func (c *Cluster) deliver(to *node, after time.Duration, data []byte) {
	c.at(after+c.draw(c.cfg.Delay), to, func() { c.receive(to, data) })
	if c.cfg.Duplicates > 0 && c.rng.below(100) < c.cfg.Duplicates {
		c.at(after+c.draw(Span{c.cfg.Delay.Min, 5 * c.cfg.Delay.Max}), to, func() { c.receive(to, data) })
	}
}

// direct reports whether packets get from one node to another. The sockets of a
// frozen process take them.
func (c *Cluster) direct(from, to *node) bool {
	return from.machine != nil && to.machine != nil && !from.frozen && from.side == to.side &&
		(len(c.blocked) == 0 || !c.blocked[link{from, to}])
}

// reaches reports whether news get from one node to another, by way of others
// if need be.
func (c *Cluster) reaches(from, to *node) bool {
	if c.direct(from, to) {
		return true
	}
	if len(c.blocked) == 0 {
		return false
	}
	seen := c.reach[from]
	if seen == nil {
		seen = map[*node]bool{from: true}
		c.reach[from] = seen
		for queue := []*node{from}; len(queue) > 0; queue = queue[1:] {
			for _, next := range c.nodes {
				if !seen[next] && !next.frozen && c.direct(queue[0], next) {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
	}
	return seen[to]
}

// connected reports whether two nodes can talk with each other. A new life of a
// node has to be let in by somebody first, over a stream. Until then it knows
// nobody, so it sends nothing by which the others could find that it lives.
func (c *Cluster) connected(a, b *node) bool {
	return !a.frozen && !b.frozen && c.reaches(a, b) && c.reaches(b, a) && (a.joined && b.joined || c.streams(a, b))
}

// reachable lists the nodes that a full state can be exchanged with.
func (c *Cluster) reachable(n *node) []*node {
	var out []*node
	for _, p := range c.nodes {
		if p != n && c.streams(n, p) {
			out = append(out, p)
		}
	}
	return out
}

// streams reports whether a stream between two nodes works: both directions.
func (c *Cluster) streams(a, b *node) bool {
	return !a.frozen && !b.frozen && c.direct(a, b) && c.direct(b, a)
}
