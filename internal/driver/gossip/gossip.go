// SPDX-License-Identifier: Apache-2.0

// Package gossip finds the living speakers and carries their messages.
//
// It is the only importer of memberlist. It knows nothing of what the messages
// say: core/ownership writes and reads them.
package gossip

import (
	"log/slog"
	"net/netip"

	"github.com/heraldlb/herald/internal/core/lb"
)

// DefaultPort is the port of MetalLB's speakers, kept so that firewalls need
// no change.
const DefaultPort = 7946

// Config is what a Driver is made with.
type Config struct {
	// NodeName is this member's name. Required.
	NodeName lb.NodeName
	// BindAddr to listen on and to tell others. The zero value listens
	// everywhere and tells others an address of this host.
	BindAddr netip.Addr
	// BindPort, UDP and TCP. 0: any free port (tests); see State.
	BindPort uint16
	// Label keeps clusters that share a network apart.
	Label string
	// Secrets encrypt the traffic. The first one encrypts, all decrypt. At
	// least one is required, unless Plaintext is set.
	Secrets [][]byte
	// Plaintext allows running without a secret. For tests.
	Plaintext bool
	// Logger is required.
	Logger *slog.Logger
}

// Wanted is what the driver should do.
type Wanted struct {
	// Peers to be joined with, other than this node. A peer that is not a
	// member is tried again and again.
	Peers []netip.AddrPort
	// State is this node's full state. It is exchanged for another's when two
	// nodes join, and now and then.
	State []byte
	// Record is the version of this node's own record in State. Gossip has no use
	// for it; heartbeats tell the others.
	Record uint64
}

// Kind tells the events apart.
type Kind uint8

// The kinds of events.
const (
	// MemberUp: Node is alive, at Addr.
	MemberUp Kind = iota + 1
	// MemberDown: Node is dead, or has left on purpose (Left).
	MemberDown
	// Message: some member has sent Data to all.
	Message
	// FullState: Data is the full state of some member.
	FullState
	// MemberRecord: Node says that its newest record is of this Version. Gossip
	// itself never tells that; heartbeats do.
	MemberRecord
)

// Event is something that happened in the group of members. The Data of a
// message or state is the consumer's to keep.
type Event struct {
	Kind Kind
	Node lb.NodeName
	Addr netip.AddrPort
	Left bool
	// Heartbeats: the member that is up sends and answers heartbeats.
	Heartbeats bool
	Data       []byte
	Version    uint64
}

// Member is a living member.
type Member struct {
	Node lb.NodeName
	Addr netip.AddrPort
}

// State is what the driver sees.
type State struct {
	// Addr is what other members know this one by; zero before Run.
	Addr netip.AddrPort
	// Members alive, without this one, by name.
	Members []Member
	// Joined: full states have been exchanged with at least one member.
	Joined bool
	// Health is 0 when this node meets the timing it should; higher is worse.
	Health int
	// Dropped counts messages and datagrams lost because nobody took them in
	// time.
	Dropped uint64
	// Error is the last failure to join a peer, in words; empty when all are joined.
	Error string
}
