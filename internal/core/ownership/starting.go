// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"
	"time"
)

// StartLimit is Config.StartLimit for a user whose Start takes time. It is
// longer than an owner waits for the answer to an offer: a successor that cannot
// open its sockets is passed over, not believed.
const StartLimit = 150 * time.Millisecond

// Started tells that this node answers now for addresses of an earlier
// Ready.Start: their claims may be sent. See Config.StartLimit.
func (m *Machine) Started(addresses ...netip.Addr) {
	waiting := len(m.starting)
	for _, ip := range addresses {
		delete(m.starting, ip)
		delete(m.lent, ip)
	}
	m.endStart(waiting)
}

// startsLate ends the wait for addresses that should be answered for by now. A
// claim must get out at some time: the others wait for it. But what a living
// owner has offered and still answers for is given back to it.
func (m *Machine) startsLate() {
	waiting := len(m.starting)
	var late []netip.Addr
	for ip, due := range m.starting {
		if !m.now.Before(due) {
			late = append(late, ip)
		}
	}
	for _, ip := range late {
		delete(m.starting, ip)
		if g, known := m.groups[ip]; known { // the claim on the key counts
			m.giveBack(g)
		}
		delete(m.lent, ip)
	}
	m.endStart(waiting)
}

func (m *Machine) endStart(before int) {
	if before > 0 && len(m.starting) == 0 {
		m.ready.StateChanged = true
	}
}

// loan is a claim that this node has taken from a living owner, which has offered
// it. Nobody else hears of that before this node answers.
type loan struct {
	was  claim
	took uint64 // the epoch of the claim instead
}

func (m *Machine) claimsOn(g *group) map[netip.Addr]claim {
	out := map[netip.Addr]claim{g.Key: m.claims[g.Key]}
	for _, ip := range g.Addresses {
		out[ip] = m.claims[ip]
	}
	return out
}

// lend notes what the claims were before this node took them.
func (m *Machine) lend(before map[netip.Addr]claim) {
	if m.cfg.StartLimit == 0 {
		return
	}
	for ip, c := range before {
		if now := m.claims[ip]; now != c {
			m.lent[ip] = loan{was: c, took: now.epoch}
		}
	}
}

// giveBack leaves a group to the node that offered it, if that may own it still.
func (m *Machine) giveBack(g *group) {
	l, lent := m.lent[g.Key]
	if c := m.claims[g.Key]; !lent || c.node != m.cfg.Self || c.epoch != l.took || !m.eligible(g, l.was.node) {
		return
	}
	for _, ip := range append([]netip.Addr{g.Key}, g.Addresses...) {
		if l, lent := m.lent[ip]; lent && m.claims[ip].epoch == l.took {
			m.claims[ip] = l.was
			delete(m.news, ip)
		}
		m.answer(ip, nil, false) // now, for it may be offered again at once
	}
	for a := range m.acks {
		if a.key == g.Key {
			delete(m.acks, a)
		}
	}
	m.dirty[g.Key] = true
}

// startWaits notes that an address is to be answered for, but is not yet.
func (m *Machine) startWaits(ip netip.Addr) {
	if m.cfg.StartLimit > 0 {
		m.starting[ip] = m.now.Add(m.cfg.StartLimit)
	}
}

// quiet reports whether the claim on an address is not to be told yet: it is
// this node's, which does not answer yet, and the claim would stop the one who
// does.
func (m *Machine) quiet(ip netip.Addr) bool {
	if len(m.starting) == 0 {
		return false
	}
	_, is := m.starting[ip]
	return is && m.claims[ip].node == m.cfg.Self
}

// dueAcks takes the answers to offers that need not wait any more: an
// offer is answered once this node answers for the group.
func (m *Machine) dueAcks() []letterOn {
	var due []letterOn
	for a := range m.acks {
		g, known := m.groups[a.key]
		if known && m.begins(g) {
			continue
		}
		delete(m.acks, a)
		if known {
			due = append(due, a)
		}
	}
	return due
}

// begins reports whether a group is not answered for in all its parts yet.
func (m *Machine) begins(g *group) bool {
	for _, ip := range g.Addresses {
		if m.quiet(ip) {
			return true
		}
	}
	return false
}
