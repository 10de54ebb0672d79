// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/heraldlb/herald/e2etest/probe"
)

const planRuns = 5

// plans runs the Go benchmarks that make a full plan for 10,000 Services, and the one that fills a /16 from nothing, and takes the
// median of several runs.
func plans(ctx context.Context, o Options) ([]Result, error) {
	var rs []Result
	for _, p := range []struct{ name, bench, times, pkg string }{
		{"plan_ipam_10k_ms", "Plan10k", "20x", "./internal/core/ipam"},
		{"plan_announce_10k_ms", "Plan10k", "20x", "./internal/core/announce"},
		{"pool_fill_65k_ms", "Fill65k", "3x", "./internal/core/ipam"},
	} {
		if !o.wantsAny(p.name) {
			continue
		}
		o.say("%s: go test -bench in %s", p.name, p.pkg)
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "-", "-bench", p.bench+"$",
			"-count", strconv.Itoa(planRuns), "-benchtime", p.times, p.pkg)
		cmd.Dir = o.Root
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return rs, fmt.Errorf("%s: %w\n%s", p.name, err, out.Bytes())
		}
		ns := nsPerOp(out.String(), p.bench)
		if len(ns) == 0 {
			return rs, fmt.Errorf("%s: %s has no benchmark %s\n%s", p.name, p.pkg, p.bench, out.Bytes())
		}
		rs = append(rs, Result{p.name, probe.Percentile(ns, 50) / 1e6, "ms"})
	}
	return rs, nil
}

var benchLine = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:/\S+)?(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// nsPerOp reads what one benchmark took from the output of go test -bench.
func nsPerOp(text, bench string) (ns []float64) {
	for _, m := range benchLine.FindAllStringSubmatch(text, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil && m[1] == bench {
			ns = append(ns, v)
		}
	}
	return ns
}
