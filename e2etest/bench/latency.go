// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/heraldlb/herald/e2etest/burst"
	"github.com/heraldlb/herald/e2etest/probe"
)

const (
	paceEvery  = 50 * time.Millisecond // 20 a second
	latencyRun = 600
)

// latency creates single Services, 20 a second, with 5,000 present. The latency of one is the time from the API server's answer to its
// creation until a watch shows its address; beside it stands how long the creation itself took, which is what a write costs there.
func latency(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, manyLimit)
	defer cancel()
	n := min(present, o.Many)
	if n < o.Many {
		o.say("delete Services until %d are left", n)
		if err := burst.Delete(ctx, c.kube, "default", prefix, n, o.Many); err != nil {
			return nil, err
		}
	}
	if err := c.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	o.say("create %d Services, one every %v", latencyRun, paceEvery)
	var times []burst.Times
	err := c.spent(ctx, o, func() (err error) {
		times, err = burst.Paced(ctx, c.kube, "default", "single", latencyRun, paceEvery)
		return err
	})
	if err != nil {
		return nil, err
	}
	var writes, addressed []float64
	for _, t := range times {
		writes = append(writes, milliseconds(t.Answered.Sub(t.Begun)))
		addressed = append(addressed, milliseconds(max(0, t.Addressed.Sub(t.Answered))))
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("no Service was created")
	}
	p99, api := probe.Percentile(addressed, 99), probe.Percentile(writes, 99)
	o.say("creation p50 %.1f ms, p99 %.1f ms, max %.1f ms; then to the address p50 %.1f ms, p99 %.1f ms, max %.1f ms",
		probe.Percentile(writes, 50), api, probe.Percentile(writes, 100),
		probe.Percentile(addressed, 50), p99, probe.Percentile(addressed, 100))
	return []Result{
		{"alloc_latency_p50_ms", probe.Percentile(addressed, 50), "ms"},
		{"alloc_latency_p99_ms", p99, "ms"},
		{"api_write_p99_ms", api, "ms"},
		{"alloc_latency_p99_over_api_ms", p99 - api, "ms"},
	}, nil
}
