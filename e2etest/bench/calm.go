// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/probe"
	"github.com/heraldlb/herald/e2etest/wire"
)

const (
	calmFor    = 30 * time.Second
	stormFor   = 10 * time.Second
	stormRate  = 20_000
	moveLimit  = 20 * time.Second
	moveToName = "heraldlb.io/l2-move-to"
)

// handOvers opens 200 connections a second to one of the 1,000 addresses while its owner is taken out of service on purpose in one way
// after the other, and counts those that fail.
func (f *failing) handOvers(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	if _, _, err := f.settled(ctx, o); err != nil {
		return nil, err
	}
	s := probe.Start(ctx, probe.NewTCP(netip.AddrPortFrom(f.targets[0], 80), clientEvery,
		func(fn func() error) error { return f.Do("client1", fn) }))
	defer func() { _ = s.Stop() }()
	if err := answered(ctx, s); err != nil {
		return nil, err
	}
	before := 0
	var errs []error
	for _, step := range []struct {
		title string
		do    func(context.Context, Options, string) error
	}{
		{"exclusion label", f.exclude},
		{"SIGTERM", f.terminate},
		{"rollout", f.rollOut},
		{"drain", f.drain},
		{"move of one address", f.move},
	} {
		owner := f.names[f.answers.Who(f.targets[0])]
		overlaps, err := f.watch(ctx)
		if err != nil {
			return nil, err
		}
		if err := step.do(ctx, o, owner); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.title, err))
		}
		if err := f.atRestFor(ctx, afterward); err != nil {
			o.say("it does not come to rest: %v", err)
		}
		longest := overlaps(o)
		f.overlaps = append(f.overlaps, longest)
		failed := s.Failed()
		o.say("%s: %d connections failed, two owners for %v", step.title, failed-before, longest.Round(time.Millisecond))
		before = failed
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	tried, _, _ := s.Counts()
	o.say("%d connections, of which %d failed; %d more were accepted and reset at once", tried, s.Failed(), s.Cut())
	return []Result{{"l2_handover_failed_connections", float64(s.Failed()), "connections"}}, errors.Join(errs...)
}

// moved waits until another machine than this one answers for all addresses.
func (f *failing) moved(ctx context.Context, from wire.MAC) error {
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	f.answers.Except(from)
	_, err := f.answers.Wait(ctx)
	return err
}

func (f *failing) exclude(ctx context.Context, _ Options, owner string) error {
	from := f.answers.Who(f.targets[0])
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	if _, _, err := f.Kubectl(ctx, nil, "label", "node", owner, label+"="); err != nil {
		return err
	}
	if err := f.moved(ctx, from); err != nil {
		return err
	}
	_, _, err := f.Kubectl(ctx, nil, "label", "node", owner, label+"-")
	return err
}

func (f *failing) terminate(ctx context.Context, o Options, owner string) error {
	from := f.answers.Who(f.targets[0])
	p, err := on(ctx, f.Lab, programs(o)["speaker"], owner)
	if err != nil {
		return err
	}
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	return f.moved(ctx, from)
}

// rollOut replaces all speakers, one after the other. Where the addresses are in the end is not said.
func (f *failing) rollOut(ctx context.Context, o Options, _ string) error {
	if _, _, err := f.Kubectl(ctx, nil, "rollout", "restart", "daemonset", "-n", o.Namespace); err != nil {
		return err
	}
	_, _, err := f.Kubectl(ctx, nil, "rollout", "status", "daemonset", "-n", o.Namespace, "--timeout=2m")
	return err
}

// drain leaves the speakers, which belong to a DaemonSet, where they are.
func (f *failing) drain(ctx context.Context, _ Options, owner string) error {
	if _, _, err := f.Kubectl(ctx, nil, "drain", owner, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=1m"); err != nil {
		return err
	}
	_, _, err := f.Kubectl(ctx, nil, "uncordon", owner)
	return err
}

