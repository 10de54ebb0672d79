// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// A process has two clocks. The monotonic one measures durations: it never goes
// back and never jumps, but it may run a little fast or slow, and it stands still
// while a virtual machine is suspended. The one on the wall jumps when somebody
// sets it, also back.
//
// The speaker gives its machines times of Go, which carry both; durations
// between them are monotonic. So:
//
//   - The liveness machine sees the monotonic clock, and nothing of jumps.
//   - The ownership machine measures with the monotonic clock too, and looks at
//     the wall only for whether it stood still: the greater gap counts. A jump
//     ahead therefore looks like a pause to it. One back changes nothing, while
//     the process runs: that is simulated as what it is, as nothing. Here the
//     machine is given one clock that jumps ahead and never back; so all its
//     timers are due after a jump, which is more than really happens. A machine
//     that is not settled does not look at the wall, and how long it waits for
//     others is not what a jump may cut short: it is not given any.
//   - A new process begins with whatever the clock on the wall says, which may
//     be less than what the former one began with.

// wall is the time that the ownership machine of a node is told.
func (c *Cluster) wall(n *node) time.Time { return c.now.Add(n.clock + n.jumped + c.drifted(n)) }

// monotonic is the time that the liveness machine of a node is told.
func (c *Cluster) monotonic(n *node) time.Time { return c.now.Add(n.clock - n.stood + c.drifted(n)) }

func (c *Cluster) drifted(n *node) time.Duration {
	return time.Duration(int64(c.now.Sub(n.since)) * n.drift / 1_000_000)
}

// when is the time at which that much more has passed on a node's clocks, and
// not a moment less.
func (c *Cluster) when(n *node, d time.Duration) time.Time {
	if d <= 0 {
		return c.now
	}
	if n.drift != 0 {
		d = time.Duration(int64(d)*1_000_000/(1_000_000+n.drift)) + 2*time.Microsecond
	}
	return c.now.Add(d)
}

// Jump puts a node's clock on the wall ahead while it runs; or, while it does
// not, ahead or back. That of a frozen one may be the monotonic clock, too.
func (c *Cluster) Jump(name lb.NodeName, d time.Duration) {
	switch n := c.node(name); {
	case n.machine == nil:
		n.clock += d
	case d > 0 && (n.frozen || n.machine.Settled()):
		n.jumped += d
		c.watch.disturbed(c)
	}
}

// StandStill takes it that the monotonic clock of a node stood still for so long
// that ends now, as when a virtual machine is suspended. Use it before Thaw.
func (c *Cluster) StandStill(name lb.NodeName, d time.Duration) {
	c.node(name).stood += d
}

// Drift lets the clocks of a node run faster, or slower, by so many millionths
// from now on.
func (c *Cluster) Drift(name lb.NodeName, millionths int64) {
	n := c.node(name)
	n.clock += c.drifted(n)
	n.since, n.drift = c.now, millionths
}
