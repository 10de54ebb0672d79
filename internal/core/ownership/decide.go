// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// rank orders nodes for an address: the lowest rank comes first. It is the
// order of MetalLB, so that a cluster which switches keeps its owners.
func rank(node lb.NodeName, address string) [sha256.Size]byte {
	var buf [128]byte
	b := append(append(append(buf[:0], node...), '#'), address...)
	return sha256.Sum256(b)
}

// before reports whether a comes before b in the hash order of an address.
func before(a, b lb.NodeName, address string) bool {
	ra, rb := rank(a, address), rank(b, address)
	return bytes.Compare(ra[:], rb[:]) < 0
}

// usable returns the interfaces on which the node may answer for the group: nil
// if it may not own it at all.
func (m *Machine) usable(g *group, name lb.NodeName) []string {
	n, ok := m.nodes[name]
	if !ok || !n.alive || !n.ready || n.outdated || n == m.self && m.leaving {
		return nil
	}
	c, ok := g.Candidate(name)
	if !ok {
		return nil
	}
	for i := range g.Covers {
		if own, ok := g.CandidateFor(i, name); !ok || len(usableOf(own, n)) == 0 {
			return nil
		}
	}
	return usableOf(c, n)
}

// usableFor returns the interfaces on which this node answers for the i-th
// address of a group that it owns.
func (m *Machine) usableFor(g *group, i int) []string {
	c, ok := g.CandidateFor(i, m.cfg.Self)
	if !ok {
		return nil
	}
	return usableOf(c, m.self)
}

func usableOf(c announce.Candidate, n *node) []string {
	if c.Interfaces == nil {
		return n.interfaces
	}
	var out []string
	for _, i := range c.Interfaces {
		if _, up := slices.BinarySearch(n.interfaces, i); up {
			out = append(out, i)
		}
	}
	return out
}

func (m *Machine) eligible(g *group, name lb.NodeName) bool { return len(m.usable(g, name)) > 0 }

// claimant returns the claim that the group is held by. The one on the key
// counts; those on other addresses do when groups were joined or got another
// key. These are no news that is to be believed: of two nodes that took the group
// at once, one may have lost the key and won another address.
func (m *Machine) claimant(g *group) (claim, bool) {
	if c, ok := m.claims[g.Key]; ok && m.stands(g, c) {
		return c, true
	}
	var best claim
	for _, ip := range g.Addresses {
		if c, ok := m.claims[ip]; ok && c.epoch > best.epoch && m.eligible(g, c.node) {
			best = c
		}
	}
	return best, best.node != ""
}

// stands reports whether a claim holds: its node is alive and eligible. A claim
// that was learned a moment ago is believed more than what this node knows of
// the claimant: the news that it lives, or the object that makes it a candidate,
// may still be on the way. It is not believed against the claimant's own word.
func (m *Machine) stands(g *group, c claim) bool {
	if m.eligible(g, c.node) {
		return true
	}
	if c.node == m.cfg.Self || !m.now.Before(c.doubtful()) {
		return false
	}
	n, known := m.nodes[c.node]
	if !known || !n.alive {
		return !known || c.learned.After(n.died) // else its death is the newer news
	}
	_, candidate := g.Candidate(c.node)
	return n.ready && !candidate
}

// doubtful is from when on a claim must be confirmed by what is known of its
// node.
func (c claim) doubtful() time.Time {
	if c.learned.IsZero() {
		return time.Time{}
	}
	return c.learned.Add(claimGrace << (max(c.fights, 2) - 2))
}

// elect returns the node that should claim the group: the first in order of
// score, then hash. A node that does not claim in time is passed over: it may
// not know of the Service.
func (m *Machine) elect(g *group) lb.NodeName {
	turn := m.turn(g)
	if turn == 0 {
		return m.first(g)
	}
	order := m.order(g)
	if len(order) == 0 {
		return ""
	}
	return order[turn%len(order)]
}

