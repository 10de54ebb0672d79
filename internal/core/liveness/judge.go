// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"cmp"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

const (
	// slowly: at every that-many-th heartbeat what is not urgent is done.
	slowly = 2
	// slowAfter is for how long a node must be dead to be talked to at every
	// rareRounds-th heartbeat only.
	slowAfter  = time.Minute
	rareRounds = 5 * slowly
	// insistence is how often a node that was declared dead tells all that it
	// is not, and a verdict is told, in case that packets are lost.
	insistence = 3
	// answering is for how many intervals a watcher is answered.
	answering = 5
)

// beat sends what is due at every interval.
func (m *Machine) beat() {
	m.beats++
	m.late -= m.late / gapDecay
	m.strain -= m.strain / strainDecay
	for _, p := range m.watched {
		m.send(p, Packet{Kind: Heartbeat, Routine: !p.heard.IsZero()})
	}
	m.watchers = slices.DeleteFunc(m.watchers, func(p *peer) bool { return m.now.Sub(p.watches) >= answering*m.cfg.Interval })
	for _, p := range m.watchers {
		if p.watch == nil {
			m.send(p, Packet{Kind: Heartbeat, Routine: !p.heard.IsZero()})
		}
	}
	if m.insist > 0 {
		m.insist--
		m.sendAll(Packet{Kind: Alive})
	}
	for _, name := range m.spread {
		if p, known := m.peers[name]; known && !p.up && p.dead > 0 {
			m.sendAll(Packet{Kind: Verdict, Subject: p.name, SubjectIncarnation: p.dead})
		}
	}
	m.spread = nil
	if m.beats%slowly == 0 && len(m.peers) >= len(m.ring) { // somebody is not up
		m.remindAll()
	}
}

// remindAll talks to those who are not up. Those who would watch them do most of
// it, so that the cost does not depend on the number of nodes; and all do less
// when it was for long.
func (m *Machine) remindAll() {
	now := m.beats%rareRounds == 0
	for _, p := range m.sortedPeers() {
		if p.up || !p.speaks || !now && m.now.Sub(p.gone) > slowAfter {
			continue
		}
		watchers := m.ring.add(p.name).neighbours(p.name)
		mine := slices.Contains(watchers, m.cfg.Self)
		switch {
		case p.member && p.dead > 0 && (mine || now):
			m.remind(p, watchers)
		case !p.member && mine:
			m.greet(p)
		}
	}
}

// remind tells a node that it counts as dead here. One that is not will object.
// If it cannot be heard from here, those who hear it will.
func (m *Machine) remind(p *peer, watchers []lb.NodeName) {
	m.announce(p)
	for _, name := range watchers {
		if to := m.peers[name]; to != nil && to.speaks {
			m.send(to, Packet{Kind: Ask, Subject: p.name})
		}
	}
}

// greet sends something to a node that gossip has lost, so that they and this
// node meet soon after the end of a partition. One meeting leads to all others.
func (m *Machine) greet(p *peer) { m.send(p, Packet{Kind: Ask, Subject: p.name}) }

// announce tells a node that it counts as dead.
func (m *Machine) announce(p *peer) {
	p.announced = m.now
	m.send(p, Packet{Kind: Verdict, Subject: p.name, SubjectIncarnation: p.dead})
}

func (m *Machine) sortedPeers() []*peer {
	out := make([]*peer, 0, len(m.peers))
	for _, p := range m.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int { return cmp.Compare(a.name, b.name) })
	return out
}

// judge looks at a watched node.
func (m *Machine) judge(p *peer) {
	w := p.watch
	if !w.silent(m.now, &m.cfg) {
		w.suspected = time.Time{}
		m.probe(p)
		return
	}
	if w.suspected.IsZero() {
		w.suspected, w.again = m.now, m.now
	}
	if !m.now.Before(w.again) {
		m.voice(p)
		w.again = m.now.Add(m.cfg.Repeat)
		if m.now.Sub(w.suspected) > m.cfg.Refute {
			// Somebody vouches for it, or nobody answers at all. A word that will not
			// count for that long is renewed in time.
			w.again = m.now.Add(m.cfg.Interval)
			if ends := w.vouched.Add(w.patience(&m.cfg) - m.cfg.Refute); ends.Before(w.again) && m.now.Before(ends.Add(m.cfg.Refute)) {
				w.again = latest(ends, m.now.Add(m.cfg.Repeat))
			}
		}
	}
	if m.convicted(p) {
		m.condemn(p, p.incarnation)
		m.spread = append(m.spread, p.name)
		m.sendAll(Packet{Kind: Verdict, Subject: p.name, SubjectIncarnation: p.dead})
		m.announce(p)
	}
}

