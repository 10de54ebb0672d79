// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

const (
	// offerRepeat is the time between repetitions of an offer.
	offerRepeat = 15 * time.Millisecond
	// offerPatience is how long one successor has to answer an offer.
	offerPatience = 100 * time.Millisecond
	// handOverLimit is how long a hand-over may take in all.
	handOverLimit = 600 * time.Millisecond
)

// giving is a hand-over under way.
type giving struct {
	to      lb.NodeName
	turn    uint64    // how many successors were asked before this one
	since   time.Time // the first offer of all
	offered time.Time // the first to this successor
	sent    time.Time // the last one
}

// letterOn is on a group, by its key, to one node: an answer to its offer, or a
// request to take the group.
type letterOn struct {
	to  lb.NodeName
	key netip.Addr
}

// givenTo reports whether the group is being handed over to a node.
func (g *group) givenTo(n lb.NodeName) bool { return g.giving != nil && g.giving.to == n }

// handOver gives a group away if it should, and reports whether that goes on:
// this node still answers then. Without a successor, or when time is over, the
// group is left to decide.
func (m *Machine) handOver(g *group) bool {
	if !m.shouldGive(g) {
		m.keep(g)
		return false
	}
	h := g.giving
	if h == nil {
		h = &giving{to: m.successor(g, 0), since: m.now, offered: m.now}
	}
	if h.to == "" || !m.narrow(g) {
		m.keep(g)
		return false
	}
	g.giving = h
	m.giving[g.Key] = g
	if m.now.Sub(h.since) >= handOverLimit {
		if !m.eligible(g, m.cfg.Self) {
			m.bequeath(g, m.successor(g, 0))
		}
		m.keep(g)
		return false
	}
	if m.now.Sub(h.offered) >= offerPatience || !m.eligible(g, h.to) {
		h.turn = min(h.turn+1, maxTurn)
		if h.to = m.successor(g, h.turn); h.to == "" {
			m.keep(g)
			return false
		}
		h.offered, h.sent = m.now, time.Time{}
	}
	if m.now.Sub(h.sent) >= offerRepeat {
		h.sent = m.now
		m.offers = append(m.offers, g)
	}
	m.waiting[g.Key] = h.sent.Add(offerRepeat)
	return true
}

// wishAge is how old a wish may be when a node first sees it. An annotation
// stays on its Service: what it asked for was done, or could not be.
const wishAge = time.Minute

// hearWish takes notice of a wish once. It counts for the owner alone, and only
// while that is eligible to whom the group is to go: keep forgets it otherwise.
func (m *Machine) hearWish(g *group) {
	w := g.Move
	if w.At.IsZero() || w == g.heardWish {
		return
	}
	g.heardWish = w
	if age := m.now.Sub(w.At); age <= wishAge && age >= -wishAge {
		g.wish = w.To
	}
}

// Yield asks to move what this node owns of these addresses to another node that
// may own them, each time the next one in order: this node is a candidate, and
// cannot answer. Without such a node nothing happens.
func (m *Machine) Yield(addresses ...netip.Addr) {
	for _, ip := range addresses {
		g, ok := m.byAddress[ip]
		if !ok || m.claims[g.Key].node != m.cfg.Self || g.wish != "" {
			continue
		}
		others := slices.DeleteFunc(m.order(g), func(n lb.NodeName) bool { return n == m.cfg.Self })
		if len(others) == 0 {
			continue
		}
		g.wish = others[g.yields%len(others)]
		g.yields++
		m.dirty[g.Key] = true
	}
}

// shouldGive reports whether this node owns the group and should not any more.
func (m *Machine) shouldGive(g *group) bool {
	if !m.settled || m.claims[g.Key].node != m.cfg.Self {
		return false
	}
	return m.leaving || g.wish != "" && g.wish != m.cfg.Self || !m.eligible(g, m.cfg.Self)
}

// narrow answers for the group as before, but hushed, and only where an interface is left.
// It reports whether there is one: a node that is no candidate any more can
// answer a little longer, one whose cable is out cannot.
func (m *Machine) narrow(g *group) bool {
	left := false
	for _, ip := range g.Addresses {
		var still []string
		for _, name := range m.answering[ip] {
			if _, up := slices.BinarySearch(m.self.interfaces, name); up {
				still = append(still, name)
			}
		}
		m.answer(ip, still, true)
		left = left || len(still) > 0
	}
	return left
}

// successor is whom to offer a group when so many were asked already.
func (m *Machine) successor(g *group, turn uint64) lb.NodeName {
	if g.wish != "" && m.eligible(g, g.wish) {
		return g.wish
	}
	if m.eligible(g, m.cfg.Self) {
		return "" // there was nothing but the wish
	}
	if turn == 0 {
		return m.first(g)
	}
	order := m.order(g)
	if len(order) == 0 {
		return ""
	}
	return order[turn%uint64(len(order))]
}

// keep ends a hand-over: the group has another owner, or stays.
func (m *Machine) keep(g *group) {
	g.giving, g.wish = nil, ""
	if len(m.giving) > 0 {
		delete(m.giving, g.Key)
	}
}

// offer asks a node to take a group whose key is claimed with an epoch.
type offer struct {
	key   netip.Addr
	epoch uint64
	to    lb.NodeName
	owner lb.NodeName // by that claim: who offers, unless this is to urge

	// In a message: the place of the claim on the key, and by how much epoch is
	// higher, which is how many were asked before.
	claim uint64
	turn  uint64
}

// accept takes over what another node offers to this one. It is offered again
// until the claim arrives there, which may have been lost.
func (m *Machine) accept(o offer, from lb.NodeName) {
	g, known := m.groups[o.key]
	if o.to != m.cfg.Self || !known {
		return
	}
	cur := m.claims[o.key]
	switch {
	case cur.node == m.cfg.Self && cur.epoch > o.epoch:
		m.answerOffer(o, from)
		return
	case cur.epoch > o.epoch || !m.settled || !m.eligible(g, m.cfg.Self):
		return
	case o.owner != from && (cur.node != o.owner || m.eligible(g, cur.node)):
		return // urged to take what somebody has
	}
	before := m.claimsOn(g)
	m.take(g.Key, o.epoch+1)
	for _, ip := range g.Addresses {
		m.take(ip, 0)
	}
	m.insistAgainst(cur, g) // not always the one who offers: somebody may have been asked before this node
	if o.owner == from {
		delete(m.insists, letterOn{from, g.Key}) // it gets an answer
		m.lend(before)
	}
	m.dirty[g.Key] = true
	m.answerOffer(o, from)
}

// answerOffer notes that an owner waits for an answer. Who urges does not: it
// hears the claim.
func (m *Machine) answerOffer(o offer, from lb.NodeName) {
	if o.owner == from {
		m.acks[letterOn{from, o.key}] = true
	}
}

// take claims an address that was offered, with an epoch that wins.
func (m *Machine) take(ip netip.Addr, epoch uint64) {
	c := m.claims[ip]
	if c.node == m.cfg.Self {
		return
	}
	m.claims[ip] = claim{epoch: max(c.epoch+1, epoch), node: m.cfg.Self, unproven: c.epoch == 0 || c.unproven}
	m.news[ip] = true
	m.ready.StateChanged = true
}
