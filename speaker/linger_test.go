// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/linger"
)

// TestEngineLingers: the only Pod of a Service with externalTrafficPolicy Local is replaced on another node. The address stays where
// the old Pod serves, until the rules for the new one are there; if the old one ends earlier, no longer than that.
func TestEngineLingers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]time.Duration{"to the end": time.Minute, "the old Pod ends early": linger.Delay / 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, all := startCluster(t, 3)
				defer stopAll(all)
				plan := func(candidates, draining []announce.Candidate) {
					for _, n := range all {
						var others []lb.NodeName
						for _, other := range all {
							if other != n {
								others = append(others, other.name)
							}
						}
						n.engine.setPlan(plannedGroups{peers: peers{nodes: others}, groups: []announce.Group{{
							Key: vip, Addresses: []netip.Addr{vip}, Local: true, Candidates: candidates, Draining: draining,
						}}})
					}
					settle(100 * time.Millisecond)
				}
				old := theOwner(t, all)
				next := all[0]
				if next == old {
					next = all[1]
				}
				only := func(n *testNode) []announce.Candidate { return []announce.Candidate{{Node: n.name}} }
				plan(only(old), nil)
				settle(time.Minute)
				plan(only(next), only(old))
				if end < linger.Delay {
					settle(end - 200*time.Millisecond)
					if got := theOwner(t, all); got != old {
						t.Fatalf("%s has taken over at once", got.name)
					}
					plan(only(next), nil)
				} else {
					settle(linger.Delay - 200*time.Millisecond)
					if got := theOwner(t, all); got != old {
						t.Fatalf("%s has taken over at once", got.name)
					}
					settle(200 * time.Millisecond)
				}
				if got := theOwner(t, all); got != next {
					t.Errorf("%s answers, want %s", got.name, next.name)
				}
			})
		})
	}
}
