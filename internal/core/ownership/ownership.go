// SPDX-License-Identifier: Apache-2.0

// Package ownership decides over time who answers for an address.
//
// It is a machine: what happened and the time are arguments, one batch of work
// (Ready) comes out. It reads no clock, blocks on nothing and keeps no
// goroutine, so a whole cluster of machines runs in one fast test (core/sim).
// One goroutine owns a Machine.
//
//	announce.Plan -----SetGroups-->  +---------+
//	links ---------SetInterfaces-->  |         | --Ready.Stop, Start--> L2 responder
//	gossip --Up, Down, Receive---->  | Machine | --Ready.Send, State--> gossip
//	clock ------------------Tick-->  |         | --Ready.Owners-------> reports
//	clock <-----------------Next---  +---------+
//
// The state that nodes share is a table of claims, address -> (epoch, node). Of
// two claims on one address the higher epoch stands; with equal epochs, the
// node that comes first in hash order. Merging tables therefore gives the same
// result in any order and however often, and lost, repeated and late messages
// do no harm once any later one arrives.
//
// A node also publishes a record of itself: its usable interfaces and its MAC
// addresses, under a version that only it raises. A node that has not published
// one cannot own.
//
// A claim on an address that nobody had before is unproven until its owner has
// announced the address without finding it in use: its successors probe too.
//
// The owner of a group is its claimant while that is alive and eligible, also
// when better nodes join: established connections live in its conntrack table.
// Else it is the first eligible node by preference score and hash, which every
// node computes alike without a message; that node claims with a higher epoch
// and answers.
//
// A claim that was just learned is believed for a moment although its node seems
// dead or no candidate: after a join, a partition or a change of objects, the
// claim can arrive earlier than the news that explain it.
//
// # Planned hand-over
//
// An owner that can still answer, but leaves, is no candidate any more, or was
// asked to move the address, does not just stop:
//
//	owner                            successor
//	  |---- offer: claim of epoch 7 ---->|   named by the order, or by the wish
//	  |                                  |   starts to answer, and announces
//	  |<--- claim of epoch 8 ------------|   when it does so (Started)
//	stops                                |
//
// The claim is the acknowledgement, and all others hear it too. The offer is
// repeated every 15 ms, and answered again. A successor that does not answer for
// 100 ms is passed over; an offer to the next one names a higher epoch, so that
// of two that took the address the later named one keeps it. After 600 ms an
// owner that must stop stops: it claims the address for the first successor.
package ownership

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// TickInterval is how often a Machine wants Tick.
const TickInterval = 100 * time.Millisecond

// DefaultFreezeLimit is Config.FreezeLimit by default. The others declare a node
// dead after a little less; what they claimed then waits in its sockets, and is
// read as soon as it works again.
const DefaultFreezeLimit = 400 * time.Millisecond

// Config is what a Machine is made with.
type Config struct {
	// Self is the name of this node. Required.
	Self lb.NodeName
	// JoinTimeout bounds the wait for a first state sync, after which a node
	// considers itself alone. Default 3 s.
	JoinTimeout time.Duration
	// ClaimTimeout is how long the elected node has to claim a group before
	// the next in order does (its view of the API server may be stale).
	// Default 2 s.
	ClaimTimeout time.Duration
	// FreezeLimit is the gap between two Ticks after which a node must assume
	// that the others have declared it dead. Default DefaultFreezeLimit.
	FreezeLimit time.Duration
	// StartLimit is how long a claim waits, at most, for Started: the old owner
	// of an address stops when it hears the claim, so the new one must answer
	// before. Default 0: Ready.Start is done when Ready.Send begins, and nothing
	// waits. See StartLimit.
	StartLimit time.Duration
	// BalanceInterval is how often, at most, a group is moved from a node that
	// owns more to one that owns fewer. Default 0: never.
	BalanceInterval time.Duration
}

// Ready is one batch of work. Its fields are to be done in their order.
type Ready struct {
	// Stop answering for these at once: somebody else answers for them now, or
	// soon will.
	Stop []netip.Addr
	// Start answering for these, on these interfaces, and announce them; then
	// say so with Started. An address that is already answered for is listed when
	// something about it changed.
	Start []Answer
	// Announce these again: another node believed to own them, so the network
	// may have learned its MAC address. They are answered for already.
	Announce []netip.Addr
	// Send these after starting, because a claim tells the previous owner that
	// it may stop.
	Send []Letter
	// Owners that changed, by key, for reports.
	Owners []OwnerChange
	// StateChanged: State returns something new for the gossip driver.
	StateChanged bool
	// Resync: exchange full states with others at once. The node stood still, or
	// was cut off, or waits for a settled node and there is one now.
	Resync bool
}

// Empty reports whether there is nothing to do.
func (r *Ready) Empty() bool {
	return len(r.Stop) == 0 && len(r.Send) == 0 && len(r.Start) == 0 && len(r.Announce) == 0 &&
		len(r.Owners) == 0 && !r.StateChanged && !r.Resync
}

// Letter is a message to one member, or to all.
type Letter struct {
	To   lb.NodeName // empty: all members
	Data []byte
}

// Answer is an address to answer for.
type Answer struct {
	IP netip.Addr
	// Interfaces to answer on, sorted, never empty.
	Interfaces []string
	// Probe: as far as this node knows, no node of the cluster has ever
	// announced the address (see Proven), so ask first whether somebody else
	// on the network has it.
	Probe bool
	// Hushed: do not announce it, only answer. It is offered to another node,
	// whose announcement must be the last.
	Hushed bool
}

// MAC is an Ethernet address.
type MAC = [6]byte

// OwnerChange tells who owns a group now, as far as this node knows.
type OwnerChange struct {
	Key      netip.Addr
	Previous lb.NodeName // empty: nobody
	Owner    lb.NodeName // empty: nobody
}

// Claim is a node's claim on an address.
type Claim struct {
	Address netip.Addr
	Epoch   uint64
	Node    lb.NodeName
	// Unproven: nobody is known to have announced the address yet.
	Unproven bool
}
