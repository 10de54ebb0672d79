// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// maxConflicts bounds the memory that somebody can make us use by claiming addresses from many MACs.
const maxConflicts = 256

type conflictKey struct {
	ip   netip.Addr
	link string
	mac  MAC
}

// sighting is somebody else's claim on an address of ours. While addresses move between the nodes of a cluster, or a
// partition heals, two nodes may claim one address for a moment. So a claim is a conflict only when it is heard again
// some time later; the other is asked, because it may have no reason to speak by itself.
//
//	heard ── asked every Recheck ──> heard again after Confirm: a conflict ── asked every 5 Recheck ──> silent: gone
//	                            └──> silent: gone
type sighting struct {
	first, last time.Time
	ask         time.Time // when the other is asked next
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

// observe notes that a station with this MAC claims the address of a target. Our own MACs do not count: two of our
// links may be on one network, and hear each other.
func (m *Machine) observe(now time.Time, t *target, mac MAC) {
	if _, own := m.ownMACs[mac]; own || !mac.IsUnicast() {
		return
	}
	k := conflictKey{t.addr.ip, t.link.Name, mac}
	s := m.conflicts[k]
	if s == nil {
		if len(m.conflicts) >= maxConflicts {
			return
		}
		s = &sighting{first: now, ask: now.Add(m.cfg.Recheck)}
		m.conflicts[k] = s
		m.revision++
	}
	s.last = now
	if !s.confirmed && now.Sub(s.first) >= m.cfg.Confirm {
		s.confirmed = true
		m.revision++
	}
}

// forget drops the conflicts of an address that is no longer announced here.
func (m *Machine) forget(ip netip.Addr) {
	for k := range m.conflicts {
		if k.ip == ip {
			delete(m.conflicts, k)
			m.revision++
		}
	}
}

// recheck appends a question for every claim that is due for one, and forgets those that ended.
func (m *Machine) recheck(now time.Time, out []Packet) []Packet {
	if m.cfg.Recheck <= 0 || len(m.conflicts) == 0 {
		return out
	}
	asked := map[*target]bool{}
	for _, k := range slices.SortedFunc(maps.Keys(m.conflicts), conflictKey.compare) {
		s := m.conflicts[k]
		if !now.Before(m.end(s)) {
			delete(m.conflicts, k)
			m.revision++
			continue
		}
		if now.Before(s.ask) {
			continue
		}
		s.ask = now.Add(m.interval(s))
		if t := m.targets[targetKey{k.ip, m.byName[k.link].Index}]; t != nil && !asked[t] {
			asked[t] = true
			out = append(out, t.question())
		}
	}
	return out
}

// nextRecheck returns the time at which recheck has something to do, or the zero time.
func (m *Machine) nextRecheck() time.Time {
	var next time.Time
	if m.cfg.Recheck <= 0 {
		return next
	}
	for _, s := range m.conflicts {
		at := s.ask
		if end := m.end(s); end.Before(at) {
			at = end
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (m *Machine) listConflicts() []Conflict {
	out := make([]Conflict, 0, len(m.conflicts))
	for _, k := range slices.SortedFunc(maps.Keys(m.conflicts), conflictKey.compare) {
		if s := m.conflicts[k]; s.confirmed {
			out = append(out, Conflict{Address: k.ip, Interface: k.link, MAC: k.mac, LastSeen: s.last})
		}
	}
	return out
}

func (k conflictKey) compare(o conflictKey) int {
	return cmp.Or(k.ip.Compare(o.ip), cmp.Compare(k.link, o.link), slices.Compare(k.mac[:], o.mac[:]))
}
