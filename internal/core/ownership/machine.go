// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Machine decides what this node answers for. See the package comment.
//
// Inputs may be given in any order and as often as wanted; after one or more
// of them, Ready returns what is to be done.
type Machine struct{}

// New makes a machine that knows nothing yet and answers for nothing.
func New(cfg Config) *Machine { return &Machine{} }

// Tick tells the time, at least every TickInterval; also call it before the
// other inputs if more time may have passed.
func (m *Machine) Tick(now time.Time) {}

// SetGroups gives the groups of the newest plan. Until it is called the first
// time, the node publishes no record and can own nothing.
func (m *Machine) SetGroups(groups []announce.Group) {}

// SetInterfaces gives the names of this node's usable interfaces: those that
// are up and not excluded.
func (m *Machine) SetInterfaces(up []string) {}

// SetPeers gives the other nodes that should have a speaker, whether or not
// they can be reached yet (a Pod without an address counts, a failed or
// terminating one does not). The first call starts the JoinTimeout; with no
// peers this node is alone, and may claim.
func (m *Machine) SetPeers(nodes []lb.NodeName) {}

// Up tells that gossip hears a node.
func (m *Machine) Up(node lb.NodeName) {}

// Down tells that gossip does not hear a node any more.
func (m *Machine) Down(node lb.NodeName) {}

// Receive takes a message or a full state from another node. An error means
// that it could not be read; nothing of it was used.
func (m *Machine) Receive(data []byte) error { return nil }

// Leave gives everything away: the next Ready names successors in Send and
// lists in StopLast what this node answered for. Nothing is claimed afterwards.
func (m *Machine) Leave() {}

// Ready returns the work that became due since the last call.
func (m *Machine) Ready() Ready { return Ready{} }

// State is the full state for the gossip driver.
func (m *Machine) State() []byte { return nil }

// Owner says who owns a group, as far as this node knows: the claimant, or the
// node that every survivor expects to claim.
func (m *Machine) Owner(key netip.Addr) (lb.NodeName, bool) { return "", false }

// Why says what part a candidate has in a group. The zero Reason means that the
// node is no candidate: announce.Result.Explain knows why.
func (m *Machine) Why(key netip.Addr, node lb.NodeName) reason.Reason { return reason.Reason{} }

// Verdict says in words who announces a group, or why nobody does although the
// plan has candidates.
func (m *Machine) Verdict(key netip.Addr) reason.Reason { return reason.Reason{} }

// Answers are all addresses this node answers for, by address. It is the sum of
// the Ready batches so far.
func (m *Machine) Answers() []Answer { return nil }

// Claims is the table of claims, by address, for debugging.
func (m *Machine) Claims() []Claim { return nil }

// FirstLive is the first living node in hash order for a subject, such as the
// key of a Service: the one to write what only one may write when there is no
// owner.
func (m *Machine) FirstLive(subject string) lb.NodeName { return "" }
