// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"
)

// Machine holds the sessions. It is not safe for concurrent use.
type Machine struct {
	random random
	now    time.Time // as given last
	clock  instant   // what passed since the beginning, without steps back

	sessions map[Key]*session
	byLocal  map[uint32]*session // by our discriminator
	byPeer   map[peer][]*session // in the order of their keys
	queue    queue
	pass     uint64

	batch  Batch
	totals Totals
}

// peer is what a packet that names no discriminator is known by.
type peer struct {
	addr     netip.Addr
	multihop bool
}

// New returns a machine without sessions. The seed decides about discriminators and jitter: two machines should not have
// the same.
func New(seed uint64) *Machine {
	return &Machine{
		random:   random{seed},
		sessions: map[Key]*session{},
		byLocal:  map[uint32]*session{},
		byPeer:   map[peer][]*session{},
	}
}

// advance moves the clock. A step back of the caller's clock counts as no time at all: what was due then is due still.
func (m *Machine) advance(now time.Time) {
	if passed := now.Sub(m.now); !m.now.IsZero() && passed > 0 {
		m.clock = m.clock.add(passed)
	}
	m.now = now
}

// Set takes all wanted sessions. Those that are new begin, those no longer wanted say goodbye and are gone, the others
// change in place: new intervals are agreed on without a break. Of two with the same key the first counts. Repeating a
// Set changes nothing.
func (m *Machine) Set(now time.Time, wanted []Session) {
	m.advance(now)
	m.pass++
	for i := range wanted {
		key := wanted[i].Key.Normal()
		s := m.sessions[key]
		if s == nil {
			s = m.create(key)
		} else if s.pass == m.pass {
			continue
		}
		s.pass = m.pass
		if want := wanted[i].normal(); want != s.want {
			m.change(s, want)
		}
	}
	for _, s := range m.sorted() {
		if s.pass != m.pass {
			m.remove(s)
		}
	}
}

func (m *Machine) sorted() []*session {
	list := make([]*session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *session) int { return a.key.Compare(b.key) })
	return list
}

func (m *Machine) create(key Key) *session {
	local := uint32(m.random.next())
	for local == 0 || m.byLocal[local] != nil {
		local = uint32(m.random.next())
	}
	s := newSession(key, local, m.now)
	m.sessions[key] = s
	m.byLocal[local] = s
	p := peer{key.Peer, key.Multihop}
	m.byPeer[p] = append(m.byPeer[p], s)
	slices.SortFunc(m.byPeer[p], func(a, b *session) int { return b.key.Compare(a.key) }) // those with a Source first
	m.queue.put(s)
	return s
}

func (m *Machine) change(s *session, want Settings) {
	s.want = want
	held := want.AdminDown && s.state != AdminDown
	switch {
	case held:
		m.enter(s, AdminDown, AdministrativelyDown)
	case !want.AdminDown && s.state == AdminDown:
		m.enter(s, Down, NoDiagnostic)
	}
	tell := s.negotiate()
	if s.rxAt != never {
		// If packets are to come less often, the next one may be the first that is late by the old measure.
		s.rxAt = max(s.rxAt, s.heardAt.add(s.detection()))
	}
	m.rearm(s)
	if tell || held && !s.silent() {
		m.transmit(s)
	}
	m.queue.put(s)
}

// remove lets the peer know that the silence to come means nothing (section 6.8.16).
func (m *Machine) remove(s *session) {
	if s.state != AdminDown && !s.silent() {
		s.want.AdminDown = true
		s.state, s.diagnostic = AdminDown, AdministrativelyDown
		s.negotiate()
		m.send(s, false)
	}
	delete(m.sessions, s.key)
	delete(m.byLocal, s.local)
	p := peer{s.key.Peer, s.key.Multihop}
	if rest := slices.DeleteFunc(m.byPeer[p], func(o *session) bool { return o == s }); len(rest) > 0 {
		m.byPeer[p] = rest
	} else {
		delete(m.byPeer, p)
	}
	heap.Remove(&m.queue, s.position)
}

// Step takes a packet that Parse has accepted. A packet that comes while Tick is late counts as if it had come in time:
// that nobody listened for a while says nothing about the peer.
func (m *Machine) Step(now time.Time, in *Arrival) {
	m.advance(now)
	s := m.find(in)
	if s == nil {
		m.totals.Unknown++
		return
	}
	if wrong := s.check(in); wrong != dropNothing {
		s.lastDrop, s.lastTTL = wrong, in.TTL
		s.counters.Dropped++
		return
	}
	s.counters.Received++
	m.receive(s, &in.Packet)
	m.queue.put(s)
}

// Malformed counts a packet that Parse has not accepted.
func (m *Machine) Malformed() { m.totals.Malformed++ }

// find returns the session that a packet belongs to, or nil (section 6.3). A discriminator alone is not enough: somebody
// else could have seen it.
func (m *Machine) find(in *Arrival) *session {
	if local := in.Packet.YourDiscriminator; local != 0 {
		if s := m.byLocal[local]; s != nil && s.key.Peer == in.Source && s.key.Multihop == in.Multihop && s.fits(in) {
			return s
		}
		return nil
	}
	for _, s := range m.byPeer[peer{in.Source, in.Multihop}] {
		if s.fits(in) {
			return s
		}
	}
	return nil
}

func (s *session) fits(in *Arrival) bool {
	return s.key.Device == in.Device &&
		(!s.key.Source.IsValid() || s.key.Source.WithZone("") == in.Destination.WithZone(""))
}