// first is the first of order, without sorting the rest.
func (m *Machine) first(g *group) lb.NodeName {
	var best announce.Candidate
	var bestRank [sha256.Size]byte
	key := g.Key.String()
	for _, c := range g.Candidates {
		if best.Node != "" && c.Score < best.Score || !m.eligible(g, c.Node) {
			continue
		}
		r := rank(c.Node, key)
		if best.Node == "" || c.Score > best.Score || bytes.Compare(r[:], bestRank[:]) < 0 {
			best, bestRank = c, r
		}
	}
	return best.Node
}

// turn counts how many nodes have let their time to claim pass.
func (m *Machine) turn(g *group) int {
	if !m.settled || g.unclaimed.IsZero() {
		return 0
	}
	return int(m.now.Sub(g.unclaimed) / m.cfg.ClaimTimeout)
}

// order lists the eligible nodes of a group, those to be elected first.
func (m *Machine) order(g *group) []lb.NodeName {
	type entry struct {
		node  lb.NodeName
		score int
		rank  [sha256.Size]byte
	}
	entries := make([]entry, 0, len(g.Candidates))
	key := g.Key.String()
	for _, c := range g.Candidates {
		if m.eligible(g, c.Node) {
			entries = append(entries, entry{c.Node, c.Score, rank(c.Node, key)})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.score, a.score), bytes.Compare(a.rank[:], b.rank[:]))
	})
	out := make([]lb.NodeName, len(entries))
	for i, e := range entries {
		out[i] = e.node
	}
	return out
}

// decideAll brings every group up to date that something has happened to.
func (m *Machine) decideAll() {
	if m.allDirty {
		m.stopUngrouped()
		for _, g := range m.sorted {
			m.decide(g)
		}
	} else if len(m.dirty) > 0 {
		for _, key := range slices.SortedFunc(maps.Keys(m.dirty), netip.Addr.Compare) {
			if g, ok := m.groups[key]; ok {
				m.decide(g)
			}
		}
	}
	clear(m.dirty)
	m.allDirty = false
	if m.leaving && !m.left && len(m.giving) == 0 {
		m.left = true
		m.updateSelf()
	}
}

// decide brings one group up to date.
func (m *Machine) decide(g *group) {
	if m.handOver(g) {
		return
	}
	held, claimed := m.claimant(g)
	owner := held.node
	switch {
	case claimed:
		g.unclaimed, g.urged = time.Time{}, 0
	case !m.settled:
		owner = "" // it could not claim, and may not know the candidates yet
	case g.unclaimed.IsZero():
		g.unclaimed, g.urged = m.now, 0
		fallthrough
	default:
		switch owner = m.elect(g); owner {
		case "":
			g.unclaimed = time.Time{} // nobody lets time pass
		case m.cfg.Self:
		default:
			m.urge(g, owner)
		}
	}
	if m.leaving {
		m.bequeath(g, owner)
	}
	mine := owner == m.cfg.Self && m.settled && (claimed || m.maySeize(g))
	if mine {
		m.claim(g)
		g.unclaimed, g.urged = time.Time{}, 0
	}
	m.waitFor(g, held, claimed || mine || owner == "")
	if owner == m.cfg.Self && !mine {
		owner = "" // elected, but not answering yet
	}
	m.reportOwner(g, owner)
	for i, ip := range g.Addresses {
		var interfaces []string
		if mine {
			interfaces = m.usableFor(g, i)
		}
		m.answer(ip, interfaces, false)
	}
}

// waitFor notes when to look at the group again although nothing happens.
func (m *Machine) waitFor(g *group, held claim, done bool) {
	switch {
	case !m.settled: // settling looks at every group
		delete(m.waiting, g.Key)
	case !done:
		m.waiting[g.Key] = m.nextTurn(g)
	case held.doubtful().After(m.now) && !m.eligible(g, held.node):
		m.waiting[g.Key] = held.doubtful()
	default:
		delete(m.waiting, g.Key)
	}
}

