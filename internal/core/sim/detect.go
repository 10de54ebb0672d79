// SPDX-License-Identifier: Apache-2.0

package sim

// rewire schedules what nodes will find out about each other.
func (c *Cluster) rewire() {
	c.watch.disturbed(c)
	clear(c.reach)
	for _, a := range c.nodes {
		if a.machine == nil || a.frozen {
			continue
		}
		for _, b := range c.nodes {
			if a == b || a.pending[b] {
				continue
			}
			connected := c.connected(a, b)
			if connected == a.sees[b] {
				continue
			}
			a.pending[b] = true
			wait := c.cfg.Detect
			if connected {
				wait = c.cfg.Rejoin
			}
			c.at(c.draw(wait), a, func() { c.realize(a, b, false) })
		}
	}
}

// realize tells a what is true of b now.
func (c *Cluster) realize(a, b *node, goodbye bool) {
	delete(a.pending, b)
	conn := c.connected(a, b)
	switch {
	case a.frozen || conn == a.sees[b]:
	case !conn:
		a.sees[b] = false
		c.trace("%s loses %s", a.name, b.name)
		c.down(a, b.name, goodbye)
	case c.streams(a, b):
		c.exchange(a, b)
		c.meet(a, b)
		c.meet(b, a)
		c.introduce(a, b)
		c.introduce(b, a)
	default: // by way of a third one, who knows b already
		for _, p := range c.reachable(a) {
			if p.sees[b] {
				c.meet(a, b)
				c.exchange(a, p)
				return
			}
		}
		a.pending[b] = true
		c.at(c.cfg.Rejoin.Max, a, func() { c.realize(a, b, false) })
	}
}

// introduce makes a known to all whom b sees: members of gossip tell each other
// whom they know when they meet, and then all.
func (c *Cluster) introduce(a, b *node) {
	for _, p := range c.nodes {
		if p == a || p == b || !b.sees[p] || !c.connected(a, p) {
			continue
		}
		c.meet(a, p)
		if !p.sees[a] {
			c.at(c.draw(Span{c.cfg.Delay.Min, c.cfg.Delay.Max + c.cfg.RepeatAfter}), p, func() {
				if c.connected(p, a) {
					c.meet(p, a)
				}
			})
		}
	}
}

// meet makes b known to a. Each peer is contacted at least once.
func (c *Cluster) meet(a, b *node) {
	if a.sees[b] {
		return
	}
	a.sees[b] = true
	c.trace("%s meets %s", a.name, b.name)
	if !a.met[b] {
		c.at(c.draw(c.cfg.Rejoin), a, func() {
			if !a.met[b] && c.streams(a, b) {
				c.exchange(a, b)
			}
		})
	}
	c.up(a, b.name)
}
