// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// SetGroups gives the groups of the newest plan. Until it is called the first
// time, the node publishes no record and can own nothing.
func (m *Machine) SetGroups(groups []announce.Group) {
	if m.groups == nil {
		m.groups = make(map[netip.Addr]*group, len(groups))
	}
	clear(m.byAddress)
	before := m.sorted
	m.sorted = make([]*group, 0, len(groups))
	m.pass++
	for i := range groups {
		g := m.groups[groups[i].Key]
		if g == nil {
			g = &group{}
			m.groups[groups[i].Key] = g
		}
		g.Group, g.pass = groups[i], m.pass
		m.hearWish(g)
		m.sorted = append(m.sorted, g)
		m.byAddress[g.Key] = g
		for _, ip := range g.Addresses {
			m.byAddress[ip] = g
		}
	}
	slices.SortFunc(m.sorted, func(a, b *group) int { return a.Key.Compare(b.Key) })
	for _, g := range before {
		if g.pass != m.pass {
			delete(m.groups, g.Key)
			m.keep(g)
			delete(m.waiting, g.Key)
			m.reportOwner(g, "")
		}
	}
	for ip := range m.claims {
		m.noteStray(ip)
	}
	m.allDirty = true
	m.ready.StateChanged = true
	m.updateSelf()
}

// SetInterfaces gives the names of this node's usable interfaces: those that
// are up and not excluded.
func (m *Machine) SetInterfaces(up []string) {
	up = slices.Clone(up)
	slices.Sort(up)
	up = slices.Compact(up)
	if up == nil {
		up = []string{}
	}
	if m.self.interfaces != nil && slices.Equal(up, m.self.interfaces) {
		return
	}
	back := m.self.interfaces != nil && len(m.self.interfaces) == 0
	m.self.interfaces = up
	if back && m.settled && len(m.peers) > 0 {
		// The cable was out and is back. Nothing was heard meanwhile, and the
		// others may have owners that this node does not know, or believe it
		// dead. It hears them first, before it claims anything.
		m.unsettle()
		m.deadline = m.now.Add(m.cfg.JoinTimeout)
	}
	m.changeSelf()
	m.updateSelf()
}

// SetHardware gives the MAC addresses of this node, so that the others can tell
// it from a stranger. Only the first maxHardware of them are published.
func (m *Machine) SetHardware(macs []MAC) {
	macs = slices.Clone(macs)
	slices.SortFunc(macs, compareMACs)
	macs = slices.Compact(macs)
	macs = macs[:min(len(macs), maxHardware)]
	if slices.Equal(macs, m.self.hardware) {
		return
	}
	m.self.hardware = macs
	m.changeSelf()
}

// Proven tells that addresses this node answers for are announced: nobody else
// on the network had them. Their next owners need not ask again.
func (m *Machine) Proven(addresses ...netip.Addr) {
	for _, ip := range addresses {
		c := m.claims[ip]
		if _, is := m.answering[ip]; is && c.node == m.cfg.Self && c.unproven {
			c.unproven = false
			m.claims[ip] = c
			m.news[ip] = true
			m.ready.StateChanged = true
		}
	}
}

// SetPeers gives the other nodes that should have a speaker, whether or not
// they can be reached yet (a Pod without an address counts, a failed or
// terminating one does not). The first call starts the JoinTimeout; with no
// peers this node is alone, and may claim.
func (m *Machine) SetPeers(nodes []lb.NodeName) {
	peers := make([]lb.NodeName, 0, len(nodes))
	for _, n := range nodes {
		if n != m.cfg.Self {
			peers = append(peers, n)
		}
	}
	slices.Sort(peers)
	m.peers = slices.Compact(peers)
	if m.deadline.IsZero() && !m.now.IsZero() {
		m.deadline = m.now.Add(m.cfg.JoinTimeout)
	}
	for name, n := range m.nodes {
		if _, wanted := slices.BinarySearch(m.peers, name); !wanted && !n.alive {
			delete(m.nodes, name)
		}
	}
	m.trySettle()
}

// Up tells that gossip hears a node.
func (m *Machine) Up(node lb.NodeName) { m.setAlive(node, true) }

// Down tells that gossip does not hear a node any more.
func (m *Machine) Down(node lb.NodeName) { m.setAlive(node, false) }

func (m *Machine) setAlive(name lb.NodeName, alive bool) {
	if n := m.node(name); n != m.self && n.alive != alive {
		n.alive = alive
		if alive {
			n.came, n.silent = m.now, true
			m.greet = append(m.greet, name)
			m.greeted[name] = m.now.Add(greetAgain)
		} else {
			n.died = m.now
			delete(m.greeted, name)
		}
		m.allDirty = true
		m.ready.StateChanged = true
		m.trySettle()
	}
}