// nextTurn is when to look again at a group whose elected node has not claimed.
func (m *Machine) nextTurn(g *group) time.Time {
	next := g.unclaimed.Add(time.Duration(m.turn(g)+1) * m.cfg.ClaimTimeout)
	if urge := m.nextUrge(g); urge.After(m.now) && urge.Before(next) {
		next = urge
	}
	if again := g.seized.Add(reclaimInterval); again.After(m.now) && again.Before(next) {
		return again
	}
	return next
}

// maySeize reports whether this node may take an unclaimed group now. It waits
// only if it took the same group from a living node just before.
func (m *Machine) maySeize(g *group) bool {
	c, ok := m.claims[g.Key]
	if !ok || c.node == m.cfg.Self {
		return true
	}
	if n, known := m.nodes[c.node]; !known || !n.alive || !n.ready {
		return true
	}
	if m.now.Sub(g.seized) < reclaimInterval {
		return false
	}
	g.seized = m.now
	return true
}

// claim makes all addresses of the group this node's.
func (m *Machine) claim(g *group) {
	m.claimAddress(g.Key, m.cfg.Self)
	for _, ip := range g.Addresses {
		m.claimAddress(ip, m.cfg.Self)
	}
}

// bequeath claims for a successor what this node owned, without waiting for its
// word. The successor starts as soon as it hears of it.
func (m *Machine) bequeath(g *group, successor lb.NodeName) {
	if successor == "" {
		return // the claim stays: whoever becomes eligible replaces it
	}
	for _, ip := range append([]netip.Addr{g.Key}, g.Addresses...) {
		if m.claims[ip].node == m.cfg.Self {
			m.claimAddress(ip, successor)
		}
	}
}

func (m *Machine) claimAddress(ip netip.Addr, owner lb.NodeName) {
	c := m.claims[ip]
	if c.node == owner {
		return
	}
	m.claims[ip] = claim{epoch: c.epoch + 1, node: owner, unproven: c.epoch == 0 || c.unproven, fights: c.fights}
	if g, grouped := m.byAddress[ip]; grouped && owner == m.cfg.Self {
		m.insistAgainst(c, g)
	}
	m.news[ip] = true
	m.ready.StateChanged = true
}

// answer starts or stops answering for an address; no interfaces means stop. For hushed see Answer.
func (m *Machine) answer(ip netip.Addr, interfaces []string, hushed bool) {
	current, is := m.answering[ip]
	switch {
	case len(interfaces) == 0 && is:
		delete(m.answering, ip)
		delete(m.starting, ip)
		delete(m.lent, ip)
		delete(m.hushed, ip)
		m.ready.Stop = append(m.ready.Stop, ip)
	case len(interfaces) > 0 && (m.hushed[ip] != hushed || !slices.Equal(current, interfaces)):
		if !is {
			m.startWaits(ip)
		}
		m.answering[ip] = interfaces
		if delete(m.hushed, ip); hushed {
			m.hushed[ip] = true
		}
		m.ready.Start = append(m.ready.Start, m.answerOf(ip))
	}
}

func (m *Machine) answerOf(ip netip.Addr) Answer {
	return Answer{IP: ip, Interfaces: m.answering[ip], Probe: m.claims[ip].unproven, Hushed: m.hushed[ip]}
}

// stopUngrouped stops answering for addresses that are in no group any more.
func (m *Machine) stopUngrouped() {
	var gone []netip.Addr
	for ip := range m.answering {
		if g, ok := m.byAddress[ip]; !ok || !g.Has(ip) {
			gone = append(gone, ip)
		}
	}
	slices.SortFunc(gone, netip.Addr.Compare)
	for _, ip := range gone {
		m.answer(ip, nil, false)
	}
}

func (m *Machine) reportOwner(g *group, owner lb.NodeName) {
	if g.owner == owner {
		return
	}
	if m.cfg.BalanceInterval > 0 {
		m.balanceAt = m.now.Add(m.cfg.BalanceInterval)
	}
	m.ready.Owners = append(m.ready.Owners, OwnerChange{Key: g.Key, Previous: g.owner, Owner: owner})
	g.owner = owner
}
