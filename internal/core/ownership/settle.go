// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"slices"
	"time"
)

// hear notes what may settle this node.
//
// The full state of a settled node holds all claims there are. An unsettled
// node has made none: hearing any message of it shows that it is no owner that
// this node fails to hear, and what it will claim later this node will hear too.
//
// News of a settled node are no full state, but show that there is one to ask
// for: it may have settled since the nodes met.
func (m *Machine) hear(msg *message) {
	if msg.full && msg.settled {
		m.unsure = false
	}
	switch {
	case m.settled:
	case !msg.settled:
		m.heard[msg.sender] = true
	case msg.full:
		m.informed = true
	default:
		m.ask()
	}
}

// ask asks for full states, now and then.
func (m *Machine) ask() {
	if m.now.Sub(m.asked) >= askInterval {
		m.asked = m.now
		m.ready.Resync = true
	}
}

// askInterval is the shortest time between two requests for full states.
const askInterval = 250 * time.Millisecond

// trySettle decides whether this node knows enough to claim and answer:
//
//   - it has the full state of a settled node; or
//   - the whole cluster starts, and all its nodes are ready, so that the
//     addresses are dealt out among all and not to the quickest; or
//   - there is nobody else; or
//   - it has waited long enough: what cannot be heard is not there.
func (m *Machine) trySettle() {
	if m.settled || m.peers == nil {
		return
	}
	expired := !m.deadline.IsZero() && !m.now.Before(m.deadline)
	if !expired && !m.informed && !m.allHeard() {
		return
	}
	m.settled, m.waking = true, false
	m.unsure = !m.informed && !m.allHeard()
	m.newSelf = true // tells those who wait for a settled node
	m.informed = false
	clear(m.heard)
	for _, g := range m.groups {
		g.unclaimed = m.now // only from now on could this node claim
	}
	m.allDirty = true
	m.ready.StateChanged = true
}

// unsureInterval is how often a node asks that has settled because nobody told it
// anything, though gossip believes others alive. It may hear them again at any
// time, and nobody notices that it did not.
const unsureInterval = 2 * askInterval

// askIfUnsure does so.
func (m *Machine) askIfUnsure() {
	if m.unsure && m.settled && m.now.Sub(m.asked) >= unsureInterval && m.othersAlive() {
		m.ask()
	}
}

// allHeard reports whether every node that should be there, or is, has been
// heard and is ready.
func (m *Machine) allHeard() bool {
	for _, p := range m.peers {
		if _, known := m.nodes[p]; !known || !m.heard[p] {
			return false
		}
	}
	for name, n := range m.nodes {
		_, wanted := slices.BinarySearch(m.peers, name)
		if n != m.self && (n.alive || wanted) && !(n.alive && n.ready && m.heard[name]) {
			return false
		}
	}
	return true
}

// unsettle stops all answers: this node stood still for so long that others may
// answer instead, and it has not read their claims yet.
func (m *Machine) unsettle() {
	m.settled = false
	m.informed = false
	m.waking = true
	m.deadline = m.now.Add(resyncTimeout)
	m.allDirty = true
	m.asked = m.now
	m.ready.Resync = true
	m.ready.StateChanged = true
}
