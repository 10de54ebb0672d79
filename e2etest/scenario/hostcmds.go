// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func hostCommands() map[string]command {
	cmds := map[string]command{
		"on": {
			usage: "WHERE COMMAND...",
			help:  "Run a command on a node, a client, cp (the control plane) or lan (the bridge). client1, client2 and node1 to node3 are short for it.",
			run: func(ctx context.Context, s *session, args []string) (string, error) {
				if len(args) < 2 {
					return "", fmt.Errorf("want a place and a command, got %q", args)
				}
				return s.exec(ctx, args[0], args[1:]...)
			},
		},
		"answers": {
			usage: "[-from WHERE] N URL",
			help:  "Ask again and again, from client1, until N different Pods have answered, and print how often each did. Fails after 100 requests and 3 seconds.",
			run:   answers,
		},
	}
	for _, where := range []string{"client1", "client2", "node1", "node2", "node3"} {
		cmds[where] = command{
			usage: "COMMAND...",
			help:  "Run a command there.",
			run: func(ctx context.Context, s *session, args []string) (string, error) {
				return s.exec(ctx, where, args...)
			},
		}
	}
	return cmds
}

func (s *session) exec(ctx context.Context, where string, argv ...string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(argv) > 0 && argv[0] == "curl" {
		// Quiet, but not about failures; and never for longer than a scenario can wait.
		argv = slices.Concat([]string{"curl", "-sS", "-f", "--max-time", "3"}, argv[1:])
	}
	out, err := r.lab.Exec(ctx, where, argv...)
	return string(out), err
}

// It asks that many times and for that long: kube-proxy takes up to a second until it knows all Pods that are ready.
const (
	maxRequests = 100
	proxyLag    = 3 * time.Second
)

// podLine is how the lab's echo server names itself.
var podLine = regexp.MustCompile(`(?m)^pod=(.+)$`)

func answers(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "from")
	if err != nil || len(rest) != 2 {
		return "", errors.Join(err, fmt.Errorf("want N URL, got %q", rest))
	}
	want, err := strconv.Atoi(rest[0])
	if err != nil || want < 1 {
		return "", fmt.Errorf("%q Pods: want a number from 1", rest[0])
	}
	seen := map[string]int{}
	begun, asked := time.Now(), 0
	for ; asked < maxRequests || time.Since(begun) < proxyLag; asked++ {
		out, err := s.exec(ctx, cmp.Or(f["from"], "client1"), "curl", rest[1])
		if err != nil {
			return "", err
		}
		m := podLine.FindStringSubmatch(out)
		if m == nil {
			return "", fmt.Errorf("the answer names no Pod:\n%s", out)
		}
		seen[m[1]]++
		if len(seen) == want {
			return counts(seen), nil
		}
	}
	return counts(seen), fmt.Errorf("%d requests, but only these Pods answered:\n%s", asked, counts(seen))
}

func counts(seen map[string]int) string {
	var b strings.Builder
	for _, pod := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%s %d\n", pod, seen[pod])
	}
	return b.String()
}
