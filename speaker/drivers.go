// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/links"
)

// responder answers ARP and NDP (internal/driver/rawl2).
type responder interface {
	// Set gives the whole wanted state. It is idempotent and returns at once:
	// it is on the fail-over path.
	Set(l2.Wanted)
	// Lease lets it answer until then; later only if this was called again.
	Lease(until time.Time)
	// Started receives those addresses that a Set has added and that are answered
	// for and announced by now.
	Started() <-chan []netip.Addr
	// State returns what is answered for, and what was noticed.
	State() l2.State
	// Changed is signalled when a conflict or an error came or went.
	Changed() <-chan struct{}
}

// messenger finds the living speakers and carries messages between them
// (internal/driver/gossip).
type messenger interface {
	// Set gives the whole wanted state; it never blocks.
	Set(gossip.Wanted)
	// Send gives a message to all members; it never blocks.
	Send([]byte)
	// SendTo gives a message to one member; it never blocks.
	SendTo(lb.NodeName, []byte)
	// Resync exchanges full states soon.
	Resync()
	// Events is closed when the messenger ends.
	Events() <-chan gossip.Event
}

// linkSource knows the network interfaces (internal/driver/links).
type linkSource interface {
	// Snapshot returns the links sorted by name.
	Snapshot() []links.Link
	// Changed is signalled after a link or an address changed.
	Changed() <-chan struct{}
}

// driver is the part that all of them have in common.
type driver interface {
	// Run works until ctx ends.
	Run(ctx context.Context) error
}

// devices are the drivers as the rest sees them.
type devices struct {
	messages messenger
	network  linkSource
	answers  responder
	routers  sessions
	failures bfdSessions
	ports    healthPorts
	excluded exclusions
}
