// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
)

const (
	cutEvery = 5 * time.Millisecond
	// calm is how long the speakers must agree before the next cut.
	calm = 5 * time.Second
)

var errNotYet = errors.New("not yet")

func orNotYet(err error) error {
	if err == nil {
		return errNotYet
	}
	return err
}

// cuts pulls the cable of the node that owns the quickstart's address again and again. The gap is what the client
// sees: from the last connection that was accepted before to the first one after, with a new connection begun every 5 ms.
func cuts(ctx context.Context, o Options) ([]Result, error) {
	c, err := up(ctx, o, lab.Options{})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	if _, errOut, err := c.Kubectl(ctx, nil, "apply", "-f", filepath.Join(o.Root, "config", "samples", "quickstart.yaml")); err != nil {
		return nil, fmt.Errorf("kubectl apply: %w: %s", err, errOut)
	}
	s := probe.Start(ctx, probe.NewTCP(netip.MustParseAddrPort("192.168.2.128:80"), cutEvery,
		func(fn func() error) error { return c.Do("client1", fn) }))
	defer func() { _ = s.Stop() }()
	var gaps []float64
	for i := range o.Cuts {
		gap, err := cutOnce(ctx, o, c, s)
		if err != nil {
			return nil, fmt.Errorf("cut %d: %w", i+1, err)
		}
		gaps = append(gaps, float64(gap.Microseconds())/1000)
		o.say("cut %d: %.0f ms", i+1, gaps[i])
	}
	return []Result{
		{"l2_cable_cut_p50_ms", probe.Percentile(gaps, 50), "ms"},
		{"l2_cable_cut_max_ms", probe.Percentile(gaps, 100), "ms"},
	}, nil
}

func cutOnce(ctx context.Context, o Options, c *cluster, s *probe.Session) (time.Duration, error) {
	owner, err := c.agreed(ctx, o.Namespace)
	if err != nil {
		return 0, err
	}
	if err := answered(ctx, s); err != nil {
		return 0, fmt.Errorf("before the cut: %w", err)
	}
	begun := time.Now()
	if err := c.Cut(ctx, owner); err != nil {
		return 0, err
	}
	// So long that what was on its way before the cut is not taken for an answer after it.
	if err := sleep(ctx, time.Second); err != nil {
		return 0, err
	}
	if err := answered(ctx, s); err != nil {
		return 0, fmt.Errorf("after the cut: %w", err)
	}
	gap := s.LongestSince(begun)
	return gap.Duration(), c.Plug(ctx, owner)
}

func answered(ctx context.Context, s *probe.Session) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return s.WaitAnswers(ctx, 50)
}

// agreed waits until all speakers are ready and the same single node has said for a while that it announces the Service.
func (c *cluster) agreed(ctx context.Context, namespace string) (owner string, err error) {
	since := time.Now()
	err = wait(ctx, readyLimit, func(ctx context.Context) error {
		now, err := c.announcer(ctx, namespace)
		if err != nil || now != owner {
			owner, since = now, time.Now()
			return fmt.Errorf("announced by %q: %w", now, orNotYet(err))
		}
		if time.Since(since) < calm {
			return errNotYet
		}
		return nil
	})
	return owner, err
}

func (c *cluster) announcer(ctx context.Context, namespace string) (string, error) {
	out, _, err := c.Kubectl(ctx, nil, "get", "pods", "-n", namespace, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	if err != nil || strings.Contains(string(out), "False") {
		return "", fmt.Errorf("pods ready: %s: %w", out, orNotYet(err))
	}
	out, _, err = c.Kubectl(ctx, nil, "get", "servicel2statuses", "-n", namespace, "-o", "jsonpath={.items[*].status.node}")
	if err != nil || len(strings.Fields(string(out))) != 1 {
		return "", fmt.Errorf("announced by %q: %w", out, orNotYet(err))
	}
	return string(out), nil
}

// wait polls until try succeeds.
func wait(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
