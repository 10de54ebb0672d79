// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/sim"
)

var (
	seeds = flag.Uint64("seeds", 10_000, "how many random histories to go through")
	trace = flag.Bool("tell", false, "print what happens; for one seed")
	first = flag.Uint64("first-seed", 1, "the first one's seed; 0: another one each time")
)

// maxOverlap is the longest that two nodes may answer for one address while all
// nodes hear each other.
const maxOverlap = 100 * time.Millisecond

// history is a cluster with a log of what was done to it.
type history struct {
	*sim.Cluster
	cfg   sim.Config
	rng   *rand.Rand
	nodes []lb.NodeName // that may own
	dead  map[lb.NodeName]bool
	done  []string
	wrong string
}

// newHistory starts a cluster of some nodes, which have some addresses after a
// few seconds.
func newHistory(cfg sim.Config, size, addresses int) *history {
	if *trace {
		cfg.Trace = func(at time.Duration, what string) { fmt.Println(at.Round(10*time.Microsecond), what) }
	}
	h := &history{Cluster: sim.New(cfg), cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)), dead: map[lb.NodeName]bool{}}
	for i := range size {
		h.nodes = append(h.nodes, lb.NodeName(fmt.Sprint("n", i)))
	}
	h.Start(h.nodes...)
	words := make([]string, addresses)
	for i := range words {
		words[i] = fmt.Sprintf("192.0.2.%d", i+1)
	}
	words[addresses-1] += "+2001:db8::1"
	h.SetGroups(parseGroups(words, append([]lb.NodeName{"j0", "j1"}, h.nodes...)))
	h.Run(4 * time.Second)
	h.Report()
	return h
}

func (h *history) do(what string, action func()) {
	h.done = append(h.done, fmt.Sprintf("%v %s", h.Elapsed().Round(time.Millisecond), what))
	if *trace {
		fmt.Println(h.done[len(h.done)-1])
	}
	action()
}

func (h *history) fail(format string, args ...any) {
	if h.wrong == "" {
		h.wrong = fmt.Sprintf(format, args...)
	}
}

// span draws a time up to a limit.
func (h *history) span(limit time.Duration) time.Duration {
	return time.Duration(h.rng.Int64N(int64(limit)))
}

// one draws a node.
func (h *history) one() lb.NodeName { return h.nodes[h.rng.IntN(len(h.nodes))] }

// single asserts that each address that somebody may own has one owner.
func (h *history) single() {
	for _, g := range h.Groups() {
		want := 0
		for _, n := range h.nodes {
			if _, ok := g.Candidate(n); ok && !h.dead[n] {
				want = 1
			}
		}
		for _, ip := range g.Addresses {
			if owners := h.Answering(ip); len(owners) != want {
				h.fail("%v is answered by %v, want %d", ip, owners, want)
			}
		}
	}
}

func (h *history) check(overlap, dark time.Duration) sim.Report {
	h.single()
	r := h.Report()
	if r.Overlap > overlap {
		h.fail("two answered for one address for %v, allowed are %v", r.Overlap, overlap)
	}
	if r.Dark > dark {
		h.fail("an address was dark for %v, allowed are %v", r.Dark, dark)
	}
	return r
}