// probe asks a node whose heartbeat is overdue, before it is suspected: it
// answers at once, and two lost heartbeats leave no more than that.
func (m *Machine) probe(p *peer) {
	if w := p.watch; !m.now.Before(w.probe(&m.cfg)) {
		w.probed = m.now
		m.send(p, Packet{Kind: Ask, Subject: p.name})
	}
}

// voice tells the suspect and its other watchers.
func (m *Machine) voice(p *peer) {
	msg := Packet{Kind: Suspect, Subject: p.name, SubjectIncarnation: p.incarnation, Age: m.now.Sub(p.watch.base)}
	m.send(p, msg)
	for _, name := range m.ring.neighbours(p.name) {
		if to := m.peers[name]; to != nil && to.speaks {
			m.send(to, msg)
		}
	}
}

// convicted reports whether the verdict on a suspect can be passed.
func (m *Machine) convicted(p *peer) bool {
	w := p.watch
	asked := m.now.Sub(w.suspected)
	if asked < m.cfg.Refute || m.now.Sub(w.vouched) < w.patience(&m.cfg) {
		return false
	}
	for name := range w.votes { // any one will do
		if w.votedLately(name, m.now, &m.cfg) {
			return true
		}
	}
	return len(m.ring) == 2 || asked >= m.cfg.Refute+m.cfg.Lone
}

// condemn makes a node dead in one of its incarnations.
func (m *Machine) condemn(p *peer, incarnation uint64) {
	p.dead = max(p.dead, incarnation, 1)
	p.condemned = m.now
	m.setDown(p)
}

// revive ends a verdict.
func (m *Machine) revive(p *peer) {
	p.pardoned, p.revived = p.dead, m.now
	p.dead = 0
	if p.member && !p.up {
		m.setUp(p)
		m.ready.Return = append(m.ready.Return, p.name)
	}
}

// Receive takes a packet whose sender is certain. It reports whether the packet
// was of use: one that is old, repeated, or from nobody known, is not.
func (m *Machine) Receive(pk Packet) bool { return m.ReceiveLate(pk, 0) }

// ReceiveLate takes a packet that arrived some time ago.
func (m *Machine) ReceiveLate(pk Packet, age time.Duration) bool {
	at := m.now.Add(-age)
	p, known := m.peers[pk.From]
	if !known || pk.To != m.cfg.Self || pk.From == m.cfg.Self {
		return false
	}
	if pk.Echo > m.cfg.Life {
		m.outlive(pk.Echo)
	}
	if pk.Life < p.life {
		// A recording, or its clock was set back before it started. The answer
		// tells it which life it has to outdo.
		m.send(p, Packet{Kind: Heartbeat})
		return false
	}
	if pk.Life > p.life {
		m.meet(p, pk.Life)
	}
	if !p.fresh(pk.Count) {
		return false
	}
	if pk.Watching {
		p.watches = latest(p.watches, at)
		if !slices.Contains(m.watchers, p) {
			m.watchers = append(m.watchers, p)
		}
	}
	if pk.Echo != m.cfg.Life {
		// It does not know this life yet, so this may be a recording. The
		// answer tells it.
		m.send(p, Packet{Kind: Heartbeat})
		return true
	}
	m.hear(p, &pk, at)
	m.heed(p, &pk)
	return true
}

// outlive makes this life later than a former one that somebody remembers:
// nothing that this node says would count otherwise.
func (m *Machine) outlive(former uint64) {
	m.cfg.Life = former + 1
	m.incarnation = max(m.incarnation, m.cfg.Life)
}

// meet begins a conversation with a new life of a node.
func (m *Machine) meet(p *peer, life uint64) {
	p.conversation = conversation{life: life}
	if p.watch != nil {
		p.watch.base = latest(p.watch.base, m.now)
	}
}

// hear takes what every packet shows.
func (m *Machine) hear(p *peer, pk *Packet, at time.Time) {
	first := p.heard.IsZero()
	p.heard, m.heard, m.listened = latest(p.heard, at), latest(m.heard, at), latest(m.listened, at)
	if !p.member && !p.up && m.now.Sub(p.rejoined) >= m.cfg.Silence {
		p.rejoined = m.now
		m.ready.Rejoin = append(m.ready.Rejoin, p.name)
	}
	p.incarnation = max(p.incarnation, pk.Incarnation)
	m.note(p, pk.Record)
	if pk.Deaf && len(m.ring) > 2 {
		return // it is of no use
	}
	p.useful = latest(p.useful, at)
	p.late = pk.Late
	if p.watch != nil {
		p.watch.late = p.late
		p.watch.hear(at)
	}
	if p.dead > 0 && p.incarnation > p.dead {
		m.revive(p)
	} else if p.dead > 0 && p.member && m.now.Sub(p.announced) >= m.cfg.Repeat {
		m.announce(p)
	}
	if first {
		m.send(p, Packet{Kind: Alive}) // only now does it know that this is no recording
		m.brief(p)
	}
}

