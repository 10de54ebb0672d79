// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/burst"
	"github.com/heraldlb/herald/e2etest/probe"
)

func serviceCommands() map[string]command {
	return map[string]command{
		"services": {
			usage: "create N | created | wait N | distinct | list FILE",
			help: "create: begin to create N Services of type LoadBalancer with 16 clients, in the background; created: wait until that is done.\n" +
				"    wait: until at least N Services have an address (60s). distinct: no two have the same. list: write all to a file.",
			run: services,
		},
		"save": {
			usage: "NAME",
			help:  "Put what the last command printed into $NAME.",
			run: func(_ context.Context, s *session, args []string) (string, error) {
				if len(args) != 1 {
					return "", fmt.Errorf("want a name, got %q", args)
				}
				s.script.Setenv(args[0], strings.TrimSpace(s.script.ReadFile("stdout")))
				return "", nil
			},
		},
		"settled": {
			usage: "TIME",
			help: "Wait until nothing is written any more, then watch for that long that nothing is: no request changes an object, except what a cluster\n" +
				"    without Herald writes too (leases, nodes, Pods, endpoints, tokens).",
			run: settled,
		},
	}
}

const burstPrefix = "burst"

func services(ctx context.Context, s *session, args []string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(args) == 0 || len(args) > 2 {
		return "", fmt.Errorf("want create N, created, wait N, distinct or list FILE, got %q", args)
	}
	arg := ""
	if len(args) == 2 {
		arg = args[1]
	}
	switch args[0] {
	case "create":
		n, err := strconv.Atoi(arg)
		if err != nil || s.creating != nil {
			return "", fmt.Errorf("create %q: want a number, once", arg)
		}
		s.creating = make(chan error, 1)
		go func() { s.creating <- burst.Create(s.ctx, r.kube, "default", burstPrefix, "server", n) }()
		return "", nil
	case "created":
		if s.creating == nil {
			return "", errors.New("nothing is being created")
		}
		return "", <-s.creating
	case "wait":
		n, err := strconv.Atoi(arg)
		if err != nil {
			return "", fmt.Errorf("wait: %w", err)
		}
		return "", waitAddressed(ctx, r, n)
	}
	list, _, err := burst.List(ctx, r.kube)
	if err != nil {
		return "", err
	}
	switch args[0] {
	case "distinct":
		return burst.Table(list), burst.Distinct(list)
	case "list":
		return "", os.WriteFile(s.script.MkAbs(arg), []byte(burst.Table(list)), 0o600)
	}
	return "", fmt.Errorf("services cannot %q", args[0])
}

func waitAddressed(ctx context.Context, r *running, n int) error {
	return poll(ctx, time.Minute, func() error {
		list, _, err := burst.List(ctx, r.kube)
		if err != nil {
			return err
		}
		if have := burst.Addressed(list); have < n {
			return fmt.Errorf("%d of %d Services have an address, want %d", have, len(list), n)
		}
		return nil
	})
}

// settleLimit is how long a cluster may take to come to rest.
const settleLimit = time.Minute

func settled(ctx context.Context, s *session, args []string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(args) != 1 {
		return "", fmt.Errorf("want a time, got %q", args)
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	// At rest: five seconds without a write. Speakers wait a while before they report.
	before, err := writes(ctx, r)
	if err != nil {
		return "", err
	}
	err = poll(ctx, settleLimit, func() error {
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		last := before
		if before, err = writes(ctx, r); err != nil {
			return err
		}
		if n, what := probe.NewWrites(last, before); n > 0 {
			return fmt.Errorf("still writing: %s", strings.Join(what, ", "))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := sleep(ctx, d); err != nil {
		return "", err
	}
	after, err := writes(ctx, r)
	if err != nil {
		return "", err
	}
	if n, what := probe.NewWrites(before, after); n > 0 {
		return "", fmt.Errorf("%g writes within %v of rest: %s", n, d, strings.Join(what, ", "))
	}
	return "", nil
}

func writes(ctx context.Context, r *running) (map[string]float64, error) {
	text, err := r.kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return probe.Writes(bytes.NewReader(text))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
