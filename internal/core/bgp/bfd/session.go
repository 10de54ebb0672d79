// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"time"
)

// slowest pace of a session that is not Up: it must not send more often (RFC 5880 section 6.8.3).
const slow = time.Second

// instant is a time as the machine counts it: it never goes back.
type instant time.Duration

// never is later than every other instant.
const never = instant(1<<63 - 1)

func (i instant) add(d time.Duration) instant { return i + instant(d) }

// pace is a pair of intervals: bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
type pace struct{ tx, rx time.Duration }

// session holds the variables of RFC 5880 section 6.8.1.
type session struct {
	key  Key
	want Settings

	state             State
	diagnostic        Diagnostic
	local             uint32 // discriminator
	since             time.Time
	lastError         string
	lastDrop          drop
	lastTTL           uint8
	counters          Counters
	pass              uint64 // of the last Set that wanted it
	position          int    // in the queue
	advertised, inUse pace
	// poll: the peer has been, or will be, asked whether it knows the advertised intervals. asked: it has been.
	poll, asked bool

	// What the peer said last. remote is its discriminator; 0: it was not heard, or not for the detection time.
	remote           uint32
	remoteState      State
	remoteDiagnostic Diagnostic
	remoteMinTx      time.Duration
	remoteMinRx      time.Duration
	remoteMultiplier uint8
	remoteDemand     bool

	interval time.Duration // between our packets, before jitter; 0: none are sent
	sentAt   instant       // the last one
	txAt     instant       // the next one
	heardAt  instant       // the peer
	rxAt     instant       // when it has been silent for too long
	graced   bool          // rxAt was put off since the peer was heard last
}

func newSession(key Key, discriminator uint32, now time.Time) *session {
	return &session{
		key: key, local: discriminator, since: now, position: unqueued, sentAt: -never,
		state: Down, txAt: never, rxAt: never, remoteState: Down, remoteMinRx: time.Microsecond,
	}
}

// target is the pace to advertise in the present state.
func (s *session) target() pace {
	p := pace{s.want.Transmit, s.want.Receive}
	if s.state != Up {
		p.tx = max(p.tx, slow)
	}
	return p
}

// negotiate advertises the wanted pace (section 6.8.3). It reports whether the peer should be told at once.
//
// Only a session that is Up polls. Before that there is no interval that must wait until the peer knows of it.
func (s *session) negotiate() bool {
	t := s.target()
	switch {
	case s.state != Up:
		s.advertised, s.inUse = t, t
		s.poll = false
		return false
	case s.poll || s.advertised == t:
		return false // one question at a time
	}
	s.advertised = t
	// Until the peer has answered it may expect our packets as often as before, and send its own as seldom as before.
	s.inUse = pace{tx: min(s.inUse.tx, t.tx), rx: max(s.inUse.rx, t.rx)}
	s.poll, s.asked = true, false
	return true
}

// answered handles the Final bit: the peer knows the advertised intervals.
func (s *session) answered() (tell bool) {
	if !s.poll || !s.asked {
		return false
	}
	s.poll, s.inUse = false, s.advertised
	return s.negotiate()
}

// pacing is the interval at which packets must be sent now (section 6.8.7); 0: none must be.
func (s *session) pacing() time.Duration {
	switch {
	case s.silent(), s.remoteMinRx == 0:
		return 0
	case s.remoteDemand && s.state == Up && s.remoteState == Up && !s.poll:
		return 0
	}
	return max(s.inUse.tx, s.remoteMinRx)
}

// silent: a passive system does not speak first.
func (s *session) silent() bool { return s.want.Passive && s.remote == 0 }

// peerPacing is the interval at which the peer sends at least.
func (s *session) peerPacing() time.Duration { return max(s.inUse.rx, s.remoteMinTx) }

// detection is how long the peer may be silent (section 6.8.4).
func (s *session) detection() time.Duration {
	if s.remote == 0 {
		return 0
	}
	return time.Duration(s.remoteMultiplier) * s.peerPacing()
}

// hear takes over what the peer says of itself (section 6.8.6).
func (s *session) hear(p *Packet) {
	s.remote = p.MyDiscriminator
	s.remoteState, s.remoteDiagnostic = p.State, p.Diagnostic
	s.remoteDemand = p.Demand
	s.remoteMinRx, s.remoteMinTx = interval(p.RequiredMinRx), interval(p.DesiredMinTx)
	s.remoteMultiplier = p.Multiplier
}

// forget: what the peer said is too old to be true.
func (s *session) forget() {
	s.remote, s.remoteState, s.remoteDemand = 0, Down, false
	s.remoteMinRx, s.rxAt = time.Microsecond, never
}

// follow returns the state that a session comes to when its peer says it is in a state (section 6.8.6).
func follow(local, remote State) State {
	switch {
	case local == AdminDown:
		return AdminDown
	case remote == AdminDown:
		return Down
	case local == Down && remote == Down:
		return Init
	case local == Down && remote == Init:
		return Up
	case local == Init && (remote == Init || remote == Up):
		return Up
	case local == Up && remote == Down:
		return Down
	default:
		return local
	}
}

// packet is what to tell the peer.
func (s *session) packet(final bool) Packet {
	// RequiredMinEchoRx stays 0: the node's own forwarding would have to return the peer's echo packets (RFC 5881 section
	// 4), and a firewall or a sysctl in its way would take the session down.
	return Packet{
		State: s.state, Diagnostic: s.diagnostic, Final: final, Poll: s.poll && !final, Multiplier: s.want.Multiplier,
		MyDiscriminator: s.local, YourDiscriminator: s.remote,
		DesiredMinTx: micros(s.advertised.tx), RequiredMinRx: micros(s.advertised.rx),
	}
}

// drop is what is wrong with a packet that came from the peer.
type drop uint8

const (
	dropNothing drop = iota
	dropTTL
	dropAuth
)

// check says what is wrong with a packet for this session.
func (s *session) check(in *Arrival) drop {
	least := uint8(255) // RFC 5881 section 5
	if s.key.Multihop {
		least = s.want.MinTTL
	}
	switch {
	case in.TTL < least:
		return dropTTL
	case in.Packet.Auth:
		return dropAuth
	default:
		return dropNothing
	}
}

// dropped says in words what was wrong last.
func (s *session) dropped() string {
	switch {
	case s.lastDrop == dropTTL && s.key.Multihop:
		return fmt.Sprintf("packet with TTL %d, at least %d (minimumTtl) is wanted", s.lastTTL, s.want.MinTTL)
	case s.lastDrop == dropTTL:
		return fmt.Sprintf("packet with TTL %d, a neighbour sends 255: is there a hop in between?", s.lastTTL)
	case s.lastDrop == dropAuth:
		return "packet with authentication, which is not supported"
	default:
		return ""
	}
}

// notice says in words what does not work as set.
func (s *session) notice() string {
	if s.want.Echo {
		return "echoMode has no effect: the router is asked to send no echo packets, and this node sends none; " +
			"transmitInterval, receiveInterval and detectMultiplier decide how soon a failure is noticed"
	}
	return ""
}

func (s *session) status() Status {
	return Status{
		Key: s.key, State: s.state, Diagnostic: s.diagnostic, Remote: s.remoteState, RemoteDiagnostic: s.remoteDiagnostic,
		Since: s.since, TransmitInterval: s.interval, DetectionTime: s.detection(),
		LastError: s.lastError, LastDrop: s.dropped(), Notice: s.notice(), Counters: s.counters,
	}
}
