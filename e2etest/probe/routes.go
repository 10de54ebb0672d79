// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Routes is what a router's kernel forwards by, as "ip -o monitor route" tells it, with the times of the changes.
type Routes struct {
	mu    sync.Mutex // guards what follows
	known map[netip.Addr]routeChange
	err   error
}

// routeChange is the last change of the route to one address.
type routeChange struct {
	route string // empty: there is none
	at    time.Time
}

// WatchRoutes starts the command and follows what it prints until it ends.
func WatchRoutes(monitor *exec.Cmd) (*Routes, error) {
	out, err := monitor.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := monitor.Start(); err != nil {
		return nil, fmt.Errorf("watch the routes: %w", err)
	}
	r := &Routes{known: map[netip.Addr]routeChange{}}
	go func() {
		r.read(out)
		err := monitor.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = fmt.Errorf("the watch of routes ended: %w", err)
	}()
	return r, nil
}

func (r *Routes) read(from io.Reader) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		now := time.Now()
		line, deleted := strings.CutPrefix(lines.Text(), "Deleted ")
		destination, rest, _ := strings.Cut(line, " ")
		address, err := netip.ParseAddr(destination) // of one address there is no prefix length
		if err != nil {
			continue
		}
		if deleted {
			rest = ""
		}
		r.mu.Lock()
		r.known[address] = routeChange{rest, now}
		r.mu.Unlock()
	}
}

// Await waits until ok accepts the route to the address, and returns when it changed to that. A route that is not there is empty.
func (r *Routes) Await(ctx context.Context, limit time.Duration, address netip.Addr, ok func(route string) bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		r.mu.Lock()
		change, err := r.known[address], r.err
		r.mu.Unlock()
		if err != nil {
			return time.Time{}, err
		}
		if ok(change.route) {
			return change.at, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the route to %s is %q and did not change as wanted: %w", address, change.route, ctx.Err())
		case <-ticker.C:
		}
	}
}
