// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/e2etest/wire"
)

const (
	// askTick and askPeriod: each address that is asked for at all is asked for once in a period, a few of them every tick.
	askTick   = 10 * time.Millisecond
	askPeriod = 250 * time.Millisecond
	// lookPeriod is the same for addresses that are answered: only to notice when another machine does.
	lookPeriod = 2 * time.Second
)

// Answers asks for many addresses with raw ARP requests from one host, and keeps who answers for each of them. An announcement
// alone is no answer: it makes Answers ask at once, so that the time of the answer is exact although it does not ask often.
type Answers struct {
	sock *wire.Socket
	from netip.Addr

	mu      sync.Mutex // guards what follows
	targets []netip.Addr
	state   map[netip.Addr]*answered
	moves   int
	quiet   bool
}

type answered struct {
	by      wire.MAC
	at      time.Time // of the latest answer
	pending bool
	not     wire.MAC // whose answers do not count while pending
}

// NewAnswers opens the socket in the network namespace of the calling thread; from is the address to ask from. Run must be called.
func NewAnswers(ifname string, from netip.Addr, targets []netip.Addr) (*Answers, error) {
	sock, err := wire.Open(ifname, false)
	if err != nil {
		return nil, err
	}
	a := &Answers{sock: sock, from: from, targets: targets, state: make(map[netip.Addr]*answered, len(targets))}
	for _, t := range targets {
		a.state[t] = &answered{pending: true}
	}
	return a, nil
}

// Run asks and listens until ctx ends.
func (a *Answers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(a.listen)
	g.Go(func() error {
		defer a.sock.Close()
		return a.askAll(ctx)
	})
	return g.Wait()
}

func (a *Answers) listen() error {
	buf := make([]byte, 256)
	for {
		n, at, err := a.sock.Read(buf)
		switch {
		case errors.Is(err, wire.ErrTimeout):
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("listen for answers: %w", err)
		}
		if said, ok := wire.Decode(buf[:n]); ok && a.hear(said, at) {
			a.ask(said.Addr)
		}
	}
}

// hear notes an answer, and says whether to ask for the address now.
func (a *Answers) hear(said wire.Answer, at time.Time) (ask bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.state[said.Addr]
	if s == nil {
		return false
	}
	if said.Announcement {
		return said.MAC != s.by || s.pending && said.MAC != s.not
	}
	if s.pending && said.MAC == s.not {
		return false
	}
	if s.by != said.MAC && s.by != (wire.MAC{}) {
		a.moves++
	}
	s.by, s.at, s.pending = said.MAC, at, false
	return false
}

func (a *Answers) ask(target netip.Addr) {
	// A frame that cannot be sent is a question not asked; it is asked again.
	_ = a.sock.Write(wire.Request(a.sock.MAC(), a.from, target))
}

// askAll goes through the addresses again and again, the pending ones more often.
func (a *Answers) askAll(ctx context.Context) error {
	t := time.NewTicker(askTick)
	defer t.Stop()
	next, slow := 0, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var now []netip.Addr
		now, next = a.some(next, perTick(len(a.targets), askPeriod), true)
		var look []netip.Addr
		look, slow = a.some(slow, perTick(len(a.targets), lookPeriod), false)
		for _, target := range append(now, look...) {
			a.ask(target)
		}
	}
}

// perTick is how many of n to ask for every tick, so that all have their turn in a period.
func perTick(n int, period time.Duration) int {
	ticks := int(period / askTick)
	return (n + ticks - 1) / ticks
}

// some returns those of the next n addresses that are pending, or that are not.
func (a *Answers) some(next, n int, pending bool) ([]netip.Addr, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.quiet {
		return nil, next
	}
	var out []netip.Addr
	for range n {
		if t := a.targets[next%len(a.targets)]; a.state[t].pending == pending {
			out = append(out, t)
		}
		next++
	}
	return out, next % len(a.targets)
}

// Quiet stops the asking, or starts it again.
func (a *Answers) Quiet(quiet bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quiet = quiet
}

// Who returns which machine answered for the address when it was asked last.
func (a *Answers) Who(addr netip.Addr) wire.MAC {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.state[addr]; s != nil {
		return s.by
	}
	return wire.MAC{}
}

// Except begins to wait for answers to all addresses from any machine but this one.
func (a *Answers) Except(not wire.MAC) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.state {
		s.pending, s.not = true, not
	}
}

// Wait waits until no address is pending, and returns when the last of them was answered.
func (a *Answers) Wait(ctx context.Context) (time.Time, error) {
	for {
		last, open := a.progress()
		if len(open) == 0 {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("nobody answers for %d of %d addresses, %s among them: %w", len(open), len(a.targets), open[0], ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (a *Answers) progress() (last time.Time, open []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.targets {
		s := a.state[t]
		if s.pending {
			open = append(open, t)
		}
		if s.at.After(last) {
			last = s.at
		}
	}
	return last, open
}

// By returns how many addresses each machine answered for when it was asked last.
func (a *Answers) By() map[wire.MAC]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[wire.MAC]int{}
	for _, s := range a.state {
		out[s.by]++
	}
	return out
}

// Moves returns how often another machine answered for an address than before.
func (a *Answers) Moves() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moves
}

// Flood asks for the targets in turn at that rate until ctx ends, and returns how many requests it sent. It must be called on a
// thread of the network namespace to ask from.
func Flood(ctx context.Context, ifname string, from netip.Addr, targets []netip.Addr, perSecond int) (sent int, err error) {
	sock, err := wire.Open(ifname, false)
	if err != nil {
		return 0, err
	}
	defer func() {
		sock.Close()
		_, _, _ = sock.Read(nil)
	}()
	frames := make([][]byte, len(targets))
	for i, t := range targets {
		frames[i] = wire.Request(sock.MAC(), from, t)
	}
	begun := time.Now()
	for ctx.Err() == nil {
		due := int(time.Since(begun).Seconds() * float64(perSecond))
		for ; sent < due; sent++ {
			if err := sock.Write(frames[sent%len(frames)]); err != nil {
				return sent, err
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return sent, nil
}

// Sequence returns n addresses, beginning with first.
func Sequence(first netip.Addr, n int) []netip.Addr {
	out := make([]netip.Addr, 0, n)
	for a := first; len(out) < n; a = a.Next() {
		out = append(out, a)
	}
	return slices.Clip(out)
}
