// SPDX-License-Identifier: Apache-2.0

// Package liveness finds dead speakers in a fraction of a second.
//
// It is a machine: packets, what gossip says and the time are arguments, one
// batch of work (Ready) comes out. It reads no clock, blocks on nothing and
// keeps no goroutine. One goroutine owns a Machine.
//
//	gossip -----Join, Leave-->  +---------+
//	packets ---------Receive->  |         | --Ready.Send-----> packets
//	ICMP --------Unreachable->  | Machine | --Ready.Up, Down-> core/ownership
//	core/ownership-SetRecord->  |         | --Ready.Records--> core/ownership
//	clock --------------Tick->  +---------+ --Ready.Rejoin---> gossip
//
// # Watching
//
// The living nodes form a ring, ordered by the hash of their names. Each node
// watches the two before and the two after it: it sends them a heartbeat every
// Interval, and they answer with heartbeats of their own. So a node is watched
// by up to four others, and the cost does not depend on the number of nodes.
// Observation belongs to the observer: a node answers whoever watches it, so
// views of the ring may differ for a while without harm.
//
// # Suspecting
//
// A watcher that misses a heartbeat asks the node, which answers at once. One
// that has heard nothing for its patience suspects the node, and says so to the
// node and to its other watchers, again after Repeat. The node refutes by a packet
// to the watcher. A watcher that hears the node vouches for it. One that does not
// hear it either suspects it by itself. So a few lost heartbeats do no harm.
//
// The verdict is passed when Refute has gone by without a word of the node, by
// every watcher that knows of a second one of the same opinion. With two nodes
// there is nobody to ask, and one opinion does. A watcher that nobody agrees
// with or contradicts passes it after Lone more: it is likely to be the one
// that is cut off. The verdict goes directly to all nodes; who hears the node
// does not believe it.
//
// # Returning
//
// A verdict is on one incarnation of the node. The node raises it when it
// learns of the verdict, and tells all; it is Up again for those who hear that.
// Whoever believes it dead keeps telling it, so that no lost packet can make
// this belief last.
//
// # What gossip says
//
// A node is taken up when gossip knows it (Join). A goodbye counts at once. When
// gossip declares a node dead, it is asked first whether somebody hears it: the
// probes of gossip err more easily on a busy machine. To a watcher that does not
// hear it for the moment that is a second opinion. Else it is the slow, sure path,
// which needs no watcher.
//
// # Busy machines
//
// A node whose own timer is late has not been listening either: it extends its
// patience by as much as it was late. And it grants more patience to a node
// whose heartbeats came late in the last seconds; and more again to one whose
// packets say that its timers were late in the last minute, because what makes
// them late once (processors that others keep busy) makes them later another time.
//
// # Losses in one direction
//
// A node that is not heard by any watcher is dead to the others, whether or not
// it hears them. A node that is heard but hears nobody can not receive the
// traffic of an address either; its packets say so, and count as silence where
// two watchers can agree on it. When just one link is broken, or one direction
// of it, the other watchers vouch for the node and nothing happens.
//
// # Records
//
// Heartbeats get through where gossip does not: it needs both directions, and
// says nothing to a node that it believes dead. So each packet names the version
// of the record that its sender publishes by gossip, and who has an older one
// knows that it is out of date (core/ownership).
package liveness

import (
	"cmp"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Config is what a Machine is made with. Only Self and Life are required.
type Config struct {
	// Self is the name of this node.
	Self lb.NodeName
	// Life tells this process from former ones: later lives have higher
	// numbers. The time of start in nanoseconds will do.
	Life uint64

	// Interval between heartbeats. Default 100 ms.
	Interval time.Duration
	// Repeat is when to say again what must not be lost. Default 30 ms.
	Repeat time.Duration
	// Silence is how long a node may be silent before it is suspected, if its
	// heartbeats have been on time. Default 250 ms.
	Silence time.Duration
	// SilenceMax bounds the patience with a node whose heartbeats were late.
	// Default 450 ms.
	SilenceMax time.Duration
	// StrainMax bounds the patience with a node that says that its timers were
	// late. Default 600 ms. A node that was not running for longer says nothing
	// of it: no patience would have covered that.
	StrainMax time.Duration
	// Refute is how long a suspect has to object. Default 75 ms.
	Refute time.Duration
	// Lone is how much longer a suspicion must last that nobody shares or
	// contradicts, where others could. Default 400 ms.
	Lone time.Duration
}

func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, 100*time.Millisecond)
	c.Repeat = cmp.Or(c.Repeat, 30*time.Millisecond)
	c.Silence = cmp.Or(c.Silence, 250*time.Millisecond)
	c.SilenceMax = cmp.Or(c.SilenceMax, 450*time.Millisecond)
	c.StrainMax = cmp.Or(c.StrainMax, 600*time.Millisecond)
	c.Refute = cmp.Or(c.Refute, 75*time.Millisecond)
	c.Lone = cmp.Or(c.Lone, 400*time.Millisecond)
	return c
}

