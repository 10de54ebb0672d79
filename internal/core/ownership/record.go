// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// staleGrace is how long a node may own by a record of which its heartbeats say
// that it is not the newest: that is on its way, and repeated if it was lost.
const staleGrace = 400 * time.Millisecond

// Record is the version of this node's own record, for its heartbeats.
func (m *Machine) Record() uint64 { return m.self.version }

// Published tells which version a node's heartbeats name. They arrive where news
// do not: gossip sends nothing to whom it has lost, and a node that hears nobody
// any more has lost all. If its cable is out then, or an interface, its record
// here is wrong, and who relies on it keeps an address dark.
func (m *Machine) Published(name lb.NodeName, version uint64) {
	if n := m.node(name); n != m.self {
		n.published = version // a new life may begin lower
		m.compare(n)
	}
}

// compare notes whether a node's record is older than what it has published.
func (m *Machine) compare(n *node) {
	switch {
	case n.version >= n.published:
		m.allDirty = m.allDirty || n.outdated
		n.stale, n.outdated = time.Time{}, false
	case n.stale.IsZero():
		n.stale = m.now
	}
}

// lookAtStale asks for records that are late, and stops relying on those that do
// not come.
func (m *Machine) lookAtStale() {
	for _, n := range m.nodes { // in any order
		if n.stale.IsZero() || n.outdated {
			continue
		}
		if n.outdated = m.now.Sub(n.stale) >= staleGrace; n.outdated {
			m.allDirty = true
		} else if n.alive && m.now.Sub(n.stale) >= TickInterval {
			m.ask()
		}
	}
}
