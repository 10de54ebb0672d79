// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/sim"
)

var (
	seeds = flag.Uint64("seeds", 30, "how many random histories each test goes through")
	first = flag.Uint64("first-seed", 0, "the first one's seed; 0: another one each time")
)

// history is a cluster with a log of what was done to it.
type history struct {
	*sim.Cluster
	rng   *rand.Rand
	nodes []lb.NodeName
	done  []string
}

func newHistory(cfg sim.Config) *history {
	h := &history{Cluster: sim.New(cfg), rng: rand.New(rand.NewPCG(cfg.Seed, 2))}
	for i := range 2 + h.rng.IntN(4) {
		h.nodes = append(h.nodes, lb.NodeName(fmt.Sprint("n", i)))
	}
	h.Start(h.nodes...)
	words := make([]string, 6)
	for i := range words {
		words[i] = fmt.Sprintf("192.0.2.%d", i+1)
	}
	words[5] += "+2001:db8::1"
	h.SetGroups(parseGroups(words, append([]lb.NodeName{"j0", "j1"}, h.nodes...)))
	h.Run(5 * time.Second)
	h.Report()
	return h
}

func (h *history) do(what string, action func()) {
	h.done = append(h.done, what)
	action()
}

// check asserts what must hold when nothing has happened for a while.
func (h *history) check(t *testing.T, cfg sim.Config, overlap, dark time.Duration) sim.Report {
	t.Helper()
	for _, ip := range h.Addresses() {
		if owners := h.Answering(ip); len(owners) != 1 {
			h.fail(t, cfg, fmt.Sprintf("%v is answered by %v, want one", ip, owners))
		}
	}
	r := h.Report()
	if r.Overlap > overlap {
		h.fail(t, cfg, fmt.Sprintf("two answered for one address for %v, allowed are %v", r.Overlap, overlap))
	}
	if r.Dark > dark {
		h.fail(t, cfg, fmt.Sprintf("an address was dark for %v, allowed are %v", r.Dark, dark))
	}
	return r
}

func (h *history) fail(t *testing.T, cfg sim.Config, what string) {
	t.Helper()
	t.Fatalf("%s\nhistory: %s\nagain with: go test ./internal/core/sim -run '^%s$' -first-seed %d -seeds 1",
		what, strings.Join(h.done, ", "), t.Name(), cfg.Seed)
}

// overSeeds runs a test for many seeds, starting from a random one.
func overSeeds(t *testing.T, test func(t *testing.T, cfg sim.Config)) {
	t.Helper()
	seed := *first
	if seed == 0 {
		seed = rand.Uint64() >> 1
	}
	for i := range *seeds {
		test(t, sim.DefaultConfig(seed+i))
	}
}

// TestJoin lets nodes join, one after another: no address moves, and never do
// two answer.
func TestJoin(t *testing.T) {
	t.Parallel()
	overSeeds(t, func(t *testing.T, cfg sim.Config) {
		t.Helper()
		h := newHistory(cfg)
		for _, n := range []lb.NodeName{"j0", "j1"} {
			h.do("join "+string(n), func() { h.Start(n) })
			h.Run(6 * time.Second)
		}
		if r := h.check(t, cfg, 0, 0); r.Moves != 0 {
			h.fail(t, cfg, fmt.Sprintf("%d addresses moved", r.Moves))
		}
	})
}

// TestDeath kills and restarts nodes, one at a time, at any moment of each
// other's recovery: a successor answers after detection, and two answer for no
// longer than a message takes.
func TestDeath(t *testing.T) {
	t.Parallel()
	overSeeds(t, func(t *testing.T, cfg sim.Config) {
		t.Helper()
		h := newHistory(cfg)
		for range 4 {
			n := h.nodes[h.rng.IntN(len(h.nodes))]
			h.do("kill "+string(n), func() { h.Kill(n) })
			h.Run(time.Duration(h.rng.Int64N(int64(3 * time.Second))))
			h.do("start "+string(n), func() { h.Start(n) })
			h.Run(5 * time.Second)
			h.check(t, cfg, cfg.Delay.Max, cfg.Detect.Max+cfg.Rejoin.Max+500*time.Millisecond)
		}
	})
}

// TestLeave stops nodes on purpose: nothing is ever dark.
func TestLeave(t *testing.T) {
	t.Parallel()
	overSeeds(t, func(t *testing.T, cfg sim.Config) {
		t.Helper()
		h := newHistory(cfg)
		n := h.nodes[h.rng.IntN(len(h.nodes))]
		h.do("leave "+string(n), func() { h.Leave(n) })
		h.Run(5 * time.Second)
		h.check(t, cfg, 60*time.Millisecond, 0)
	})
}

// TestFaults does all kinds of harm with lossy links, partitions included. Then
// everything is healed, and there is one answer for each address.
func TestFaults(t *testing.T) {
	t.Parallel()
	overSeeds(t, func(t *testing.T, cfg sim.Config) {
		t.Helper()
		cfg.Loss = 20
		h := newHistory(cfg)
		dead := map[lb.NodeName]bool{}
		for range 12 {
			n := h.nodes[h.rng.IntN(len(h.nodes))]
			if dead[n] {
				h.do("start "+string(n), func() { h.Start(n) })
				delete(dead, n)
			} else {
				h.harm(n, dead)
			}
			h.Run(time.Duration(h.rng.Int64N(int64(2 * time.Second))))
		}
		h.do("heal", func() { h.Partition() })
		for _, n := range h.nodes {
			if dead[n] {
				h.Start(n)
			}
			h.Thaw(n)
			h.SetInterfaces(n, "eth0")
		}
		h.Run(20 * time.Second)
		h.Report()
		h.Run(time.Second)
		if r := h.check(t, cfg, 0, 0); r.Moves != 0 {
			h.fail(t, cfg, fmt.Sprintf("%d addresses move with nothing going on", r.Moves))
		}
	})
}

func (h *history) harm(n lb.NodeName, dead map[lb.NodeName]bool) {
	switch h.rng.IntN(6) {
	case 0:
		h.do("kill "+string(n), func() { h.Kill(n) })
		dead[n] = true
	case 1:
		h.do("freeze "+string(n), func() { h.Freeze(n) })
	case 2:
		h.do("thaw "+string(n), func() { h.Thaw(n) })
	case 3:
		h.do("partition "+string(n), func() { h.Partition(n) })
	case 4:
		h.do("no interface on "+string(n), func() { h.SetInterfaces(n) })
	case 5:
		h.do("interface on "+string(n), func() { h.SetInterfaces(n, "eth0") })
	}
}
