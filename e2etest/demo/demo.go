// SPDX-License-Identifier: Apache-2.0

// Package demo shows Herald at work in a lab, from nothing to a cut cable, and says what it does as it does it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
)

// Options say how to run the demo.
type Options struct {
	// Out receives the story.
	Out io.Writer
	// Root is the top of the source tree.
	Root string
	// Keep leaves the lab running at the end.
	Keep bool
}

const (
	keptName  = "demo"
	namespace = "metallb-system"
	service   = "my-lb"
	client    = "client1"
	// waitLimit is for anything that should take a second or two.
	waitLimit = 30 * time.Second
	downLimit = 20 * time.Second
)

// vip is the first address of the sample pool.
func vip() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 2, 128}) }

// Run plays the demo. The lab is gone when it returns, however it ends, unless Keep asks otherwise.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{teller: newTeller(o.Out), opts: o}
	d.title("Herald: a cluster without a cloud, a Service with an address, and a cable that is cut")
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.finish(context.WithoutCancel(ctx)))
	}()
	for _, step := range []func(context.Context) error{d.apply, d.inspect, d.reach, d.cut, d.after} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type demo struct {
	*teller
	opts  Options
	lab   *lab.Lab
	owner string
}

func (d *demo) start(ctx context.Context) (err error) {
	d.step("Start a cluster of 3 nodes and a client on 192.168.2.0/24; install Herald with Helm into " + namespace)
	name := fmt.Sprintf("demo-%d", os.Getpid())
	if d.opts.Keep {
		name = keptName
	}
	d.lab, err = lab.Up(ctx, lab.Options{Name: name, Root: d.opts.Root, Progress: d.lines()})
	if err != nil {
		return err
	}
	return d.kubectl(ctx, "get", "pods", "-n", namespace, "-o", "wide")
}

func (d *demo) apply(ctx context.Context) error {
	d.step("Apply config/samples/quickstart.yaml, as written for MetalLB")
	if err := d.kubectl(ctx, "apply", "-f", filepath.Join(d.opts.Root, "config", "samples", "quickstart.yaml")); err != nil {
		return err
	}
	if err := d.until(ctx, vip().String(), "get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"); err != nil {
		return err
	}
	d.say("the Service has its address")
	if err := d.until(ctx, "^True True$", "get", "pods", "-l", "app=nginx", "-o",
		`jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`); err != nil {
		return err
	}
	if err := d.findOwner(ctx, ""); err != nil {
		return err
	}
	d.say("both Pods are ready, and " + d.owner + " answers for the address")
	return d.kubectl(ctx, "get", "service", service)
}

func (d *demo) inspect(ctx context.Context) error {
	d.step("Look at it with kubectl")
	if err := d.kubectl(ctx, "get", "ipaddresspools,l2advertisements,servicel2statuses", "-n", namespace); err != nil {
		return err
	}
	if err := d.until(ctx, "True", "get", "service", service, "-o",
		`jsonpath={.status.conditions[?(@.type=="heraldlb.io/Announced")].status}`); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "describe", "service", service); err != nil {
		return err
	}
	// kubectl describe does not print the conditions of a Service.
	return d.kubectl(ctx, "get", "service", service, "-o",
		`jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}`)
}

// podPattern finds who answered.
var podPattern = regexp.MustCompile(`(?m)^pod=(.+)$`)

