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
	for _, a := range m.ready.Start { // announced anyway
		delete(m.disputed, a.IP)
	}
	for _, ip := range slices.SortedFunc(maps.Keys(m.disputed), netip.Addr.Compare) {
		if _, is := m.answering[ip]; is && m.disputed[ip] {
			m.ready.Announce = append(m.ready.Announce, ip)
		}
	}
	clear(m.disputed)
	m.ready.Send = m.messages()
	out := m.ready
	m.ready = Ready{}
	return out
}

// messages makes news of what this node has changed, in pieces that fit into a
// packet.
func (m *Machine) messages() [][]byte {
	var out [][]byte
	if m.newSelf {
		msg := m.message(false)
		msg.records = []record{recordOf(m.self)}
		out = append(out, msg.encode())
		m.newSelf = false
	}
	var claims []Claim
	names := map[lb.NodeName]bool{}
	size := 0
	flush := func() {
		if len(claims) > 0 {
			msg := m.message(false)
			msg.claims = claims
			out = append(out, msg.encode())
		}
		claims, size = nil, 0
		clear(names)
	}
	for _, c := range m.claimsToSend() {
		ip := c.ip
		need := 1 + ip.BitLen()/8 + 10 + 2 // the most that a claim takes
		if !names[c.node] {
			need += 2 + len(c.node)
		}
		if size+need > maxNews-len(m.cfg.Self)-10 {
			flush()
		}
		claims = append(claims, c.public(ip))
		names[c.node] = true
		size += need
	}
	flush()
	return out
}

// sent is a claim in a message.
type sent struct {
	ip netip.Addr
	claim
}

// claimsToSend takes what is new, and this node's own claims that have lost to
// another's while it was answering: the winner announces itself again then.
func (m *Machine) claimsToSend() []sent {
	out := make([]sent, 0, len(m.news)+len(m.conceded))
	for ip := range m.news {
		out = append(out, sent{ip, m.claims[ip]})
	}
	for ip, c := range m.conceded {
		out = append(out, sent{ip, c})
	}
	clear(m.news)
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
		if _, stray := m.strays[c.Address]; !stray {
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
	for ip, interfaces := range m.answering {
		out = append(out, Answer{IP: ip, Interfaces: interfaces, Probe: m.claims[ip].unproven})
	}
	slices.SortFunc(out, func(a, b Answer) int { return a.IP.Compare(b.IP) })
	return out
}
