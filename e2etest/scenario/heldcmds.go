// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/heraldlb/herald/e2etest/probe"
)

func heldCommands() map[string]command {
	return map[string]command{
		"hold": {
			usage: "[-from WHERE] [-every TIME] NAME N ADDRESS:PORT",
			help: "Open N connections to that address, from client1, and keep them: idle, or with -every busy with a request every TIME each.\n" +
				"    NAME is for held. They end with the scenario, or with another hold of the same NAME.",
			run: hold,
		},
		"held": {
			usage: "NAME",
			help:  "Ask once more on each of these connections, and print how many are alive, lost (reset or closed) and silent (no answer in 3s).",
			run:   held,
		},
	}
}

func hold(_ context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "from", "every")
	if err != nil || len(rest) != 3 {
		return "", errors.Join(err, fmt.Errorf("want NAME N ADDRESS:PORT, got %q", rest))
	}
	r, err := s.here()
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(rest[1])
	if err != nil || n < 1 {
		return "", fmt.Errorf("%q connections: want a number from 1", rest[1])
	}
	target, err := netip.ParseAddrPort(rest[2])
	if err != nil {
		return "", fmt.Errorf("target: %w", err)
	}
	var every time.Duration
	if v, ok := f["every"]; ok {
		if every, err = time.ParseDuration(v); err != nil || every <= 0 {
			return "", fmt.Errorf("-every %q: want a time", v)
		}
	}
	if old := s.held[rest[0]]; old != nil {
		old.Close()
		delete(s.held, rest[0])
	}
	from := cmp.Or(f["from"], "client1")
	h, err := probe.Hold(s.ctx, target, n, every, func(fn func() error) error { return r.lab.Do(from, fn) })
	if err != nil {
		return "", err
	}
	s.held[rest[0]] = h
	return "", nil
}

func held(_ context.Context, s *session, args []string) (string, error) {
	if len(args) != 1 || s.held[args[0]] == nil {
		return "", fmt.Errorf("want the NAME of connections that are held, got %q", args)
	}
	got := s.held[args[0]].Ask()
	out := fmt.Sprintf("%d alive, %d lost, %d silent\n", got.Alive, got.Lost, got.Silent)
	fmt.Fprintf(s.opts.Trace, "        %s: %s", args[0], out)
	return out, nil
}
