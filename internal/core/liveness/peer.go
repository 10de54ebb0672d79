// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// peer is what is known of another node.
type peer struct {
	name lb.NodeName
	// member: gossip believes it alive. Otherwise it is lost, and kept because
	// it may come back.
	member bool
	// speaks heartbeats. One that does not is judged by gossip alone.
	speaks bool
	up     bool      // as Ready has told it
	gone   time.Time // when it was up last
	// doubted: gossip has declared it dead, but somebody hears it; or accuser
	// has, in its incarnation accused.
	doubted   bool
	accuser   lb.NodeName
	accused   uint64
	askUntil  time.Time // without a voucher until then it is dead; zero: not asked
	askAgain  time.Time
	rejoined  time.Time // when Ready.Rejoin named it last
	announced time.Time // when it was told last that it counts as dead

	conversation

	told    uint64    // the record that Ready has named last
	watch   *watch    // nil: not watched by this node
	watches time.Time // it said last that it watches this node

	// The verdict. A dead peer is up again when its incarnation exceeds dead.
	dead        uint64 // incarnation declared dead; 0: none
	condemned   time.Time
	pardoned    uint64 // the verdict on this incarnation was ended
	revived     time.Time
	incarnation uint64 // the highest one heard of
}

// conversation is what two lives of two nodes have exchanged.
type conversation struct {
	life     uint64        // of the peer; 0: not known
	received uint64        // the highest count from it
	window   uint64        // bit i: received-i was received
	heard    time.Time     // last packet that proves that it is alive; zero: none
	useful   time.Time     // the same, from a peer that hears somebody
	record   uint64        // the newest one it has named
	late     time.Duration // how late its timers were, as it said last
}

// fresh reports whether a count is new, and remembers it. Late packets are let
// in, repeated ones are not (as in RFC 4303 section 3.4.3).
func (c *conversation) fresh(count uint64) bool {
	switch {
	case count == 0:
		return false
	case count > c.received:
		if d := count - c.received; d < 64 {
			c.window = c.window<<d | 1
		} else {
			c.window = 1
		}
		c.received = count
		return true
	}
	d := c.received - count
	if d >= 64 || c.window>>d&1 == 1 {
		return false
	}
	c.window |= 1 << d
	return true
}

// watch is the observation of a neighbour.
type watch struct {
	// base is from when on silence counts: the last packet, or later.
	base time.Time
	// gap is the longest that heartbeats took lately; it decays.
	gap time.Duration
	// late: see conversation.
	late time.Duration
	// refused: its host says that nobody listens there any more.
	refused bool
	// votes: when other watchers, or gossip, said last that they do not hear it.
	votes map[lb.NodeName]time.Time
	// vouched is when somebody heard it last, as far as this node was told.
	vouched time.Time

	suspected time.Time // zero: not
	again     time.Time // when to say so again
	probed    time.Time // when it was asked last, before it is suspected
}

// gapDecay: after that many heartbeats in time, about two thirds of a gap's
// excess are forgotten. About 13 seconds. strainDecay is the same for how late
// the timers of this node were: about a minute.
const (
	gapDecay    = 128
	strainDecay = 600
)

// hear takes a sign of life that came at that time.
func (w *watch) hear(at time.Time) {
	if gap := at.Sub(w.base); gap > w.gap {
		w.gap = gap
	} else {
		w.gap -= (w.gap - max(gap, 0)) / gapDecay
	}
	w.base = latest(w.base, at)
	w.refused = false
	clear(w.votes)
}

// patience is how long the node may be silent.
func (w *watch) patience(c *Config) time.Duration {
	if w.refused {
		return c.Interval
	}
	strained := min(2*(c.Interval+w.late), c.StrainMax)
	return max(min(max(c.Silence, w.gap+c.Interval), c.SilenceMax), strained)
}

// probe is when to ask the node itself. By then a heartbeat has been lost, or is
// later than any of the last seconds.
func (w *watch) probe(c *Config) time.Time {
	return latest(w.base.Add(w.patience(c)-c.Interval), w.probed.Add(c.Interval/2))
}

func (w *watch) silent(now time.Time, c *Config) bool {
	return now.Sub(w.base) >= w.patience(c)
}

// votedLately reports whether a watcher's opinion is still its opinion.
func (w *watch) votedLately(node lb.NodeName, now time.Time, c *Config) bool {
	at, voted := w.votes[node]
	return voted && now.Sub(at) <= 2*c.Refute
}
