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

func measureCommands() map[string]command {
	return map[string]command{
		"measure": {
			usage: "[-from WHERE] [-every TIME] ADDRESS:PORT...",
			help:  "From now on, open a new connection to that address, or to the next of them, every TIME (5ms), from client1, and wait for the first ones to be accepted.",
			run:   measure,
		},
		"answered": {
			usage: "[-for TIME] [N]",
			help:  "Wait until N (20) further connections of measure are accepted. Fails after TIME (30s).",
			run:   answered,
		},
		"gap": {
			usage: "[-max TIME] [-failed N]",
			help:  "End measure, and print the longest time between two accepted connections, also as $gap. Fails if it is longer than -max, or if more than N connections were refused or not accepted within half a second.",
			run:   gap,
		},
	}
}

const (
	measureEvery = 5 * time.Millisecond
	firstAnswers = 20
)

func measure(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "from", "every")
	if err != nil || len(rest) == 0 {
		return "", errors.Join(err, fmt.Errorf("want ADDRESS:PORT, got %q", rest))
	}
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if s.measured != nil {
		return "", errors.New("measure is running already: end it with gap")
	}
	var targets []netip.AddrPort
	for _, text := range rest {
		target, err := netip.ParseAddrPort(text)
		if err != nil {
			return "", fmt.Errorf("target: %w", err)
		}
		targets = append(targets, target)
	}
	every := measureEvery
	if v, ok := f["every"]; ok {
		if every, err = time.ParseDuration(v); err != nil || every <= 0 {
			return "", fmt.Errorf("-every %q: want a time", v)
		}
	}
	from := cmp.Or(f["from"], "client1")
	s.measured = probe.Start(s.ctx, probe.NewTCP(targets[0], every, func(fn func() error) error { return r.lab.Do(from, fn) }, targets[1:]...))
	return "", s.waitAnswers(ctx, defaultWait, firstAnswers)
}

func (s *session) waitAnswers(ctx context.Context, limit time.Duration, n int) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.measured.WaitAnswers(ctx, n)
}

func answered(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "for")
	if err != nil {
		return "", err
	}
	if s.measured == nil {
		return "", errors.New("measure is not running")
	}
	limit, n := defaultWait, firstAnswers
	if v, ok := f["for"]; ok {
		if limit, err = time.ParseDuration(v); err != nil {
			return "", fmt.Errorf("-for: %w", err)
		}
	}
	if len(rest) == 1 {
		if n, err = strconv.Atoi(rest[0]); err != nil {
			return "", fmt.Errorf("number of answers: %w", err)
		}
	}
	return "", s.waitAnswers(ctx, limit, n)
}

// cuts is how many connections moves may cut during a measurement. One at most for each move can be in its handshake, which takes a tenth of a
// millisecond: with one connection every 5 ms that is one in fifty moves.
const cuts = 3

func gap(_ context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "max", "failed")
	if err != nil || len(rest) != 0 {
		return "", errors.Join(err, fmt.Errorf("unexpected %q", rest))
	}
	if s.measured == nil {
		return "", errors.New("measure is not running")
	}
	m := s.measured
	s.measured = nil
	if err := m.Stop(); err != nil {
		return "", err
	}
	tried, accepted, refused := m.Counts()
	longest := m.Longest().Duration().Round(time.Millisecond)
	s.script.Setenv("gap", longest.String())
	out := fmt.Sprintf("longest gap %v; of %d connections %d were accepted and %d refused; %d failed\n", longest, tried, accepted, refused, m.Failed())
	if cut := m.Cut(); cut > 0 {
		out += fmt.Sprintf("%d of those accepted fell into a move, and were reset right after the handshake\n", cut)
	}
	fmt.Fprintf(s.opts.Trace, "        %s", out)
	if v, ok := f["max"]; ok {
		limit, err := time.ParseDuration(v)
		if err != nil {
			return out, fmt.Errorf("-max: %w", err)
		}
		if longest > limit {
			return out, fmt.Errorf("%s, want at most %v", out, limit)
		}
	}
	if v, ok := f["failed"]; ok {
		limit, err := strconv.Atoi(v)
		if err != nil {
			return out, fmt.Errorf("-failed: %w", err)
		}
		if m.Failed() > limit {
			return out, fmt.Errorf("%s, want at most %d failed", out, limit)
		}
		if m.Cut() > limit+cuts {
			return out, fmt.Errorf("%s, want at most %d reset: a move can meet one handshake", out, limit+cuts)
		}
	}
	return out, nil
}