func (d *demo) reach(ctx context.Context) error {
	d.step("Reach both Pods from the client, a host outside the cluster that knows nothing but its LAN")
	seen := map[string]int{}
	err := poll(ctx, func() error {
		out, err := d.lab.Exec(ctx, client, "curl", "-sS", "-f", "--max-time", "2", "http://"+vip().String()+"/")
		if err != nil {
			return err
		}
		m := podPattern.FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("an answer that names no Pod: %q", out)
		}
		if seen[string(m[1])]++; seen[string(m[1])] == 1 {
			d.command(client, "curl http://"+vip().String()+"/", string(out))
		}
		if len(seen) < 2 {
			return fmt.Errorf("only these Pods have answered: %v", seen)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reach both Pods: %w", err)
	}
	return d.exec(ctx, client, "ip", "neighbour", "show", vip().String())
}

func (d *demo) cut(ctx context.Context) error {
	d.step("Cut the cable of " + d.owner + ", while the client opens a new connection every 5 ms")
	s := probe.Start(ctx, probe.NewTCP(netip.AddrPortFrom(vip(), 80), 5*time.Millisecond,
		func(fn func() error) error { return d.lab.Do(client, fn) }))
	wait := func(what string) error {
		ctx, cancel := context.WithTimeout(ctx, waitLimit)
		defer cancel()
		if err := s.WaitAnswers(ctx, 50); err != nil {
			_ = s.Stop()
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	if err := wait("before the cut"); err != nil {
		return err
	}
	cutAt := time.Now()
	if err := d.lab.Cut(ctx, d.owner); err != nil {
		return errors.Join(err, s.Stop())
	}
	d.say("the cable is cut")
	if err := wait("after the cut"); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	tried, accepted, _ := s.Counts()
	gap := s.Longest()
	d.say(fmt.Sprintf("the client gets answers again (%d of %d connections were accepted, %.1f s after the cut)",
		accepted, tried, time.Since(cutAt).Seconds()))
	d.highlight(fmt.Sprintf("measured gap, last answer to first answer: %d ms", gap.Duration().Milliseconds()))
	return nil
}

func (d *demo) after(ctx context.Context) error {
	d.step("See who answers now")
	if err := d.findOwner(ctx, d.owner); err != nil {
		return err
	}
	d.say(d.owner + " says that it announces the address")
	if err := d.exec(ctx, client, "ip", "neighbour", "show", vip().String()); err != nil {
		return err
	}
	return d.exec(ctx, client, "curl", "-sS", "-f", "--max-time", "2", "--retry", "5", "--retry-all-errors", "http://"+vip().String()+"/")
}

func (d *demo) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downLimit)
	defer cancel()
	if d.opts.Keep {
		d.step("Leave the lab running: bin/lab --name " + keptName + " shell, and bin/lab --name " + keptName + " down to end it")
		return d.lab.Detach()
	}
	d.step("Clean up: end the lab, which leaves nothing behind")
	err := d.lab.Down(ctx)
	d.end()
	return err
}

// findOwner waits until exactly one node, another than old, says that it announces the Service.
func (d *demo) findOwner(ctx context.Context, old string) error {
	return poll(ctx, func() error {
		out, _, err := d.lab.Kubectl(ctx, nil, "get", "servicel2statuses", "-n", namespace, "-o", "jsonpath={.items[*].status.node}")
		if err != nil {
			return err
		}
		owners := strings.Fields(string(out))
		if len(owners) != 1 || owners[0] == old {
			return fmt.Errorf("%s is announced by %q", vip(), owners)
		}
		d.owner = owners[0]
		return nil
	})
}

func (d *demo) until(ctx context.Context, pattern string, args ...string) error {
	re := regexp.MustCompile(pattern)
	return poll(ctx, func() error {
		out, errOut, err := d.lab.Kubectl(ctx, nil, args...)
		if err != nil {
			return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errOut)
		}
		if !re.Match(out) {
			return fmt.Errorf("kubectl %s: %q, want %s", strings.Join(args, " "), out, pattern)
		}
		return nil
	})
}

func poll(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", waitLimit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) kubectl(ctx context.Context, args ...string) error {
	out, errOut, err := d.lab.Kubectl(ctx, nil, args...)
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errOut)
	}
	shown := slices.Clone(args)
	for i, a := range shown {
		if strings.ContainsAny(a, " {") {
			shown[i] = "'" + a + "'"
		}
		if rel, err := filepath.Rel(d.opts.Root, a); err == nil && filepath.IsAbs(a) {
			shown[i] = rel
		}
	}
	d.command("", "kubectl "+strings.Join(shown, " "), string(out))
	return nil
}

func (d *demo) exec(ctx context.Context, where string, argv ...string) error {
	out, err := d.lab.Exec(ctx, where, argv...)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", where, strings.Join(argv, " "), err)
	}
	d.command(where, strings.Join(argv, " "), string(out))
	return nil
}