// move asks for the other node by annotation.
func (f *failing) move(ctx context.Context, o Options, owner string) error {
	if len(o.Manifests) > 0 {
		return nil // only Herald knows the annotation
	}
	to := map[string]string{"node1": "node2", "node2": "node1"}[owner]
	wish := fmt.Sprintf("%s=%s %s", moveToName, to, time.Now().UTC().Format(time.RFC3339))
	if _, _, err := f.Kubectl(ctx, nil, "annotate", "service", prefix+"-0000", wish); err != nil {
		return err
	}
	return wait(ctx, moveLimit, func(context.Context) error {
		if now := f.names[f.answers.Who(f.targets[0])]; now != to {
			return fmt.Errorf("%s is still at %s", f.targets[0], now)
		}
		return nil
	})
}

// mostOwned returns the node that answers for most of the addresses: a move may
// have taken one of them elsewhere.
func (f *failing) mostOwned() string {
	count := map[string]int{}
	best := ""
	for _, a := range f.targets {
		node := f.names[f.answers.Who(a)]
		if count[node]++; count[node] > count[best] {
			best = node
		}
	}
	return best
}

// quietly finds the speaker that owns most, waits for rest, and stops the bench's own requests for that time.
func (f *failing) quietly(ctx context.Context, o Options, work func(instance) (float64, error)) (float64, error) {
	if err := f.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	owner := f.mostOwned()
	p, err := on(ctx, f.Lab, programs(o)["speaker"], owner)
	if err != nil {
		return 0, err
	}
	f.answers.Quiet(true)
	defer f.answers.Quiet(false)
	if err := sleep(ctx, time.Second); err != nil {
		return 0, err
	}
	return work(p)
}

// idleCPU measures the owner's speaker while nothing happens.
func (f *failing) idleCPU(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	percent, err := f.quietly(ctx, o, func(p instance) (float64, error) {
		return cpuPercent(p, func() error { return sleep(ctx, calmFor) })
	})
	return []Result{{"speaker_cpu_percent_idle", percent, "%"}}, err
}

// storm measures it while the client asks 20,000 times a second for addresses of nobody.
func (f *failing) storm(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	foreign := probe.Sequence(netip.MustParseAddr("10.60.128.0"), 5000)
	var sent int
	percent, err := f.quietly(ctx, o, func(p instance) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, stormFor)
		defer cancel()
		return cpuPercent(p, func() error {
			return f.Do("client1", func() (err error) {
				sent, err = probe.Flood(ctx, "eth0", f.status.Clients[0].IPs[0], foreign, stormRate)
				return err
			})
		})
	})
	o.say("%.0f ARP requests a second", float64(sent)/stormFor.Seconds())
	return []Result{{"speaker_cpu_percent_arp_storm", percent, "%"}}, err
}

// load keeps all cores busy and counts the addresses that another machine answers for than before: nothing has failed, so none should.
// It says, too, whether the machine itself stood still meanwhile.
func (f *failing) load(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	if _, _, err := f.settled(ctx, o); err != nil {
		o.say("before the load: %v", err) // after a move of one address two nodes answer
	}
	overlaps, err := f.watch(ctx)
	if err != nil {
		return nil, err
	}
	before := f.answers.Moves()
	o.say("%d busy loops on %d cores for %v", 2*runtime.NumCPU(), runtime.NumCPU(), o.Load)
	ctx, cancel := context.WithTimeout(ctx, o.Load)
	defer cancel()
	stood := stalls(ctx, o)
	var hogs []*exec.Cmd
	for range 2 * runtime.NumCPU() {
		hog := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			return nil, fmt.Errorf("keep a core busy: %w", err)
		}
		hogs = append(hogs, hog)
	}
	for _, hog := range hogs {
		_ = hog.Wait() // ended by ctx
	}
	f.overlaps = append(f.overlaps, overlaps(o))
	longest, err := stood()
	if err != nil {
		o.say("whether the machine stood still is not known: %v", err)
	}
	return []Result{
		{"l2_false_moves_under_load", float64(f.answers.Moves() - before), "moves"},
		{"l2_load_machine_stall_ms_max", milliseconds(longest), "ms"},
	}, nil
}
