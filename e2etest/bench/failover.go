// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/checker"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
	"github.com/heraldlb/herald/e2etest/wire"
)

const (
	clientEvery = 5 * time.Millisecond
	// failLimit is how long a fail-over may take before it counts as never.
	failLimit = 30 * time.Second
	// afterward is watched after a fail-over and after the way back, for two owners; and that long nothing must be written before another.
	afterward = 3 * time.Second
)

// failManifests: two of the three nodes may announce, so that all addresses are at one node and move to the other. The Pods are
// on the third, which stays.
const failManifests = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: load, namespace: %[1]s}
spec:
  addresses: [10.60.16.0/20]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node3}
      containers: [{name: server, image: example/server}]
`

const failAdvertisement = `
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: load, namespace: %[1]s}
spec:
  nodeSelectors:
  - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%[2]s]}]
`

// fault is a way to lose an owner. Each is told by what it does to a node, and how that is undone.
type fault struct {
	name     string // of the results
	title    string
	runs     func(Options) int
	do, undo func(context.Context, Options, *failing, string) error
	// forgets: the old owner misses the change, and lives.
	forgets bool
	// anew: it is started again at once, and may well be the first to answer.
	anew bool
}

func faults() []fault {
	signal := func(s unix.Signal) func(context.Context, Options, *failing, string) error {
		return func(ctx context.Context, o Options, f *failing, node string) error {
			p, err := on(ctx, f.Lab, programs(o)["speaker"], node)
			if err != nil {
				return err
			}
			return p.signal(s)
		}
	}
	kill := func(ctx context.Context, o Options, f *failing, node string) error {
		p, err := on(ctx, f.Lab, programs(o)["speaker"], node)
		if err != nil {
			return err
		}
		if err := p.signal(unix.SIGKILL); err != nil {
			return err
		}
		for ctx.Err() == nil && readProc(p.pid, "cmdline") != "" { // empty as soon as it cannot answer any more
			time.Sleep(time.Millisecond)
		}
		return ctx.Err()
	}
	few := func(o Options) int { return max(1, o.Cuts/2) }
	return []fault{
		{"l2_cable_cut", "cut the cable", func(o Options) int { return o.Cuts },
			func(ctx context.Context, _ Options, f *failing, node string) error { return f.Cut(ctx, node) },
			func(ctx context.Context, _ Options, f *failing, node string) error { return f.Plug(ctx, node) }, true, false},
		{"l2_freeze", "freeze the speaker", few, signal(unix.SIGSTOP), signal(unix.SIGCONT), true, false},
		{"l2_kill", "kill the speaker", few, kill, replaced, false, true},
	}
}

// failing is a lab whose addresses are all at one of two nodes.
type failing struct {
	*cluster
	answers *probe.Answers
	targets []netip.Addr
	names   map[wire.MAC]string

	overlaps []time.Duration // without a partition or pause
	healing  []time.Duration // after one, or after a pause
	requests []float64
}

// failovers measures how long it takes until all 1,000 addresses are answered again when their owner is lost, and, in the same lab,
// that nothing moves and no connection fails when it should not.
func failovers(ctx context.Context, o Options) (rs []Result, err error) {
	c, err := up(ctx, o, lab.Options{Nodes: 3, Subnet: netip.MustParsePrefix("10.60.0.0/16"), Audit: true})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	defer func() { c.keepLogs(o, rs) }()
	f := &failing{cluster: c, names: map[wire.MAC]string{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := f.prepare(ctx, o); err != nil {
		return nil, err
	}
	var steps []measurement
	for _, ft := range faults() {
		steps = append(steps, measurement{o.wantsAny(ft.name+"_p50_ms", ft.name+"_p99_ms", ft.name+"_client_p50_ms", "l2_two_owner_ms_max", "l2_two_owner_healing_ms_max",
			"api_requests_per_failover"), func(ctx context.Context, o Options, _ *cluster) ([]Result, error) { return f.lose(ctx, o, ft) }})
	}
	steps = append(steps,
		measurement{o.wantsAny("l2_handover_failed_connections"), f.handOvers},
		measurement{o.wantsAny("speaker_cpu_percent_idle"), f.idleCPU},
		measurement{o.wantsAny("speaker_cpu_percent_arp_storm"), f.storm},
		measurement{o.wantsAny("l2_false_moves_under_load", "l2_load_machine_stall_ms_max"), f.load},
	)
	more, err := measureAll(ctx, o, c, steps)
	rs = append(rs, more...)
	if len(f.overlaps) > 0 {
		rs = append(rs, Result{"l2_two_owner_ms_max", milliseconds(slices.Max(f.overlaps)), "ms"})
	}
	if len(f.healing) > 0 {
		rs = append(rs, Result{"l2_two_owner_healing_ms_max", milliseconds(slices.Max(f.healing)), "ms"})
	}
	if len(f.requests) > 0 {
		rs = append(rs, Result{"api_requests_per_failover", probe.Percentile(f.requests, 50), "requests"})
	}
	return rs, err
}

// prepare creates the Services, gathers their addresses at node1, and begins to ask for them.
func (f *failing) prepare(ctx context.Context, o Options) error {
	if err := f.apply(ctx, fmt.Sprintf(failManifests+"---"+failAdvertisement, o.Namespace, "node1")); err != nil {
		return err
	}
	if err := wait(ctx, readyLimit, f.serversReady); err != nil {
		return err
	}
	if _, err := f.burst(ctx, o, o.Services, "server"); err != nil {
		return err
	}
	for _, n := range f.status.Nodes {
		mac, err := wire.ParseMAC(n.MAC)
		if err != nil {
			return err
		}
		f.names[mac] = n.Name
	}
	var err error
	if f.targets, err = f.addresses(ctx); err != nil {
		return err
	}
	err = f.Do("client1", func() (err error) {
		f.answers, err = probe.NewAnswers("eth0", f.status.Clients[0].IPs[0], f.targets)
		return err
	})
	if err != nil {
		return err
	}
	go func() { _ = f.answers.Run(ctx) }() // an error shows as addresses that are never answered
	if err := f.allAnswered(ctx); err != nil {
		return err
	}
	return f.apply(ctx, fmt.Sprintf(failAdvertisement, o.Namespace, "node1, node2"))
}

func (f *failing) allAnswered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	_, err := f.answers.Wait(ctx)
	return err
}

// owner is the one node that answers for all addresses.
func (f *failing) owner() (string, wire.MAC, error) {
	by := f.answers.By()
	for mac, n := range by {
		if name := f.names[mac]; n == len(f.targets) && name != "" {
			return name, mac, nil
		}
	}
	return "", wire.MAC{}, fmt.Errorf("no single node answers for all addresses: %v", by)
}

// settled waits until nothing is written any more and one node answers for all addresses.
func (f *failing) settled(ctx context.Context, o Options) (string, wire.MAC, error) {
	if err := f.atRestFor(ctx, afterward); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	return f.gathered(ctx)
}

// gathered waits until one node answers for all addresses.
func (f *failing) gathered(ctx context.Context) (string, wire.MAC, error) {
	f.answers.Except(wire.MAC{}) // ask all of them once more
	if err := f.allAnswered(ctx); err != nil {
		return "", wire.MAC{}, err
	}
	return f.owner()
}

func (f *failing) lose(ctx context.Context, o Options, ft fault) ([]Result, error) {
	if _, _, err := f.settled(ctx, o); err != nil {
		return nil, err
	}
	var all, client []float64
	for i := range ft.runs(o) {
		took, seen, err := f.loseOnce(ctx, o, ft)
		if err != nil {
			return nil, fmt.Errorf("%s, run %d: %w", ft.title, i+1, err)
		}
		all, client = append(all, milliseconds(took)), append(client, milliseconds(seen))
		o.say("%s %d: all answered after %.0f ms; a client's gap %.0f ms; two owners for %v; API requests in all runs: %v", ft.title, i+1, all[i], client[i],
			f.overlaps[len(f.overlaps)-1].Round(time.Millisecond), f.requests)
	}
	return []Result{
		{ft.name + "_p50_ms", probe.Percentile(all, 50), "ms"},
		{ft.name + "_p99_ms", probe.Percentile(all, 99), "ms"},
		{ft.name + "_client_p50_ms", probe.Percentile(client, 50), "ms"},
	}, nil
}

// loseOnce returns how long it took from the fault until the last of the addresses was answered by another node, and the gap that a
// client saw who opens a connection to one of them every 5 ms.
func (f *failing) loseOnce(ctx context.Context, o Options, ft fault) (took, seen time.Duration, err error) {
	node, mac, err := f.gathered(ctx)
	if err != nil {
		return 0, 0, err
	}
	s := probe.Start(ctx, probe.NewTCP(netip.AddrPortFrom(f.targets[0], 80), clientEvery,
		func(fn func() error) error { return f.Do("client1", fn) }))
	defer func() { _ = s.Stop() }()
	if err := answered(ctx, s); err != nil {
		return 0, 0, fmt.Errorf("before the fault: %w", err)
	}
	overlaps, err := f.watch(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil { // what is measured next finds a whole cluster, and nobody who asks for more than it does itself
			_ = overlaps(o)
			err = errors.Join(err, ft.undo(ctx, o, f, node))
			f.answers.Except(wire.MAC{})
		}
	}()
	f.answers.Except(mac)
	begun := time.Now()
	if err := ft.do(ctx, o, f, node); err != nil {
		return 0, 0, err
	}
	if ft.anew {
		f.answers.Except(wire.MAC{})
	}
	limited, cancel := context.WithTimeout(ctx, failLimit)
	defer cancel()
	last, err := f.answers.Wait(limited)
	if err != nil {
		return 0, 0, err
	}
	if err := f.count(o, ft, begun, last); err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, afterward); err != nil {
		return 0, 0, err
	}
	if err := answered(ctx, s); err != nil {
		return 0, 0, fmt.Errorf("after the fault: %w", err)
	}
	gap := s.LongestSince(begun).Duration()
	f.overlaps = append(f.overlaps, overlaps(o))
	return last.Sub(begun), gap, f.heal(ctx, o, ft, node)
}

// heal undoes the fault and watches what happens then, until nothing is written any more. A node whose cable is plugged in again, or whose speaker goes on after a
// pause, does not know yet what it has missed: two owners are allowed for a second. A new speaker has no such excuse.
func (f *failing) heal(ctx context.Context, o Options, ft fault, node string) error {
	overlaps, err := f.watch(ctx)
	if err != nil {
		return err
	}
	if err := ft.undo(ctx, o, f, node); err != nil {
		return err
	}
	if err := f.atRestFor(ctx, afterward); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	if ft.forgets {
		f.healing = append(f.healing, overlaps(o))
	} else {
		f.overlaps = append(f.overlaps, overlaps(o))
	}
	return nil
}

// count reads from the audit log what Herald asked of the API server in that time. A speaker that starts anew asks for everything, which
// is not the fail-over's doing.
func (f *failing) count(o Options, ft fault, begun, end time.Time) error {
	if ft.anew {
		return nil
	}
	log, err := os.Open(filepath.Join(f.LogDir(), "audit.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	rs, err := probe.Requests(log, begun, end)
	f.requests = append(f.requests, float64(len(rs)))
	for _, r := range rs {
		o.say("asked of the API server meanwhile: %s", r)
	}
	return err
}

// watch starts the two-owners checker; the returned function ends it and returns the longest time for which two machines answered for
// one address.
func (f *failing) watch(ctx context.Context) (func(Options) time.Duration, error) {
	mine := map[netip.Addr]bool{}
	for _, a := range f.targets {
		mine[a] = true
	}
	var w *checker.Watcher
	err := f.Do("lan", func() (err error) {
		w, err = checker.Listen(checker.Config{
			Interface: "lan", Watch: func(a netip.Addr) bool { return mine[a] }, AskFrom: f.status.LAN[0].Addr().Next(),
			Name: func(m wire.MAC) string { return f.names[m] },
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("two-owners checker: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	return func(o Options) time.Duration {
		cancel()
		<-ended
		found, err := w.Overlaps()
		if err != nil {
			o.say("two owners: %v", err)
		}
		longest, ok := checker.Longest(found)
		if ok && longest.Duration() > checker.Limit {
			o.say("%s", w.Explain(longest))
		}
		return longest.Duration()
	}, nil
}
