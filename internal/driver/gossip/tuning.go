// SPDX-License-Identifier: Apache-2.0

package gossip

import "time"

// The timing of failure detection, for a LAN of servers. Measured with 5 nodes,
// from cutting a node off until the last survivor knew: 0.9 to 1.3 s with these
// values; 6.7 to 7.0 s with memberlist's own for a LAN; 0.5 to 0.8 s with
// 100/50 ms, but then a busy machine already loses members who are alive. The
// cost is 10 packets/s and 0.2 % of a core per node, whatever the number of
// nodes.
const (
	// A failed probe costs a whole interval before suspicion starts.
	probeInterval = 200 * time.Millisecond
	probeTimeout  = 100 * time.Millisecond
	// A suspect has suspicionMult * log10(nodes) intervals to object, at least
	// suspicionMult; up to suspicionMaxMult times that if nobody else suspects.
	suspicionMult    = 3
	suspicionMaxMult = 3
	// A node that finds itself slow probes more slowly, at most by this factor:
	// memberlist's 8 would put detection off to many seconds.
	awarenessMax = 4
)

// The spreading of news.
const (
	gossipInterval = 50 * time.Millisecond
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
	// resyncPeers is how many members are asked for their state in a resync.
	resyncPeers = 3
	// restlessTime is for how long states are exchanged at every joinTick while
	// a former life of this member is in the way: until it is declared dead.
	restlessTime = 3 * time.Second

	leaveTimeout = 500 * time.Millisecond
)
