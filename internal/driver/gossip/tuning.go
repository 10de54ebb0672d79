// SPDX-License-Identifier: Apache-2.0

package gossip

import "time"

// The timing of memberlist's own detection of failures. core/liveness finds dead
// nodes much sooner; this is the way that needs no watcher, for when most of a
// cluster dies at once, and to tidy up. So it may be slow, and should be right:
// with 100 ms probes it lost living members on busy machines, and each of them
// costs an exchange of states. Measured with 5 nodes, until the last survivor
// knows: 2.0 to 3.2 s.
const (
	// A failed probe costs a whole interval before suspicion starts.
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 250 * time.Millisecond
	// A suspect has suspicionMult * log10(nodes) intervals to object, at least
	// suspicionMult; up to suspicionMaxMult times that if nobody else suspects.
	suspicionMult    = 3
	suspicionMaxMult = 2
	// A node that finds itself slow probes more slowly, at most by this factor:
	// memberlist's 8 would put detection off to many seconds.
	awarenessMax = 4
)

// The spreading of news.
const (
	gossipInterval = 100 * time.Millisecond
	gossipNodes    = 3
	// retransmitMult below 4 loses news.
	retransmitMult = 4
	// directLimit is up to how many members get a message at once and directly,
	// not only by gossip. In larger groups those who hear something pass it on.
	directLimit = 128
	// packetLimit is what fits into one of memberlist's packets of 1,400 bytes
	// with its overhead. Longer messages go by TCP.
	packetLimit = 1250
	// gossipBacklog bounds the messages that wait for repetition by gossip; the
	// most repeated ones are given up first.
	gossipBacklog = 512
)

// The exchange of full states.
const (
	// pushPullInterval bounds how long a lost message can matter. memberlist
	// stretches it in groups of more than 32.
	pushPullInterval = 5 * time.Second
	streamTimeout    = 2 * time.Second
	// reclaimTime is how long a dead member's name is kept from a new address:
	// not at all, since a restarted speaker must be let in.
	reclaimTime = time.Millisecond

	// A wanted peer that is no member is tried again after joinBackoff, then
	// twice as long, up to joinBackoffMax.
	joinBackoff    = 250 * time.Millisecond
	joinBackoffMax = 2 * time.Second
	joinParallel   = 8
	joinTick       = 250 * time.Millisecond
	// joinRest is the time between two looks while all wanted peers are members:
	// each time that a process wakes up costs more than what it does then.
	joinRest = 5 * time.Second
	// resyncPeers is how many members are asked for their state in a resync.
	resyncPeers = 3
	// restlessTime is for how long states are exchanged at every joinTick while
	// a former life of this member is in the way: until it is declared dead.
	restlessTime = 8 * time.Second

	leaveTimeout = 500 * time.Millisecond
)