// overSeeds runs a test for a number of seeds, on all cores, and reports the
// lowest seed that failed.
func overSeeds(t *testing.T, count uint64, test func(cfg sim.Config) *history) {
	t.Helper()
	begin := *first
	if begin == 0 {
		begin = rand.Uint64() >> 1
	}
	var next, failed atomic.Uint64
	failed.Store(^uint64(0))
	var mu sync.Mutex
	var text string
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < count && i < failed.Load(); i = next.Add(1) - 1 {
				if i > 0 && i%20_000 == 0 {
					fmt.Printf("%d of %d histories\n", i, count)
				}
				h := test(sim.DefaultConfig(begin + i))
				if h.wrong == "" {
					continue
				}
				mu.Lock()
				if i < failed.Load() {
					failed.Store(i)
					text = fmt.Sprintf("%s\nhistory: %s\nagain with: go test ./internal/core/sim -run '^%s$' -first-seed %d -seeds 1",
						h.wrong, strings.Join(h.done, ", "), t.Name(), begin+i)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if text != "" {
		t.Fatal(text)
	}
}

// some is the number of seeds for the smaller tests.
func some() uint64 { return max(1, *seeds/50) }

// TestJoin lets nodes join, one after another, on lossy links: no address moves,
// and never do two answer.
func TestJoin(t *testing.T) {
	t.Parallel()
	overSeeds(t, some(), func(cfg sim.Config) *history {
		cfg.Loss, cfg.Duplicates = 10, 10
		h := newHistory(cfg, 2+int(cfg.Seed%4), 6)
		for _, n := range []lb.NodeName{"j0", "j1"} {
			h.do("join "+string(n), func() { h.Start(n) })
			h.Run(6 * time.Second)
		}
		h.nodes = append(h.nodes, "j0", "j1")
		if r := h.check(0, 0); r.Moves != 0 {
			h.fail("%d addresses moved", r.Moves)
		}
		return h
	})
}

// TestLeave stops nodes on purpose, one after another, as a rollout does:
// nothing is ever dark, and two answer for no longer than messages take.
func TestLeave(t *testing.T) {
	t.Parallel()
	overSeeds(t, some(), func(cfg sim.Config) *history {
		h := newHistory(cfg, 2+int(cfg.Seed%4), 6)
		for _, n := range h.nodes {
			h.do("leave "+string(n), func() { h.Leave(n) })
			h.Run(time.Second + h.span(3*time.Second))
			h.do("start "+string(n), func() { h.Start(n) })
			h.Run(4 * time.Second)
		}
		h.check(2*cfg.Delay.Max+15*time.Millisecond, 0)
		return h
	})
}

// TestLeaveLossy does the same on links that lose a tenth of all packets.
func TestLeaveLossy(t *testing.T) {
	t.Parallel()
	overSeeds(t, some(), func(cfg sim.Config) *history {
		cfg.Loss, cfg.Duplicates = 10, 10
		h := newHistory(cfg, 3+int(cfg.Seed%3), 6)
		n := h.one()
		h.do("leave "+string(n), func() { h.Leave(n) })
		h.Run(5 * time.Second)
		h.dead[n] = true
		h.check(maxOverlap, 0)
		return h
	})
}

// TestBalance evens out who owns how much, one address at a time, and stops when
// it is even: nothing goes to and fro.
func TestBalance(t *testing.T) {
	t.Parallel()
	overSeeds(t, some(), func(cfg sim.Config) *history {
		cfg.Balance = time.Second
		h := newHistory(cfg, 2+int(cfg.Seed%3), 8)
		h.do("join", func() { h.Start("j0", "j1") })
		h.nodes = append(h.nodes, "j0", "j1")
		wait := 10 * time.Second // to spread
		h.Run(wait)
		r := h.check(maxOverlap, 0)
		if most := int(wait/cfg.Balance) * 2; r.Moves > most {
			h.fail("%d addresses moved in %v", r.Moves, wait)
		}
		h.Run(30 * time.Second)
		r = h.check(maxOverlap, 0)
		if r.Moves > 16 {
			h.fail("%d more moves of 9 addresses", r.Moves)
		}
		h.Run(30 * time.Second)
		if r = h.check(maxOverlap, 0); r.Moves != 0 {
			h.fail("%d addresses still move", r.Moves)
		}
		count := map[lb.NodeName]int{}
		for _, g := range h.Groups() {
			count[h.Answering(g.Key)[0]]++
		}
		for _, a := range h.nodes {
			for _, b := range h.nodes {
				if count[a] > count[b]+1 {
					h.fail("%s owns %d groups, %s %d", a, count[a], b, count[b])
				}
			}
		}
		return h
	})
}

// TestSlowStart has sockets that take longer to open than others wait before they
// urge, and plans that differ for longer than that: so nodes are urged while
// others begin to answer. Two never answer all the same, and nothing stays dark.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	overSeeds(t, 10*some(), func(cfg sim.Config) *history {
		cfg.Opening = sim.Span{Min: 90 * time.Millisecond, Max: 145 * time.Millisecond}
		if cfg.Seed%2 == 0 {
			cfg.Opening.Max = 300 * time.Millisecond // later than ownership.StartLimit
		}
		cfg.Lag.Max = 400 * time.Millisecond
		h := newHistory(cfg, 2+int(cfg.Seed/2%4), 4)
		h.calm(6)
		return h
	})
}
