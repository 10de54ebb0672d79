// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// gossip has an opinion like a watcher; no node has this name.
const gossip lb.NodeName = ""

// doubt keeps a node that gossip has declared dead, if it is heard. For a watcher
// who does not hear it that is a second opinion; the node may object to it as to
// any other.
func (m *Machine) doubt(p *peer) {
	if w := p.watch; w != nil {
		unheard := w.silent(m.now, &m.cfg) && m.now.Sub(w.vouched) >= w.patience(&m.cfg)
		if p.heard.IsZero() || unheard && !w.suspected.IsZero() && m.now.Sub(w.suspected) >= m.cfg.Refute {
			m.setDown(p)
			return
		}
		if unheard {
			w.votes[gossip] = m.now
		}
	}
	if p.doubted {
		return
	}
	p.doubted = true
	m.doubted = append(m.doubted, p)
	p.askUntil, p.askAgain = time.Time{}, m.now
}

// ask wants to know from a node's watchers whether they hear it.
func (m *Machine) ask(p *peer) {
	p.askAgain = m.now.Add(m.cfg.Repeat)
	for _, name := range m.ring.neighbours(p.name) {
		if to := m.peers[name]; to != nil && to.speaks {
			m.send(to, Packet{Kind: Ask, Subject: p.name})
		}
	}
}

// judgeDoubted looks at nodes that live by the word of others. They are asked
// about for a while, until somebody vouches; and again later.
func (m *Machine) judgeDoubted() {
	m.doubted = slices.DeleteFunc(m.doubted, func(p *peer) bool { return !p.doubted })
	for _, p := range m.doubted {
		switch {
		case p.watch != nil:
		case p.askUntil.IsZero() && !m.now.Before(p.askAgain):
			p.askUntil = m.now.Add(2 * m.cfg.Refute)
			m.ask(p)
		case !p.askUntil.IsZero() && !m.now.Before(p.askUntil):
			if p.accuser != "" {
				m.condemn(p, p.accused)
			} else {
				m.setDown(p)
			}
		case !p.askUntil.IsZero() && !m.now.Before(p.askAgain):
			m.ask(p)
		}
	}
}
