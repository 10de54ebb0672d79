// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// urgeAfter is how long a group may wait for its elected node before that is
// asked to take it; then twice as long, and so on.
const urgeAfter = 100 * time.Millisecond

// urge asks the elected node of a group to take it. It may not know that it is
// elected: claims and records that were sent while it could not be heard for a
// moment are not repeated, until full states are exchanged seconds later. It
// might wait for the owner that it knows of, which gave way to another one that
// has died; or for a node of which it does not know that it cannot own.
//
// This is an offer of somebody else's claim. The node takes it unless it hears
// the claimant itself.
func (m *Machine) urge(g *group, elected lb.NodeName) {
	if _, claimed := m.claims[g.Key]; !claimed || m.now.Before(m.nextUrge(g)) {
		return
	}
	g.urged++
	m.urges = append(m.urges, letterOn{elected, g.Key})
}

// grounds shows a node the records of those who have what it is urged to take, and
// live: they may not be able to tell it themselves that they cannot own it.
func (m *Machine) grounds(to lb.NodeName) []Letter {
	var owners []lb.NodeName
	for _, u := range m.urges {
		if n, known := m.nodes[m.claims[u.key].node]; u.to == to && known && n.alive && n != m.self && n.name != to {
			owners = append(owners, n.name)
		}
	}
	slices.Sort(owners)
	var out []Letter
	for _, owner := range slices.Compact(owners) {
		msg := m.message(false)
		msg.records = []record{recordOf(m.nodes[owner])}
		out = append(out, Letter{To: to, Data: msg.encode()})
	}
	return out
}

// nextUrge is when to ask the elected node of an unclaimed group.
func (m *Machine) nextUrge(g *group) time.Time { return g.unclaimed.Add(urgeAfter << g.urged) }
