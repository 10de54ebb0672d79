// SPDX-License-Identifier: Apache-2.0

// Package bfd notices within a fraction of a second that a router, or the way to it, is gone (RFC 5880, asynchronous
// mode; RFC 5881 for neighbours, RFC 5883 for routers further away).
//
//	Set(wanted sessions) ─┐
//	Step(time, packet)   ─┼─> Machine ─> Take: packets to send, events      one session per router:
//	Tick(time)           ─┘      └─────> Next: when Tick wants to be called    rules of RFC 5880 section 6.8
//
// Both sides send packets at a pace that they agree on. Each packet says in which state its sender is and whom it
// hears, so both know when packets flow in both directions: then the session is Up. When nothing has come for the
// detection time (the peer's multiplier times the agreed interval), it is Down, and whoever relies on it hears of that.
//
// The machine reads no clock and owns no socket. It has sessions only with routers that were Set: a packet from anybody
// else costs a look into a map and changes nothing.
package bfd

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Key says between whom a session is. It is comparable. Another key is another session.
type Key struct {
	// Peer is the router. It has a zone if it is link-local.
	Peer netip.Addr
	// Source is the local address; invalid: the kernel's choice.
	Source netip.Addr
	// Device is the VRF device (or interface) that packets must use; empty: any.
	Device string
	// Multihop: the router is not a neighbour (RFC 5883).
	Multihop bool
}

// String names the session for logs.
func (k Key) String() string {
	s := k.Peer.String()
	if k.Source.IsValid() {
		s += " from " + k.Source.String()
	}
	if k.Device != "" {
		s += " on " + k.Device
	}
	return s
}

// Normal returns the key by which a session is known afterwards: an IPv4 address that is written as an IPv6 address is an
// IPv4 address.
func (k Key) Normal() Key {
	k.Peer, k.Source = k.Peer.Unmap(), k.Source.Unmap()
	return k
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	hops := 0
	if k.Multihop != o.Multihop {
		hops = -1
		if k.Multihop {
			hops = 1
		}
	}
	return cmp.Or(k.Peer.Compare(o.Peer), k.Source.Compare(o.Source), strings.Compare(k.Device, o.Device), hops)
}

// Settings of a session. All of them can change while it is up.
type Settings struct {
	// Transmit is the shortest interval at which to send, Receive that at which packets are welcome.
	Transmit, Receive time.Duration
	// Multiplier is how many of our packets in a row the peer may miss.
	Multiplier uint8
	// MinTTL is the least TTL of packets of a multihop session. Those of a neighbour must have 255 (RFC 5881 section 5).
	MinTTL uint8
	// Echo: echo packets are wanted (RFC 5880 section 6.4). There are none: the peer is asked not to send any, and Notice
	// says why.
	Echo bool
	// Passive: say nothing until the peer was heard.
	Passive bool
	// AdminDown holds the session down, and lets the peer know that nothing is wrong.
	AdminDown bool
}

// Defaults of a BFDProfile, and its limits.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultMultiplier = 3
	DefaultMinTTL     = 254

	minInterval = 10 * time.Millisecond
	maxInterval = 60 * time.Second
)

// SettingsOf translates a profile. What it leaves out, or what is out of bounds, becomes what the API says instead.
func SettingsOf(p *lb.BFDProfile) Settings {
	s := Settings{
		Transmit:   p.TransmitInterval,
		Receive:    p.ReceiveInterval,
		Multiplier: p.DetectMultiplier,
		MinTTL:     p.MinimumTTL,
		Echo:       p.EchoMode,
		Passive:    p.Passive,
	}
	return s.normal()
}

// normal returns settings with which the machine works.
func (s Settings) normal() Settings {
	bound := func(d time.Duration) time.Duration {
		return min(max(cmp.Or(d, DefaultInterval), minInterval), maxInterval)
	}
	s.Transmit, s.Receive = bound(s.Transmit), bound(s.Receive)
	s.Multiplier = cmp.Or(s.Multiplier, DefaultMultiplier)
	s.MinTTL = cmp.Or(s.MinTTL, DefaultMinTTL)
	return s
}

// Session is a wanted session.
type Session struct {
	Key Key
	Settings
}

// Kind is what an event says.
type Kind uint8

// Kinds of events.
const (
	// CameUp: packets flow in both directions.
	CameUp Kind = iota + 1
	// Failed: what relies on the way to this peer should stop doing so at once.
	Failed
	// Released: the session is down because somebody, the peer or we, was told to hold it down. Nothing is wrong with the
	// way: what relies on it should go on (RFC 5882 section 4.2).
	Released
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	switch k {
	case CameUp:
		return "up"
	case Failed:
		return "failed"
	case Released:
		return "released"
	default:
		return "unknown"
	}
}

// Event is a change of a session that matters to others.
type Event struct {
	Key  Key
	Kind Kind
	// Diagnostic is why we are down, Remote what the peer said last.
	Diagnostic, Remote Diagnostic
}

// String says it in words.
func (e Event) String() string {
	switch e.Kind {
	case CameUp:
		return "BFD session is up"
	case Released:
		if e.Diagnostic == AdministrativelyDown {
			return "BFD session is held down by this node"
		}
		return "BFD session is held down by the router"
	default:
		return why(e.Diagnostic, e.Remote)
	}
}

// why says in words why a session went down.
func why(local, remote Diagnostic) string {
	switch {
	case local == DetectionExpired:
		return "no BFD packet came from the router for the detection time"
	case remote == DetectionExpired:
		return "router hears no BFD packets of this node"
	case remote == PathDown || remote == ConcatenatedPathDown || remote == ReverseConcatenatedPathDown:
		return "router says that the path is down"
	case remote == ForwardingPlaneReset:
		return "router has reset its forwarding"
	default:
		return "router says that its BFD session is down: " + remote.String()
	}
}

// Outgoing is a packet to send.
type Outgoing struct {
	Key    Key
	Packet Packet
}

// Batch is what is to be done. First send, then tell.
type Batch struct {
	Send   []Outgoing
	Events []Event
}

// Arrival is a received packet and how it came.
type Arrival struct {
	// Source has the zone of the interface that the packet came in by if it is link-local.
	Source, Destination netip.Addr
	// Device is that of the socket; empty for one that listens everywhere.
	Device   string
	Multihop bool
	TTL      uint8
	Packet   Packet
}

// Counters of a session since it was wanted first.
type Counters struct {
	Received, Sent uint64
	Ups, Downs     uint64
	Dropped        uint64 // came from the peer and were wrong: Status.LastDrop says how
}

// Status is the present state of a session.
type Status struct {
	Key        Key
	State      State
	Diagnostic Diagnostic // why it was last down
	// Remote is what the peer said last.
	Remote           State
	RemoteDiagnostic Diagnostic
	// Since is when State began.
	Since time.Time
	// TransmitInterval is the present one, before jitter.
	TransmitInterval time.Duration
	// DetectionTime is how long the peer may be silent; 0: it was never heard.
	DetectionTime time.Duration
	// LastError says in words why the session was last down; empty: it never was.
	LastError string
	// LastDrop says in words what was wrong with a packet from the peer; empty: nothing ever was.
	LastDrop string
	// Notice says what does not work as set, without keeping the session down.
	Notice string
	Counters
}

// Totals count packets that belong to no session.
type Totals struct {
	Unknown   uint64 // from nobody we hold a session with
	Malformed uint64 // not BFD
}
