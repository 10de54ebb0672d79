// SPDX-License-Identifier: Apache-2.0

// Package heartbeat gives core/liveness a clock, a port and a seal.
//
// Its datagrams share a port with gossip, so that no firewall needs a new rule.
// Each is sealed with the secret of the group. A recorded one is of no use to
// anybody: it counts only for the life of the receiver that it names, and once.
package heartbeat

import (
	"log/slog"
	"net/netip"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// Port sends and receives datagrams. The driver of gossip is one.
type Port interface {
	// WriteDatagram sends; it must not block for long.
	WriteDatagram(b []byte, to netip.AddrPort) error
	// Datagrams that begin with liveness.Magic; others may be among them.
	Datagrams() <-chan liveness.Datagram
	// Poll returns those that begin with liveness.MagicQuiet and have arrived
	// since it was called last. It must not block.
	Poll() []liveness.Datagram
	// Knock makes hosts that were apart learn each other's MAC address.
	Knock(host netip.Addr)
}

// Config is what a Driver is made with.
type Config struct {
	// NodeName is this node's name. Required.
	NodeName lb.NodeName
	// Label keeps clusters that share a network and a secret apart.
	Label string
	// Secrets seal the datagrams. The first one seals, all open. At least one
	// is required.
	Secrets [][]byte
	// Port is required.
	Port Port
	// Logger is required.
	Logger *slog.Logger
}

// Kind tells the events apart.
type Kind uint8

// The kinds of events.
const (
	// Up: Node is alive. If Returned, it was declared dead, and gossip does not
	// know: what was said meanwhile may have passed it or this node by.
	Up Kind = iota + 1
	// Down: Node is dead or has said goodbye (Left).
	Down
	// Found: Node, which gossip has lost, can be reached at Addr.
	Found
	// Record: Node says that the record it has published is of this Version.
	Record
)

// Event is a verdict of the machine.
type Event struct {
	Kind     Kind
	Node     lb.NodeName
	Addr     netip.AddrPort
	Returned bool
	Left     bool
	Version  uint64
}

// Member is a node as gossip knows it.
type Member struct {
	Node lb.NodeName
	Addr netip.AddrPort
	// Heartbeats: it sends and answers them.
	Heartbeats bool
}

// State is what the driver sees and has counted.
type State struct {
	liveness.State
	Counts
}

// Counts of datagrams.
type Counts struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
	// Rejected were not sealed with the secret, could not be read, came from
	// nobody known, or came twice.
	Rejected uint64 `json:"rejected"`
}
