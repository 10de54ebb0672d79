// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
	"slices"
	"time"
)

// maxSightings bounds the memory that somebody can make us use by claiming an address from many MACs.
const maxSightings = 8

// sighting is somebody else's claim on the address of a target. While addresses move between the nodes of a cluster, or
// a partition heals, two nodes may claim one address for a moment. So a claim on what is announced is a conflict only
// when it is heard again some time later; the other is asked, because it may have no reason to speak by itself.
//
//	heard ── asked every Recheck ──> heard again after Confirm: a conflict ── asked every 5 Recheck ──> silent: gone
//	                            └──> silent: gone
//
// A stranger heard while probing is a conflict at once, and one until probing finds silence.
type sighting struct {
	mac         MAC
	first, last time.Time
	ask         time.Time // when the other is asked next, while announcing
	confirmed   bool
}

const (
	// Conflicts last until somebody acts; asking less often is soon enough then.
	confirmedFactor = 5
	// unanswered questions after which the other is gone: one or two may be lost.
	unanswered = 3
)

// interval is the time between questions to the other.
func (m *Machine) interval(s *sighting) time.Duration {
	if s.confirmed {
		return confirmedFactor * m.cfg.Recheck
	}
	return m.cfg.Recheck
}

// end is when the claim is forgotten, unless it is heard again.
func (m *Machine) end(s *sighting) time.Time { return s.last.Add(unanswered * m.interval(s)) }

// foreign reports whether a MAC is another station's, and whether that is a node of the cluster. Our own MACs do not
// count: two of our links may be on one network, and hear each other.
func (m *Machine) foreign(mac MAC) (foreign, peer bool) {
	if _, own := m.ownMACs[mac]; own || !mac.IsUnicast() {
		return false, false
	}
	_, peer = m.peerSet[mac]
	return true, peer
}

// observe notes that a station with this MAC claims the address of a target.
func (m *Machine) observe(now time.Time, t *target, mac MAC, in *Packet) {
	foreign, peer := m.foreign(mac)
	if !foreign {
		return
	}
	if t.stage != announcing && peer && !in.answers() {
		// Another node takes over what we were about to announce, and we are about to hear of it. Only its answer to our
		// question counts: it may come from a kernel that has the address.
		return
	}
	m.note(now, t, mac, peer)
	switch {
	case t.stage == probing:
		m.contest(now, t)
	case t.stage == announcing && !peer:
		m.defend(now, t)
	}
}

// rival notes that a stranger probes for an address that is not announced here yet. RFC 5227 section 2.1.1 and RFC 4862
// section 5.4.3 count that as a conflict; the one who asks again later gets the address.
func (m *Machine) rival(now time.Time, t *target, mac MAC) {
	if foreign, peer := m.foreign(mac); foreign && !peer && t.stage == probing {
		m.note(now, t, mac, false)
		m.contest(now, t)
	}
}

// note remembers a claim.
func (m *Machine) note(now time.Time, t *target, mac MAC, peer bool) {
	i, known := slices.BinarySearchFunc(t.seen, mac, func(s sighting, mac MAC) int { return slices.Compare(s.mac[:], mac[:]) })
	if !known {
		if len(t.seen) >= maxSightings {
			return
		}
		s := sighting{mac: mac, first: now, ask: now.Add(m.cfg.Recheck)}
		t.seen = slices.Insert(t.seen, i, s)
		m.suspects[t] = struct{}{}
		m.revision++
		if t.stage == announcing {
			m.recheckBy(s.ask)
		}
	}
	s := &t.seen[i]
	s.last = now
	if !s.confirmed && (now.Sub(s.first) >= m.cfg.Confirm || t.stage != announcing && !peer) {
		s.confirmed = true
		m.revision++
	}
}

// forget drops all claims on the address of a target.
func (m *Machine) forget(t *target) {
	if len(t.seen) > 0 {
		t.seen = nil
		delete(m.suspects, t)
		m.revision++
	}
}

// defend announces the address of a target at once, so that those who believed the other come back. Once in a while
// only, or two stations that both defend would fill the network. Other nodes of the cluster are not defended against:
// the address may be on its way to them.
func (m *Machine) defend(now time.Time, t *target) {
	if m.cfg.Defend <= 0 || !t.defended.IsZero() && now.Sub(t.defended) < m.cfg.Defend {
		return
	}
	t.defended = now
	t.extra = true
	t.due = now
	m.queue.put(t)
}

// recheckBy makes recheck look at this time at the latest.
func (m *Machine) recheckBy(at time.Time) {
	if m.cfg.Recheck > 0 && (m.recheckAt.IsZero() || at.Before(m.recheckAt)) {
		m.recheckAt = at
	}
}

// recheck appends a question for every claim on what is announced that is due for one, and forgets those that ended.
func (m *Machine) recheck(now time.Time, out []Packet) []Packet {
	if m.recheckAt.IsZero() || m.recheckAt.After(now) {
		return out
	}
	m.recheckAt = time.Time{}
	for _, t := range m.sortedSuspects() {
		if t.stage != announcing {
			continue // probing asks
		}
		ask := false
		before := len(t.seen)
		t.seen = slices.DeleteFunc(t.seen, func(s sighting) bool { return !now.Before(m.end(&s)) })
		if len(t.seen) < before {
			m.revision++
		}
		for i := range t.seen {
			s := &t.seen[i]
			if !now.Before(s.ask) {
				s.ask = now.Add(m.interval(s))
				ask = true
			}
			m.recheckBy(s.ask)
			m.recheckBy(m.end(s))
		}
		if ask {
			out = append(out, t.question())
		}
		if len(t.seen) == 0 {
			delete(m.suspects, t)
		}
	}
	return out
}

func (m *Machine) listConflicts() []Conflict {
	out := make([]Conflict, 0, len(m.suspects))
	for _, t := range m.sortedSuspects() {
		for _, s := range t.seen {
			if s.confirmed {
				out = append(out, Conflict{Address: t.addr.ip, Interface: t.link.Name, MAC: s.mac, LastSeen: s.last})
			}
		}
	}
	return out
}

func (m *Machine) sortedSuspects() []*target {
	out := make([]*target, 0, len(m.suspects))
	for t := range m.suspects {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *target) int {
		return cmp.Or(a.addr.ip.Compare(b.addr.ip), cmp.Compare(a.link.Name, b.link.Name))
	})
	return out
}