// reach is how many nodes are watched on each side of the ring.
const reach = 2

// Kind tells packets apart.
type Kind uint8

// The kinds of packets. Each of them, whatever else it says, shows that its
// sender is alive.
const (
	// Heartbeat says nothing else.
	Heartbeat Kind = iota + 1
	// Suspect: the sender watches Subject and has not heard it for Age. Who
	// hears it answers with Vouch; the subject itself with anything.
	Suspect
	// Ask: does somebody hear Subject? The answer is Vouch or nothing; that of
	// the subject itself Alive.
	Ask
	// Vouch: the sender heard Subject Age ago.
	Vouch
	// Verdict: Subject is dead, in the incarnation SubjectIncarnation.
	Verdict
	// Alive: the sender is alive, whatever was said of it.
	Alive
)

// Packet is what nodes send each other.
type Packet struct {
	Kind     Kind
	From, To lb.NodeName
	// Life of the sender, and of the receiver as far as the sender knows. A
	// packet that does not know the receiver's present life proves nothing: it
	// may be a recorded one.
	Life, Echo uint64
	// Count numbers the packets of the sender's life, to whomever, from 1.
	Count uint64
	// Incarnation of the sender; see Verdict.
	Incarnation uint64
	// Watching: the sender watches the receiver and wants to be answered.
	Watching bool
	// Deaf: the sender hears nobody.
	Deaf bool
	// Record is the version of the sender's own record; 0: it does not say.
	Record uint64
	// Late is the longest that a timer of the sender was late in the last minute,
	// decaying.
	Late time.Duration

	Subject            lb.NodeName
	SubjectIncarnation uint64
	Age                time.Duration

	// Routine: nobody waits for it. Lost: the receiver is not up, and its MAC
	// address may have to be asked for. Neither is on the wire.
	Routine, Lost bool
}

// Ready is one batch of work.
type Ready struct {
	// Up and Down: nodes that came or went, sorted. A node that is new, or whose
	// death was a mistake or is over, comes; see Return.
	Up, Down []lb.NodeName
	// Return lists those of Up that were declared dead before and never left
	// gossip: what was said meanwhile may have passed them by.
	Return []lb.NodeName
	// Rejoin lists nodes that gossip has lost and that were heard just now.
	Rejoin []lb.NodeName
	// Records that nodes say they have published: newer ones, or those of a new
	// life, which may say nothing.
	Records []Record
	// Send these, in this order.
	Send []Packet
}

// Record is the version of what a node publishes of itself.
type Record struct {
	Node    lb.NodeName
	Version uint64
}

// Empty reports whether there is nothing to do.
func (r *Ready) Empty() bool {
	return len(r.Up)+len(r.Down)+len(r.Return)+len(r.Rejoin)+len(r.Records)+len(r.Send) == 0
}

// State is what a Machine knows, for people.
type State struct {
	// CutOff: there should be others, and nobody was heard for Silence. Either
	// all are dead, or this node is cut off.
	CutOff bool `json:"cutOff"`
	// Heard is when a packet of anybody came last; zero: never.
	Heard time.Time `json:"heard,omitzero"`
	// Late is the longest that the timer of this node was late in the last
	// seconds.
	Late time.Duration `json:"late"`
	// Nodes by name, without this one.
	Nodes []NodeState `json:"nodes,omitempty"`
}

// NodeState is what a Machine knows of another node.
type NodeState struct {
	Node lb.NodeName `json:"node"`
	Up   bool        `json:"up"`
	// Watched by this node.
	Watched bool `json:"watched,omitempty"`
	// Suspected by this node, since.
	Suspected time.Time `json:"suspected,omitzero"`
	// Heard last; zero: never.
	Heard time.Time `json:"heard,omitzero"`
	// Patience with this node, if it is watched.
	Patience time.Duration `json:"patience,omitempty"`
	// Gossip believes it alive.
	Gossip bool `json:"gossip"`
}
