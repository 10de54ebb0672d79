// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Ready returns the work that became due since the last call.
func (m *Machine) Ready() Ready {
	if m.now.IsZero() {
		return Ready{} // without a time nothing can be decided
	}
	m.decideAll()
	if len(m.disputed) > 0 {
		m.announceDisputed()
	}
	m.ready.Start = m.starts()
	m.ready.Send = m.messages()
	out := m.ready
	m.ready = Ready{}
	return out
}

// starts leaves out of Start what was stopped after all, or has changed again: that is done in the order of Ready, not
// in the order in which it was decided.
func (m *Machine) starts() []Answer {
	last := make(map[netip.Addr]int, len(m.ready.Start))
	for i, a := range m.ready.Start {
		last[a.IP] = i
	}
	var out []Answer
	for i, a := range m.ready.Start {
		if _, is := m.answering[a.IP]; is && last[a.IP] == i {
			out = append(out, a)
		}
	}
	return out
}

// announceDisputed announces again what another node believed to own.
func (m *Machine) announceDisputed() {
	for _, a := range m.ready.Start { // announced anyway
		delete(m.disputed, a.IP)
	}
	for _, ip := range slices.SortedFunc(maps.Keys(m.disputed), netip.Addr.Compare) {
		if _, is := m.answering[ip]; is && m.disputed[ip] {
			m.ready.Announce = append(m.ready.Announce, ip)
		}
	}
	clear(m.disputed)
}

// messages makes news of what this node has changed, in pieces that fit into a
// packet.
func (m *Machine) messages() []Letter {
	var out []Letter
	if m.newSelf {
		msg := m.message(false)
		msg.records = []record{recordOf(m.self)}
		out = append(out, Letter{Data: msg.encode()})
		m.newSelf = false
	}
	news := packer{m: m}
	for _, c := range m.claimsToSend() {
		news.room(1, c.node)
		news.claim(c.ip, c.claim)
	}
	out = append(out, news.finish()...)
	shown := append(m.dueAcks(), m.dueInsists()...)
	slices.SortFunc(shown, func(a, b letterOn) int { return cmp.Or(cmp.Compare(a.to, b.to), a.key.Compare(b.key)) })
	shown = slices.Compact(shown)
	for _, to := range m.correspondents(shown) {
		p := packer{m: m, to: to}
		if slices.Contains(m.greet, to) {
			out = append(out, m.greeting(to)...)
		}
		if slices.Contains(m.remind, to) {
			out = append(out, m.tell(to, m.heldBy(to))...)
		}
		for _, g := range m.offers {
			if g.givenTo(to) {
				p.offer(g, g.giving.turn)
			}
		}
		out = append(out, m.grounds(to)...)
		for _, u := range m.urges {
			if g, known := m.groups[u.key]; known && u.to == to {
				p.offer(g, 0)
			}
		}
		for _, a := range shown {
			if a.to == to {
				p.group(m.groups[a.key])
			}
		}
		out = append(out, p.finish()...)
	}
	m.offers, m.urges, m.greet, m.remind = nil, nil, nil, nil
	return out
}

// heldBy lists the addresses that a node claims, sorted.
func (m *Machine) heldBy(name lb.NodeName) []netip.Addr {
	var out []netip.Addr
	for ip, c := range m.claims {
		if c.node == name {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// tell shows a node the claims on some addresses.
func (m *Machine) tell(to lb.NodeName, addresses []netip.Addr) []Letter {
	p := packer{m: m, to: to}
	for _, ip := range addresses {
		if m.quiet(ip) {
			continue // it will be told to all
		}
		p.room(1, m.claims[ip].node)
		p.claim(ip, m.claims[ip])
	}
	return p.finish()
}

// correspondents are the nodes that something is to be told alone, sorted.
func (m *Machine) correspondents(shown []letterOn) []lb.NodeName {
	if len(m.offers)+len(m.urges)+len(shown)+len(m.greet)+len(m.remind) == 0 {
		return nil
	}
	var out []lb.NodeName
	for _, g := range m.offers {
		out = append(out, g.giving.to)
	}
	for _, u := range m.urges {
		out = append(out, u.to)
	}
	for _, a := range shown {
		out = append(out, a.to)
	}
	out = append(out, m.greet...)
	out = append(out, m.remind...)
	slices.Sort(out)
	return slices.Compact(out)
}

// sent is a claim in a message.
type sent struct {
	ip netip.Addr
	claim
}

// claimsToSend takes what is new, and this node's own claims that have lost to
// another's while it was answering: the winner announces itself again then.
func (m *Machine) claimsToSend() []sent {
	if len(m.news)+len(m.conceded) == 0 {
		return nil
	}
	out := make([]sent, 0, len(m.news)+len(m.conceded))
	for ip := range m.news { // sorted below
		if !m.quiet(ip) {
			out = append(out, sent{ip, m.claims[ip]})
			delete(m.news, ip)
		}
	}
	for ip, c := range m.conceded {
		out = append(out, sent{ip, c})
	}
	clear(m.conceded)
	slices.SortFunc(out, func(a, b sent) int { return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(a.epoch, b.epoch)) })
	return out
}

func (m *Machine) message(full bool) message {
	return message{full: full, settled: m.settled, sender: m.cfg.Self}
}

func recordOf(n *node) record {
	return record{name: n.name, version: n.version, ready: n.ready, interfaces: n.interfaces, hardware: n.hardware}
}

func (c claim) public(ip netip.Addr) Claim {
	return Claim{Address: ip, Epoch: c.epoch, Node: c.node, Unproven: c.unproven}
}

// State is the full state for the gossip driver.
//
// Claims on addresses that this node has no group for are not passed on:
// otherwise nodes would remind each other for ever of what is long gone.
func (m *Machine) State() []byte {
	msg := m.message(true)
	for _, name := range slices.Sorted(maps.Keys(m.nodes)) {
		if n := m.nodes[name]; n.alive && n.version > 0 {
			msg.records = append(msg.records, recordOf(n))
		}
	}
	for _, c := range m.Claims() {
		if _, stray := m.strays[c.Address]; !stray && !m.quiet(c.Address) {
			msg.claims = append(msg.claims, c)
		}
	}
	return msg.encode()
}

// Claims is the table of claims, by address, for debugging.
func (m *Machine) Claims() []Claim {
	out := make([]Claim, 0, len(m.claims))
	for ip, c := range m.claims {
		out = append(out, c.public(ip))
	}
	slices.SortFunc(out, func(a, b Claim) int { return a.Address.Compare(b.Address) })
	return out
}

// Answers are all addresses this node answers for, by address. It is the sum of
// the Ready batches so far.
func (m *Machine) Answers() []Answer {
	out := make([]Answer, 0, len(m.answering))
	for ip := range m.answering {
		out = append(out, m.answerOf(ip))
	}
	slices.SortFunc(out, func(a, b Answer) int { return a.IP.Compare(b.IP) })
	return out
}
