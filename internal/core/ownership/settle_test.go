// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// TestUnsure: a node that has settled only because nobody told it anything goes on
// asking, now and then, until somebody who knows has answered. One that is alone,
// or was told, does not.
func TestUnsure(t *testing.T) {
	t.Parallel()
	m := ownership.New(ownership.Config{Self: "n1"})
	m.Tick(start)
	m.SetInterfaces([]string{"eth0"})
	m.SetGroups(groups(group("192.0.2.1", "n1", "n2")))
	m.SetPeers([]lb.NodeName{"n2"})
	asked := func(from, to time.Duration) (n int) {
		for at := from; at < to; at += ownership.TickInterval {
			m.Tick(start.Add(at))
			if m.Ready().Resync {
				n++
			}
		}
		return n
	}
	if n := asked(0, 5*time.Second); n != 0 || !m.Settled() {
		t.Errorf("alone: asked %d times, settled: %v", n, m.Settled())
	}
	m.Up("n2")
	if n := asked(5*time.Second, 10*time.Second); n < 8 || n > 11 {
		t.Errorf("asked %d times in 5 s, want to twice a second", n)
	}
	other := ownership.New(ownership.Config{Self: "n2"})
	other.Tick(start)
	receive(t, m, other.State()) // it knows no more
	if n := asked(10*time.Second, 11*time.Second); n == 0 {
		t.Error("stopped to ask because of somebody who knows nothing")
	}
	receive(t, m, settled("n2").State())
	if n := asked(11*time.Second, 20*time.Second); n != 0 {
		t.Errorf("asked %d more times after the answer", n)
	}
}
