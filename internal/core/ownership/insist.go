// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"time"
)

const (
	// insistAfter is when a claim is repeated to the node that it was taken from;
	// then after twice as long, and so on, as long as a partition may last that
	// nobody notices.
	insistAfter = 20 * time.Millisecond
	insistMax   = 320 * time.Millisecond
)

// insisting is a claim that is to be repeated.
type insisting struct {
	due  time.Time
	wait time.Duration // before that
}

// insistAgainst repeats the own claim on a group to whose claim it replaces; and to whose that one had replaced, who
// may answer still, and not know of the claim between.
func (m *Machine) insistAgainst(c claim, g *group) {
	m.insist(letterOn{c.node, g.Key})
	m.insist(letterOn{c.former, g.Key})
}

// insist repeats the claim on a group to a node that may answer for it, and would
// go on if the claim were lost: gossip repeats it, but later.
func (m *Machine) insist(key letterOn) {
	if n, known := m.nodes[key.to]; known && n.alive && n != m.self {
		m.insists[key] = insisting{due: m.now.Add(insistAfter), wait: insistAfter}
	}
}

// dueInsists takes what is to be repeated now. What this node does not answer for
// yet waits until the claim is told at all.
func (m *Machine) dueInsists() []letterOn {
	var due []letterOn
	for key, i := range m.insists { // sorted with the other letters
		g, known := m.groups[key.key]
		switch {
		case !known || m.claims[key.key].node != m.cfg.Self:
			delete(m.insists, key)
		case m.begins(g):
			m.insists[key] = insisting{due: m.now.Add(insistAfter), wait: insistAfter}
		case m.now.Before(i.due):
		default:
			due = append(due, key)
			if i.wait *= 2; i.wait > insistMax {
				delete(m.insists, key)
				continue
			}
			m.insists[key] = insisting{due: m.now.Add(i.wait), wait: i.wait}
		}
	}
	return due
}