// receive is section 6.8.6 from the point where the session is known.
func (m *Machine) receive(s *session, p *Packet) {
	s.hear(p)
	tell := p.Final && s.answered()
	if s.state == AdminDown {
		m.rearm(s)
		return
	}
	if next := follow(s.state, p.State); next != s.state {
		diagnostic := NoDiagnostic
		if next == Down {
			diagnostic = NeighborDown
		}
		m.enter(s, next, diagnostic)
		s.negotiate()
		tell = true
	}
	s.graced = false
	s.heardAt = m.clock
	s.rxAt = m.clock.add(s.detection())
	m.rearm(s)
	switch {
	case p.Poll && tell:
		// The answer carries the news. Ours to ask is left to the next packet: a packet has one of the two bits.
		m.send(s, true)
		m.sent(s)
	case p.Poll:
		m.send(s, true)
	case tell:
		m.transmit(s)
	}
}

// enter changes the state and says so.
func (m *Machine) enter(s *session, state State, diagnostic Diagnostic) {
	before := s.state
	s.state, s.diagnostic, s.since = state, diagnostic, m.now
	event := Event{Key: s.key, Diagnostic: diagnostic, Remote: s.remoteDiagnostic}
	switch {
	case state == Up:
		event.Kind = CameUp
		s.counters.Ups++
	case before != Up:
		return
	case state == AdminDown || diagnostic == NeighborDown && s.remoteState == AdminDown:
		event.Kind = Released
		s.counters.Downs++
	default:
		event.Kind = Failed
		s.counters.Downs++
	}
	if state != Up {
		s.lastError = event.String()
	}
	m.batch.Events = append(m.batch.Events, event)
}

// rearm adapts the time of the next packet when the interval has changed. A shorter one counts from the last packet on,
// so that the peer, which may rely on it already, does not wait in vain.
func (m *Machine) rearm(s *session) {
	interval := s.pacing()
	if interval == s.interval && (interval == 0) == (s.txAt == never) {
		return
	}
	before := s.interval
	s.interval = interval
	switch {
	case interval == 0:
		s.txAt = never
	case s.txAt != never && interval > before && s.remoteMinRx <= before:
		// It was our wish to send less often. The next packet goes out in the old rhythm all the same: should an older
		// packet have been overtaken on the way, it makes the peer believe in the new rhythm again.
	default:
		s.txAt = max(m.clock, s.sentAt.add(m.jitter(s)))
	}
}

// jitter takes between 0 and 25 % off the interval, and at least 10 % if the peer is not to miss a single packet
// (section 6.8.7).
func (m *Machine) jitter(s *session) time.Duration {
	least, most := s.interval*3/4, s.interval
	if s.want.Multiplier == 1 {
		most = s.interval * 9 / 10
	}
	return least + time.Duration(m.random.next()%uint64(most-least+1))
}

func (m *Machine) send(s *session, final bool) {
	p := s.packet(final)
	s.asked = s.asked || p.Poll
	s.counters.Sent++
	m.batch.Send = append(m.batch.Send, Outgoing{s.key, p})
}

// transmit sends a packet in its turn, or one that takes the place of the next in turn.
func (m *Machine) transmit(s *session) {
	m.send(s, false)
	m.sent(s)
}

func (m *Machine) sent(s *session) {
	s.sentAt = m.clock
	if s.interval > 0 {
		s.txAt = m.clock.add(m.jitter(s))
	}
}

// Unsent says that a packet that Take returned could not be sent. That is as if it were lost on the way.
func (m *Machine) Unsent(key Key) {
	if s := m.sessions[key]; s != nil {
		s.counters.Sent--
	}
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) {
	m.advance(now)
	for len(m.queue) > 0 && m.queue[0].due() <= m.clock {
		s := m.queue[0]
		if s.rxAt <= m.clock {
			m.expire(s)
		}
		if s.txAt <= m.clock {
			m.transmit(s)
		}
		m.queue.put(s)
	}
}

// expire handles a peer that was silent for the detection time (section 6.8.4).
func (m *Machine) expire(s *session) {
	// If Tick comes late by more than the peer's interval, this process was stopped, and may have lost what came in the
	// meantime. The detection time begins anew, once.
	if !s.graced && m.clock >= s.rxAt.add(s.peerPacing()) {
		s.graced = true
		s.rxAt = m.clock.add(s.detection())
		return
	}
	was := s.state
	if was == Init || was == Up {
		m.enter(s, Down, DetectionExpired)
	}
	s.forget()
	s.negotiate()
	m.rearm(s)
	if was == Up && !s.silent() {
		m.transmit(s)
	}
}

// Next returns when Tick wants to be called; the zero time: not before something else happens.
func (m *Machine) Next() time.Time {
	if len(m.queue) == 0 || m.queue[0].due() == never {
		return time.Time{}
	}
	return m.now.Add(time.Duration(m.queue[0].due() - m.clock))
}

// Take returns what is to be done. It is valid until the next call of another method.
func (m *Machine) Take() Batch {
	b := m.batch
	m.batch.Send, m.batch.Events = m.batch.Send[:0], m.batch.Events[:0]
	return b
}

// State returns all sessions in the order of their keys, and what belongs to none.
func (m *Machine) State() ([]Status, Totals) {
	list := make([]Status, 0, len(m.sessions))
	for _, s := range m.sorted() {
		list = append(list, s.status())
	}
	return list, m.totals
}
