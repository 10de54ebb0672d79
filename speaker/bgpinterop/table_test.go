// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// TestTenThousandRoutes arrive within seconds, also when each says something
// else, and are withdrawn as fast. It runs alone: it measures times and memory.
func TestTenThousandRoutes(t *testing.T) { //nolint:paralleltest // measures the memory of the process
	const n = 64
	w := newWorld(t, n)
	f := startFRR(t, w.router, numbered(frrPlain, n))
	count := func() string { return f.Show("show bgp ipv4 unicast summary") }
	for _, tt := range []struct { //nolint:paralleltest // one after the other
		name        string
		communities bool
		limit       time.Duration
	}{{"alike", false, 5 * time.Second}, {"all different", true, 10 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			s := session(w.router4(n))
			for i := range 10_000 {
				r := bgp.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32), Attributes: bgp.Attributes{LocalPref: 100}}
				if tt.communities {
					r.Communities = []uint32{uint32(i)}
				}
				s.Routes = append(s.Routes, r)
			}
			before := heap()
			d, stop := speakUntil(t, false)
			begun := time.Now()
			d.Set(wanted(s))
			await(t, "10,000 routes at FRR", tt.limit, func() bool {
				return strings.Contains(count(), "RIB entries 19") || strings.Contains(count(), " 10000 ")
			})
			t.Logf("10,000 routes after %v, heap grown by %d kB", time.Since(begun).Round(time.Millisecond), (heap()-before)/1024)
			begun = time.Now()
			s.Routes = s.Routes[:1]
			d.Set(wanted(s))
			await(t, "one route at FRR", tt.limit, func() bool {
				return !strings.Contains(count(), " 10000 ") && strings.Contains(f.Show("show bgp ipv4 unicast"), "Displayed  1 routes")
			})
			t.Logf("withdrawn after %v", time.Since(begun).Round(time.Millisecond))
			stop()
		})
	}
}
