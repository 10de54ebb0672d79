// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestCostOfSize: a pool of any size costs what a /28 costs. The comparison is of
// the quickest of many plans, so that a busy machine does not matter; whoever
// goes through the addresses of a pool takes a thousand times as long for a /8,
// and does not come back from a /64.
func TestCostOfSize(t *testing.T) { //nolint:paralleltest // it counts allocations
	measure := func(family lb.Family, addresses string) (allocs float64, quickest time.Duration) {
		snap := lb.Snapshot{Pools: genericPool(addresses), Namespaces: namespaces(), Services: services(14, func(_ int, svc *lb.Service) {
			svc.Families = []lb.Family{family}
		})}
		snap = after(snap, ipam.Plan(snap))
		snap.Services[3].Assigned, snap.Services[9].Assigned = nil, nil // give and keep
		quickest = time.Hour
		for range 200 {
			begun := time.Now()
			ipam.Plan(snap)
			quickest = min(quickest, time.Since(begun))
		}
		return testing.AllocsPerRun(20, func() { ipam.Plan(snap) }), quickest
	}
	want, limit := measure(lb.IPv4, "192.0.2.0/28")
	limit *= 10
	for _, tt := range []struct {
		family    lb.Family
		addresses string
	}{
		{lb.IPv4, "10.0.0.0/8"}, {lb.IPv6, "2001:db8::/124"}, {lb.IPv6, "2001:db8::/64"}, {lb.IPv6, "2000::/3"},
	} {
		if allocs, took := measure(tt.family, tt.addresses); allocs > want || took > limit {
			t.Errorf("a plan for %s makes %v allocations and takes %v, more than %v and %v", tt.addresses, allocs, took, want, limit)
		}
	}
}
