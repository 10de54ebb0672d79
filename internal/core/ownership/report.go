// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Settled reports whether this node knows enough of the others to claim.
func (m *Machine) Settled() bool { return m.settled }

// Owner says who owns a group, as far as this node knows: the claimant, or the
// node that every survivor expects to claim. Like all reports it tells what was
// decided when Ready was last called.
func (m *Machine) Owner(key netip.Addr) (lb.NodeName, bool) {
	g, ok := m.groups[key]
	if !ok || g.owner == "" {
		return "", false
	}
	return g.owner, true
}

// Why says what part a candidate has in a group. The zero Reason means that the
// node is no candidate: announce.Result.Explain knows why.
func (m *Machine) Why(key netip.Addr, name lb.NodeName) reason.Reason {
	g, ok := m.groups[key]
	if !ok {
		return reason.Reason{}
	}
	c, ok := g.Candidate(name)
	if !ok {
		return reason.Reason{}
	}
	n, known := m.nodes[name]
	switch {
	case !known || !n.alive:
		return reason.New(reason.NodeNotAlive, "no speaker on node %q is heard in gossip", name)
	case !n.ready:
		return reason.New(reason.NodeNotAlive, "the speaker on node %q is not ready yet", name)
	case n.outdated:
		return reason.New(reason.NodeNotAlive, "the speaker on node %q has said something of itself that does not arrive here", name)
	case len(usableOf(c, n)) == 0 && c.Interfaces == nil:
		return noInterface(name, nil)
	case len(usableOf(c, n)) == 0:
		return noInterface(name, c.Interfaces)
	}
	for i, ip := range g.Addresses {
		if c, ok := g.CandidateFor(i, name); !ok || len(usableOf(c, n)) == 0 {
			return reason.New(reason.NodeNoInterface, "node %q has none of the interfaces %s up, where %s may be answered", name, strings.Join(c.Interfaces, ", "), ip)
		}
	}
	switch g.owner {
	case name:
		return reason.New(reason.NodeOwner, "node %q answers for %s", name, join(g.Addresses))
	case "":
		return reason.New(reason.NodeNotElected, "node %q may answer for %s, which nobody does yet", name, join(g.Addresses))
	default:
		return reason.New(reason.NodeNotElected, "node %q could answer for %s; node %q does", name, join(g.Addresses), g.owner)
	}
}

func noInterface(name lb.NodeName, of []string) reason.Reason {
	if of == nil {
		return reason.New(reason.NodeNoInterface, "node %q has no usable interface", name)
	}
	return reason.New(reason.NodeNoInterface, "node %q has none of the interfaces %s up", name, strings.Join(of, ", "))
}

// SaysNoInterface finds in the words of a verdict that a candidate lacks the
// interfaces: who has only read what the speakers have written has no other way
// to know.
func SaysNoInterface(verdict string, c announce.Candidate) (reason.Reason, bool) {
	why := noInterface(c.Node, c.Interfaces)
	return why, strings.Contains(verdict+";", why.Text+";")
}

// maxNamed bounds how many nodes one sentence names.
const maxNamed = 5

// Verdict says in words who announces a group, or why nobody does although the
// plan has candidates. The zero Reason means that the machine has no such
// group, or that it has no candidates: announce.Result.Verdict knows why.
func (m *Machine) Verdict(key netip.Addr) reason.Reason {
	g, ok := m.groups[key]
	if !ok || len(g.Candidates) == 0 {
		return reason.Reason{}
	}
	if g.owner != "" {
		return reason.New(reason.Announcing, "node %q answers for %s", g.owner, join(g.Addresses))
	}
	code := reason.NoSpeaker
	text := ""
	for i, c := range g.Candidates {
		why := m.Why(key, c.Node)
		if why.Code != reason.NodeNotAlive {
			code = reason.NoCandidate
		}
		if i < maxNamed {
			text += "; " + why.Text
		}
	}
	if more := len(g.Candidates) - maxNamed; more > 0 {
		return reason.New(code, "nobody answers for %s yet%s; and %d more nodes", join(g.Addresses), text, more)
	}
	return reason.New(code, "nobody answers for %s yet%s", join(g.Addresses), text)
}

// NodeOf finds the node, alive or not, that published a MAC address as one of
// its own.
func (m *Machine) NodeOf(mac MAC) (lb.NodeName, bool) {
	for _, name := range slices.Sorted(maps.Keys(m.nodes)) {
		if slices.Contains(m.nodes[name].hardware, mac) {
			return name, true
		}
	}
	return "", false
}

// PeerHardware lists the MAC addresses of all other nodes, sorted.
func (m *Machine) PeerHardware() []MAC {
	var out []MAC
	for _, n := range m.nodes {
		if n != m.self {
			out = append(out, n.hardware...)
		}
	}
	slices.SortFunc(out, compareMACs)
	return slices.Compact(out)
}

// FirstLive is the first living node in hash order for a subject, such as the
// key of a Service: the one to write what only one need write when there is no
// owner.
func (m *Machine) FirstLive(subject string) lb.NodeName {
	first := m.cfg.Self
	for name, n := range m.nodes { // the least of all, whatever the order
		if n.alive && name != first && before(name, first, subject) {
			first = name
		}
	}
	return first
}

// LiveBefore is how many living nodes come before this one in hash order for a
// subject: 0 on the FirstLive.
func (m *Machine) LiveBefore(subject string) int {
	count := 0
	for name, n := range m.nodes {
		if n.alive && name != m.cfg.Self && before(name, m.cfg.Self, subject) {
			count++
		}
	}
	return count
}

// Alone reports whether there should be other speakers, and none is heard.
func (m *Machine) Alone() bool { return len(m.peers) > 0 && !m.othersAlive() }

// Lives reports whether the speaker of a node is heard, or is this one.
func (m *Machine) Lives(name lb.NodeName) bool {
	n, known := m.nodes[name]
	return known && n.alive
}

func join(addresses []netip.Addr) string {
	names := make([]string, len(addresses))
	for i, ip := range addresses {
		names[i] = ip.String()
	}
	return strings.Join(names, ", ")
}
