// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Receive takes a message or a full state from another node. An error means
// that it could not be read; nothing of it was used.
func (m *Machine) Receive(data []byte) error {
	msg, err := decode(data)
	if err != nil {
		return err
	}
	if msg.sender == m.cfg.Self {
		return nil // from a former life, or an echo
	}
	for i := range msg.records {
		m.mergeRecord(&msg.records[i])
	}
	for _, c := range msg.claims {
		m.mergeClaim(c, m.isOffered(&msg, c.Address))
		if c.Node == msg.sender && !msg.full { // states are exchanged
			m.correct(c)
		}
	}
	for _, o := range msg.offers {
		m.accept(o, msg.sender)
	}
	if msg.greeting != nil {
		m.returnGreeting(msg.sender, *msg.greeting)
	}
	if n, known := m.nodes[msg.sender]; known {
		n.silent = false
	}
	m.hear(&msg)
	m.trySettle()
	return nil
}

// isOffered reports whether a message offers the group that an address is in.
func (m *Machine) isOffered(msg *message, ip netip.Addr) bool {
	key := ip
	if g, grouped := m.byAddress[ip]; grouped {
		key = g.Key
	}
	return slices.ContainsFunc(msg.offers, func(o offer) bool { return o.key == key })
}

func (m *Machine) mergeRecord(r *record) {
	if r.name == m.cfg.Self {
		// Somebody remembers a former life of this node. The present record
		// must win over it.
		if r.version >= m.self.version && !(r.version == m.self.version && r.same(m.self)) {
			m.self.version = r.version
			m.changeSelf()
		}
		return
	}
	n := m.node(r.name)
	if r.version == n.version && n.hardware == nil && r.hardware != nil {
		n.hardware = r.hardware // the record came by a node that does not know of MAC addresses
		m.ready.StateChanged = true
	}
	if r.version <= n.version {
		return
	}
	n.version, n.ready, n.interfaces, n.hardware = r.version, r.ready, r.interfaces, r.hardware
	m.compare(n)
	m.allDirty = true
	m.ready.StateChanged = true
}

func (r *record) same(n *node) bool {
	return r.ready == n.ready && slices.Equal(r.interfaces, n.interfaces) &&
		(r.hardware == nil || slices.Equal(r.hardware, n.hardware))
}

// mergeClaim lets the higher claim stand. A node whose own claim stands against
// an older one repeats it, because somebody does not know it; to one who offers
// what he claims, accept does.
func (m *Machine) mergeClaim(c Claim, offered bool) {
	ip, cur := c.Address, m.claims[c.Address]
	if c.Epoch == cur.epoch && c.Node == cur.node {
		if !m.settled && !offered && cur.node != m.cfg.Self {
			// Confirmed to a node that was cut off, and for which the claimant
			// may still be dead: the news that it lives is on the way. Who offers
			// the claim does not confirm it, but wants it replaced.
			cur.learned = m.now
		}
		cur.unproven = cur.unproven && c.Unproven // once proven, always so
		if cur != m.claims[ip] {
			m.claims[ip] = cur
			m.ready.StateChanged = true
		}
		return
	}
	if c.Epoch < cur.epoch || c.Epoch == cur.epoch && before(cur.node, c.Node, ip.String()) {
		switch {
		case cur.node != m.cfg.Self || offered:
		case m.leaves(ip, c.Node):
			m.claimAddress(ip, c.Node)
		default:
			m.news[ip] = true
			m.disputed[ip] = c.Node != m.cfg.Self
			if g, grouped := m.byAddress[ip]; grouped {
				m.insist(letterOn{c.Node, g.Key})
			}
		}
		return
	}
	g, grouped := m.byAddress[ip]
	if _, answering := m.answering[ip]; answering && cur.node == m.cfg.Self && !(grouped && g.givenTo(c.Node)) {
		// Tell the winner that the network may have learned this node's MAC address;
		// and what it has won: the claim may be of its former life.
		m.conceded[ip], m.news[ip] = cur, true
	}
	unproven := c.Unproven && (cur.epoch == 0 || cur.unproven)
	former := cur.node
	if former == c.Node {
		former = cur.former
	}
	m.claims[ip] = claim{epoch: c.Epoch, node: c.Node, learned: m.now, former: former, unproven: unproven, fights: m.fights(cur, c.Node)}
	if c.Node == m.cfg.Self {
		m.news[ip] = true // of a former life; whoever told may be the only one that knows
	}
	m.ready.StateChanged = true
	m.noteStray(ip)
	if grouped {
		m.dirty[g.Key] = true
	}
}

// fights counts on when a node takes an address, which claim cur is on.
func (m *Machine) fights(cur claim, by lb.NodeName) uint8 {
	n, known := m.nodes[by]
	switch {
	case known && n.alive:
		return 0
	case cur.node == m.cfg.Self && cur.fights < maxFights:
		return cur.fights + 1
	}
	return cur.fights
}

// leaves reports whether this node leaves an address to another one that claims
// it: the own claim is higher, but a relic that this node may not act upon.
func (m *Machine) leaves(ip netip.Addr, to lb.NodeName) bool {
	g, ok := m.byAddress[ip]
	return ok && to != m.cfg.Self && m.settled && !m.eligible(g, m.cfg.Self) && m.eligible(g, to)
}

// noteStray keeps track of claims on addresses that are in no group.
func (m *Machine) noteStray(ip netip.Addr) {
	if _, grouped := m.byAddress[ip]; grouped {
		delete(m.strays, ip)
	} else if _, noted := m.strays[ip]; !noted {
		m.strays[ip] = m.now
	}
}

// forgetStrays drops claims nobody needs any more. Before the first plan every
// claim is a stray, and none may go.
func (m *Machine) forgetStrays() {
	if m.groups == nil {
		return
	}
	for ip, since := range m.strays {
		if m.now.Sub(since) >= strayLimit {
			delete(m.strays, ip)
			delete(m.claims, ip)
		}
	}
}
