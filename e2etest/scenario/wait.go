// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	defaultWait = 30 * time.Second
	// Often enough that it adds nothing to what is waited for; a kubectl takes about as long.
	pollEvery = 100 * time.Millisecond
)

func waitCommands() map[string]command {
	return map[string]command{
		"retry": {
			usage: "[-for TIME] [-match REGEXP] [-not REGEXP] [!] COMMAND...",
			help: "Run a command again and again, until it succeeds (with !: until it fails), its output matches -match and does not\n" +
				"    match -not. After TIME (30s) it fails, and shows the last try.",
			run: retry,
		},
		"always": {
			usage: "[-for TIME] [-match REGEXP] [-not REGEXP] [!] COMMAND...",
			help:  "Like retry, but the command must be as wanted every time for that long (5s).",
			run:   always,
		},
	}
}

// poll runs try until it succeeds, and returns its last error when the time is over.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the last try: %w", context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// trial is what retry and always run, and what they want to see.
type trial struct {
	limit      time.Duration
	match, not *regexp.Regexp
	neg        bool
	argv       []string
}

func parseTrial(args []string, limit time.Duration) (trial, error) {
	t := trial{limit: limit}
	f, rest, err := flags(args, "for", "match", "not")
	if err != nil {
		return t, err
	}
	if v, ok := f["for"]; ok {
		if t.limit, err = time.ParseDuration(v); err != nil {
			return t, fmt.Errorf("-for: %w", err)
		}
	}
	for name, re := range map[string]**regexp.Regexp{"match": &t.match, "not": &t.not} {
		if v, ok := f[name]; ok {
			if *re, err = regexp.Compile("(?m)" + v); err != nil {
				return t, fmt.Errorf("-%s: %w", name, err)
			}
		}
	}
	if len(rest) > 0 && rest[0] == "!" {
		t.neg, rest = true, rest[1:]
	}
	if len(rest) == 0 {
		return t, errors.New("want a command")
	}
	t.argv = rest
	return t, nil
}

// check says what is not as wanted.
func (t trial) check(out string, err error) error {
	if err != nil && t.neg {
		// A command that must fail says in its error what the operator would see.
		out, err = out+err.Error(), nil
	} else if t.neg {
		return fmt.Errorf("%s succeeded: %s", t.argv[0], strings.TrimSpace(out))
	}
	switch {
	case err != nil:
		return err
	case t.match != nil && !t.match.MatchString(out):
		return fmt.Errorf("output does not match %s:\n%s", t.match, out)
	case t.not != nil && t.not.MatchString(out):
		return fmt.Errorf("output matches %s:\n%s", t.not, out)
	}
	return nil
}

func retry(ctx context.Context, s *session, args []string) (string, error) {
	t, err := parseTrial(args, defaultWait)
	if err != nil {
		return "", err
	}
	var out string
	err = poll(ctx, t.limit, func() (err error) {
		out, err = s.dispatch(ctx, t.argv)
		return t.check(out, err)
	})
	return out, err
}

func always(ctx context.Context, s *session, args []string) (string, error) {
	t, err := parseTrial(args, 5*time.Second)
	if err != nil {
		return "", err
	}
	for begun := time.Now(); ; {
		out, err := s.dispatch(ctx, t.argv)
		if err := t.check(out, err); err != nil {
			return out, fmt.Errorf("after %v: %w", time.Since(begun).Round(time.Millisecond), err)
		}
		if time.Since(begun) >= t.limit {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}
