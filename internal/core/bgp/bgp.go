// SPDX-License-Identifier: Apache-2.0

// Package bgp decides what a node says to its routers.
//
//	announce.Result --Plan--> Wanted: one Session per router, each with its Routes
//	                            |
//	                            v
//	Message in, time --> Machine (one connection) --> messages out, or the end and why
//
// Plan is a planner. Machine is the state machine of RFC 4271, section 8, cut
// down to what a node needs that only speaks: the connection exists already
// (the transport dials it), routes that the peer sends are not looked at, and
// the difference between the routes that are wanted and those that the peer
// has is sent whenever there is one.
//
// Bytes are not made here: driver/gobgp turns messages into bytes and back.
package bgp

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Wanted is everything that a node wants of BGP.
type Wanted struct {
	Sessions []Session // by Peer
	// Services are those that routes are announced for, by Service.
	Services []ServicePeers
}

// ServicePeers says which routers get routes for a Service.
type ServicePeers struct {
	Service   lb.ServiceKey
	Addresses []netip.Addr // sorted; each has a route on some session
	// Uncarried are addresses of a family that no session carries, sorted.
	Uncarried []netip.Addr
	Peers     []string // sorted; may be empty: no router wants them
}

// Session is one wanted session with a router, with all that the node's own
// state decides already filled in.
type Session struct {
	// Peer is the name of the BGPPeer object.
	Peer string
	// Key cannot change while a session is up: another key is another session.
	Key Key
	// Timers count from the next connection on, except Keepalive and Connect,
	// which count at once.
	Timers Timers
	// BFD is nil without BFD. MultiHop is set when the router may be several
	// hops away although it is of another AS.
	BFD      *lb.BFDProfile
	MultiHop bool
	// Problem says, when not empty, why there must be no connection (a Secret
	// is missing, for example).
	Problem string
	// NextHop4 and NextHop6 are addresses of the node, for routes of a family
	// that the session's own interface has no address of. May be invalid.
	NextHop4, NextHop6 netip.Addr
	// Routes to announce, by Prefix.
	Routes []Route
}

// Key is what a session is made of. It is comparable.
type Key struct {
	Endpoint
	// LocalAS is the AS number that the peer sees.
	LocalAS uint32
	// PeerAS is what the peer must be; 0: see Dynamic.
	PeerAS uint32
	// Dynamic, if PeerAS is 0, is "internal" (the peer must have LocalAS) or
	// "external" (it must not).
	Dynamic  string
	RouterID netip.Addr
	// V4 and V6 are the families of routes to announce.
	V4, V6 bool
	// GracefulRestart asks the router to keep the routes while the speaker
	// restarts (RFC 4724).
	GracefulRestart bool
}

// Endpoint is how a router is reached. It is comparable.
type Endpoint struct {
	// Address of the router; it has a zone if it is link-local. Invalid: the
	// router is found behind Interface.
	Address   netip.Addr
	Interface string
	Port      uint16
	// Source is the local address; invalid: the kernel's choice.
	Source netip.Addr
	// Device is the VRF device to bind to; empty: none.
	Device string
	// Password of TCP-MD5 (RFC 2385); empty: none.
	Password Password
}

// String names the router.
func (e Endpoint) String() string {
	if !e.Address.IsValid() {
		return "the router behind " + e.Interface
	}
	return e.Address.String()
}

// Name tells routers apart: address and port, or the interface.
func (e Endpoint) Name() string {
	if !e.Address.IsValid() {
		return e.Interface
	}
	return netip.AddrPortFrom(e.Address, e.Port).String()
}

// Password is a text that is never shown.
type Password string

const hidden = "(not shown)"

// String implements fmt.Stringer.
func (p Password) String() string {
	if p == "" {
		return ""
	}
	return hidden
}

// GoString implements fmt.GoStringer.
func (p Password) GoString() string { return p.String() }

// MarshalJSON implements json.Marshaler.
func (p Password) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// Timers of a session.
type Timers struct {
	Hold      time.Duration // proposed; 0: none
	Keepalive time.Duration
	Connect   time.Duration // longest time between two attempts; 0: the default
}

// Route is one prefix and what is said about it. The lists are sorted and must
// not be changed.
type Route struct {
	Prefix netip.Prefix
	Attributes
}

// Attributes are what routes may have in common.
type Attributes struct {
	LocalPref   uint32 // shown to peers of the same AS only
	Communities []uint32
	Large       []lb.LargeCommunity
	// Bandwidth in bytes per second, for the link bandwidth community; 0: none.
	Bandwidth float32
}

// Equal reports whether two routes say the same.
func (a Attributes) Equal(b Attributes) bool { return a.compare(b) == 0 }

func (a Attributes) compare(b Attributes) int {
	return cmp.Or(
		cmp.Compare(a.LocalPref, b.LocalPref),
		slices.Compare(a.Communities, b.Communities),
		slices.CompareFunc(a.Large, b.Large, compareLarge),
		cmp.Compare(a.Bandwidth, b.Bandwidth),
	)
}

func compareLarge(a, b lb.LargeCommunity) int {
	return cmp.Or(cmp.Compare(a.Global, b.Global), cmp.Compare(a.Local1, b.Local1), cmp.Compare(a.Local2, b.Local2))
}

// Well-known numbers.
const (
	// GracefulShutdown is the community of RFC 8326.
	GracefulShutdown uint32 = 65535 << 16
	// transAS stands for AS numbers that do not fit into two bytes (RFC 6793).
	transAS = 23456
)

// Find returns the session with a peer.
func (w *Wanted) Find(peer string) (*Session, bool) {
	i, ok := slices.BinarySearchFunc(w.Sessions, peer, func(s Session, p string) int { return strings.Compare(s.Peer, p) })
	if !ok {
		return nil, false
	}
	return &w.Sessions[i], true
}

// State is a state of RFC 4271, section 8.2.2.
type State string

// The states. Connect is the time of dialling, Active that between two
// attempts; Idle means that there must be no connection.
const (
	Idle        State = "Idle"
	Connect     State = "Connect"
	Active      State = "Active"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
)

// SessionState is what became of a wanted session.
type SessionState struct {
	Peer  string
	State State
	Since time.Time
	// Address of the router as found, with its zone.
	Address netip.Addr
	VRF     string
	// Router is the name of the endpoint.
	Router string
	// LastError says in words why the session was last closed or cannot be
	// opened; empty: it never failed.
	LastError string
	// Notice says, of an established session, what does not work on it.
	Notice string
	// Prefixes that the router has been sent and not been asked to forget.
	Prefixes int
	Counters Counters
}

// Counters count messages since the session was first wanted.
type Counters struct {
	OpensSent, OpensReceived           uint64
	KeepalivesSent, KeepalivesReceived uint64
	NotificationsSent                  uint64
	UpdatesSent, UpdatesReceived       uint64
	RefreshesSent, RefreshesReceived   uint64
	TotalSent, TotalReceived           uint64
}