// note takes which record a node says it has published. Within a life versions
// only grow, and packets may come in another order.
func (m *Machine) note(p *peer, record uint64) {
	p.record = max(p.record, record)
	if p.record != p.told {
		p.told = p.record
		m.ready.Records = append(m.ready.Records, Record{Node: p.name, Version: p.record})
	}
}

// brief tells a node that has just come which others are dead: gossip may take
// seconds.
func (m *Machine) brief(to *peer) {
	for _, p := range m.sortedPeers() {
		if p.dead > 0 && p.member && p != to {
			m.send(to, Packet{Kind: Verdict, Subject: p.name, SubjectIncarnation: p.dead})
		}
	}
}

// heed takes what a packet says of a third node, or of this one.
func (m *Machine) heed(from *peer, pk *Packet) {
	if pk.Subject == m.cfg.Self {
		m.object(from, pk)
		return
	}
	p, known := m.peers[pk.Subject]
	if !known {
		return
	}
	switch pk.Kind {
	case Suspect:
		if p.watch != nil {
			p.watch.votes[from.name] = m.now
		}
		m.vouch(from, p)
	case Ask:
		m.vouch(from, p)
		if p.dead > 0 && !p.up {
			m.send(from, Packet{Kind: Verdict, Subject: p.name, SubjectIncarnation: p.dead})
		}
	case Vouch:
		m.believe(p, pk.Age)
	case Verdict:
		m.accept(from, p, pk.SubjectIncarnation)
	case Heartbeat, Alive:
	}
}

// object answers what is said of this node.
func (m *Machine) object(from *peer, pk *Packet) {
	if pk.Kind == Verdict && pk.SubjectIncarnation >= m.incarnation {
		m.incarnation = pk.SubjectIncarnation + 1
		m.insist = insistence - 1
		m.sendAll(Packet{Kind: Alive})
		if from.up {
			return
		}
	}
	m.send(from, Packet{Kind: Alive})
}

// vouch tells when this node heard another, unless that is long ago.
func (m *Machine) vouch(to, p *peer) {
	age := m.now.Sub(p.useful)
	if !p.up || p.useful.IsZero() || age >= m.cfg.Silence || p.watch != nil && p.watch.silent(m.now, &m.cfg) {
		return
	}
	m.send(to, Packet{Kind: Vouch, Subject: p.name, SubjectIncarnation: p.incarnation, Age: age})
}

// believe takes it that somebody heard a node.
func (m *Machine) believe(p *peer, age time.Duration) {
	if p.watch != nil {
		p.watch.vouched = latest(p.watch.vouched, m.now.Add(-age))
	}
	switch {
	case p.doubted && p.member:
		p.doubted, p.accuser = false, ""
	case p.doubted:
		p.askUntil, p.askAgain = time.Time{}, m.now.Add(2*m.cfg.Silence)
	}
	if p.dead > 0 && m.now.Sub(p.condemned) >= 2*m.cfg.Silence {
		m.revive(p) // somebody hears it long after the verdict, though this node does not
		if p.watch != nil {
			// It lives by that word, which may be the last one, and only for as long as that counts.
			p.watch.base, p.watch.vouched = m.now.Add(-age), m.now.Add(-age)
		}
	}
}

// accept takes a verdict, unless this node knows better. Who watches the node
// judges for himself. Others ask its watchers, or wait for a second verdict: one
// may come from a node that was cut off, and that hears all others again.
func (m *Machine) accept(from, p *peer, incarnation uint64) {
	switch {
	case !p.up:
		if p.dead > 0 {
			p.dead = max(p.dead, incarnation)
		}
	case incarnation < p.incarnation, incarnation <= p.pardoned && m.now.Sub(p.revived) < 4*m.cfg.Silence:
		// The verdict is on a former incarnation, or on one that somebody has heard
		// since. Its author hears that from the node itself, which it keeps telling.
	case p.watch != nil && p.watch.silent(m.now, &m.cfg):
		m.condemn(p, incarnation)
	case !p.useful.IsZero() && m.now.Sub(p.useful) < m.cfg.Silence:
		m.vouch(from, p)
	case p.doubted && p.accuser != "" && p.accuser != from.name:
		m.condemn(p, incarnation)
	case !p.doubted:
		p.doubted, p.accuser, p.accused = true, from.name, incarnation
		p.askUntil, p.askAgain = m.now.Add(2*m.cfg.Refute), m.now
		m.doubted = append(m.doubted, p)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
