// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// BenchmarkSecond measures a second of a calm cluster, per node: what machines
// cost, with what it costs to simulate the network between them. That 1,000
// nodes meet each other takes minutes; -short leaves them out.
func BenchmarkSecond(b *testing.B) {
	for _, n := range []int{3, 10, 100, 1000} {
		b.Run(fmt.Sprint("nodes=", n), func(b *testing.B) {
			if n > 100 && testing.Short() {
				b.Skip("-short")
			}
			w := newWorld(1)
			for i := range n {
				w.start(lb.NodeName(fmt.Sprint("node", i)))
			}
			w.run(3 * time.Second)
			w.sent = 0
			seconds := 0
			for b.Loop() {
				w.run(time.Second)
				seconds++
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(seconds*n), "µs/node")
			b.ReportMetric(float64(w.sent)/float64(seconds*n), "packets/node")
		})
	}
}
