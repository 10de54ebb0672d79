// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
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

// observe notes that a station with this MAC claims the address of a target. Our own MACs do not count: two of our
// links may be on one network, and hear each other.
func (m *Machine) observe(now time.Time, t *target, mac MAC) {
	if _, own := m.ownMACs[mac]; own || !mac.IsUnicast() {
		return
	}
	k := conflictKey{t.addr.ip, t.link.Name, mac}
	if _, known := m.conflicts[k]; !known {
		if len(m.conflicts) >= maxConflicts {
			return
		}
		m.revision++
	}
	m.conflicts[k] = now
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

func (m *Machine) expire(now time.Time) {
	if m.cfg.ConflictTTL <= 0 {
		return
	}
	for k, seen := range m.conflicts {
		if !now.Before(seen.Add(m.cfg.ConflictTTL)) {
			delete(m.conflicts, k)
			m.revision++
		}
	}
}

func (m *Machine) nextExpiry() time.Time {
	var next time.Time
	if m.cfg.ConflictTTL <= 0 {
		return next
	}
	for _, seen := range m.conflicts {
		if at := seen.Add(m.cfg.ConflictTTL); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (m *Machine) listConflicts() []Conflict {
	out := make([]Conflict, 0, len(m.conflicts))
	for k, seen := range m.conflicts {
		out = append(out, Conflict{Address: k.ip, Interface: k.link, MAC: k.mac, LastSeen: seen})
	}
	slices.SortFunc(out, func(a, b Conflict) int {
		return cmp.Or(
			a.Address.Compare(b.Address),
			cmp.Compare(a.Interface, b.Interface),
			slices.Compare(a.MAC[:], b.MAC[:]),
		)
	})
	return out
}
