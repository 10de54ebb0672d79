// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/links"
	"github.com/heraldlb/herald/internal/driver/rawl2"
)

// idle is for how long TestIdle looks at a speaker that has nothing to do.
var idle = flag.Duration("idle", 3*time.Second, "how long TestIdle measures")

// overheard is a detector whose events go to somebody else first.
type overheard struct {
	*detector
	events chan gossip.Event
}

func (o overheard) Events() <-chan gossip.Event { return o.events }

// runEngine adds what answers for addresses, all on the first node.
func runEngine(ctx context.Context, g *errgroup.Group, m messenger, beat func() time.Time, name lb.NodeName, all, addresses int) {
	log := slog.New(slog.DiscardHandler)
	network, answers := links.New(links.Config{Logger: log}), rawl2.New(rawl2.Config{L2: l2.DefaultConfig(), Logger: log})
	e := newEngine(ownership.Config{Self: name}, answers, m, network, nil, func() {}, log)
	e.beat = beat
	for _, run := range []func(context.Context) error{network.Run, answers.Run, e.run} {
		g.Go(func() error { return run(ctx) })
	}
	plan := plannedGroups{}
	for i := range addresses {
		ip := netip.AddrFrom4([4]byte{10, 99, byte(1 + i/250), byte(i % 250)})
		plan.groups = append(plan.groups, announce.Group{
			Key: ip, Addresses: []netip.Addr{ip}, Candidates: []announce.Candidate{{Node: "n0"}},
		})
	}
	for i := range all {
		if other := lb.NodeName(fmt.Sprint("n", i)); other != name {
			plan.peers.nodes = append(plan.peers.nodes, other)
			plan.peers.addresses = append(plan.peers.addresses, memberAddr(i))
		}
	}
	e.setPlan(plan)
}

// cost is what a process has used up so far.
type cost struct {
	processor time.Duration
	wakeups   int // of all its threads
}

func costOf(t *testing.T, pid int) cost {
	t.Helper()
	var c cost
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, field := range fields[11:13] { // user and system time
		var ticks int
		if _, err := fmt.Sscan(field, &ticks); err != nil {
			t.Fatal(err)
		}
		c.processor += time.Duration(ticks) * 10 * time.Millisecond
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if err != nil {
			continue // ended meanwhile
		}
		for line := range strings.Lines(string(status)) {
			var n int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &n); err == nil {
				c.wakeups += n
			}
		}
	}
	return c
}

// maxWakeups in a second of an idle speaker with 1,000 addresses and two others. It is measured at 220 to 310: the busier the machine, the less
// often two timers share a wake-up. A timer for each address, or one that is always due, makes it thousands.
const maxWakeups = 450

// TestIdle counts how often a speaker wakes up that has nothing to do but to
// answer for 1,000 addresses, which is what it costs. The processor time is told
// with -v; take it from a machine that is idle too, and an -idle of a minute.
func TestIdle(t *testing.T) { //nolint:paralleltest // it measures
	g := startOwners(t, 3, 1000)
	pid := g.procs[0].Process.Pid
	time.Sleep(7 * time.Second) // the last announcement of a take-over comes after five
	before, begin := costOf(t, pid), time.Now()
	time.Sleep(*idle)
	after, took := costOf(t, pid), time.Since(begin)
	perSecond := float64(after.wakeups-before.wakeups) / took.Seconds()
	t.Logf("%.0f wake-ups per second, %.2f %% of a core", perSecond, 100*(after.processor-before.processor).Seconds()/took.Seconds())
	if perSecond > maxWakeups {
		t.Errorf("it wakes up %.0f times a second, more than %d", perSecond, maxWakeups)
	}
}

func TestUntilBeat(t *testing.T) {
	t.Parallel()
	const most = ownership.TickInterval
	for _, tt := range []struct{ beat, want time.Duration }{
		{30 * time.Millisecond, 30 * time.Millisecond},
		{most, most},
		{most + 1, most}, // too late for the machine
		{-time.Millisecond, most - time.Millisecond}, // it is at work
		{0, most},
		{-time.Hour, most}, // it has stopped
	} {
		if got := untilBeat(tt.beat); got != tt.want {
			t.Errorf("with a beat in %v it waits for %v, want %v", tt.beat, got, tt.want)
		}
	}
}
