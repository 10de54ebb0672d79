// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

const (
	// greetAgain is when a node that came is told once more what this one
	// claims: the first message may have been lost.
	greetAgain = 250 * time.Millisecond
	// greetSilent is how often after that, as long as nothing comes from the node:
	// gossip may have heard of it from a third one, while the two do not hear each
	// other. greetLimit is for how long: by then heartbeats have noticed.
	greetSilent = 500 * time.Millisecond
	greetLimit  = 10 * time.Second
)

// greeting tells a node that came all that this one claims. Two nodes that hear
// each other again after a partition may have met through a third one: then no
// exchange of full states tells either that both answer for an address.
func (m *Machine) greeting(to lb.NodeName) []Letter {
	hello := m.message(false)
	hello.records = []record{recordOf(m.self)}
	held := m.heldBy(m.cfg.Self)
	number := uint64(len(held))
	hello.greeting = &number
	out := []Letter{{To: to, Data: hello.encode()}}
	return append(out, m.tell(to, held)...)
}

// greetDue greets nodes once more.
func (m *Machine) greetDue() {
	for name, due := range m.greeted { // sorted when they are greeted
		if m.now.Before(due) {
			continue
		}
		delete(m.greeted, name)
		m.greet = append(m.greet, name)
		if n := m.nodes[name]; n.silent && m.now.Sub(n.came) < greetLimit {
			m.greeted[name] = m.now.Add(greetSilent)
		}
	}
}

// reminders is how many nodes remind one that has forgotten its claims.
const reminders = 3

// returnGreeting reminds a node of claims that it does not seem to know any
// more: it was restarted so quickly that nobody noticed, and everybody else
// believes that it answers.
func (m *Machine) returnGreeting(from lb.NodeName, held uint64) {
	if known := m.heldBy(from); uint64(len(known)) <= held {
		return
	}
	if m.reminds(from) {
		m.remind = append(m.remind, from)
	}
}

// reminds reports whether this node is one of the few that tell another one what it
// does not know.
func (m *Machine) reminds(other lb.NodeName) bool {
	before := 0
	for name, n := range m.nodes { // counted, whatever the order
		if n.alive && name != other && m.before(name, other) {
			before++
		}
	}
	return before < reminders
}

// correct shows a node that a claim of its own has lost to a third one's. The two
// may have come at once, and not have met yet.
func (m *Machine) correct(lost Claim) {
	g, grouped := m.byAddress[lost.Address]
	if won := m.claims[lost.Address].node; grouped && won != lost.Node && won != m.cfg.Self && m.eligible(g, won) && m.reminds(lost.Node) {
		m.acks[letterOn{lost.Node, g.Key}] = true
	}
}

// before reports whether a node comes before this one in the order that holds
// for things about another node.
func (m *Machine) before(name, about lb.NodeName) bool {
	return name != m.cfg.Self && before(name, m.cfg.Self, string(about))
}
