// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// BenchmarkDeath is what a survivor does when one of the owners of 3,000 or
// 10,000 addresses dies; BenchmarkColdStart is dealing all of them out.
func BenchmarkDeath(b *testing.B) {
	for _, size := range []struct{ nodes, addresses int }{{3, 3000}, {10, 10_000}, {100, 10_000}} {
		b.Run(fmt.Sprintf("nodes=%d/addresses=%d", size.nodes, size.addresses), func(b *testing.B) {
			count := size.nodes
			nodes, groups := benchGroups(count, size.addresses)
			m := settled(nodes[0])
			for i, n := range nodes[1:] {
				var share []announce.Group
				for j := i; j < len(groups); j += count {
					share = append(share, groups[j])
				}
				other := settled(n, share...)
				other.Ready()
				m.Up(n)
				if err := m.Receive(other.State()); err != nil {
					b.Fatal(err)
				}
			}
			m.SetGroups(groups)
			m.Ready()
			b.ReportAllocs()
			for b.Loop() {
				m.Down(nodes[1])
				m.Ready()
				b.StopTimer()
				m.Up(nodes[1])
				m.Ready()
				b.StartTimer()
			}
		})
	}
}

func BenchmarkColdStart(b *testing.B) {
	for _, count := range []int{10, 100} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			nodes, groups := benchGroups(count, 10_000)
			var states [][]byte
			for _, n := range nodes[1:] {
				states = append(states, settled(n).State())
			}
			b.ReportAllocs()
			for b.Loop() {
				m := settled(nodes[0], groups...)
				for i, n := range nodes[1:] {
					m.Up(n)
					if err := m.Receive(states[i]); err != nil {
						b.Fatal(err)
					}
				}
				m.Ready()
			}
		})
	}
}

func benchGroups(count, addresses int) (nodes []lb.NodeName, groups []announce.Group) {
	for i := range count {
		nodes = append(nodes, lb.NodeName(fmt.Sprintf("node-%03d", i)))
	}
	candidates := group("10.0.0.0", nodes...).Candidates
	for i := range addresses {
		ip := addr(fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
		groups = append(groups, announce.Group{Key: ip, Addresses: []netip.Addr{ip}, Candidates: candidates})
	}
	return nodes, groups
}
