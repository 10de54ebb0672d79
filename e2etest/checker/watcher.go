// SPDX-License-Identifier: Apache-2.0

package checker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/e2etest/wire"
)

// Limit is the longest overlap that is allowed without a partition.
const Limit = 100 * time.Millisecond

const (
	// Every tick asks for a few addresses in turn, so that each of them is asked for every askEvery at most.
	tick       = 25 * time.Millisecond
	asksATick  = 4
	askEvery   = 100 * time.Millisecond
	maxAsked   = asksATick * int(askEvery/tick)
	silence    = 6 * askEvery
	maxClaims  = 500_000
	frameBytes = 256
)

// Config says what to watch.
type Config struct {
	// Interface is the bridge, in the network namespace of the thread that calls Listen.
	Interface string
	// Watch says for which addresses there must be one owner; for all others nothing is kept.
	Watch func(netip.Addr) bool
	// AskFrom is an unused address of the IPv4 network to ask from.
	AskFrom netip.Addr
	// Name translates a MAC into a machine's name; may be nil.
	Name func(wire.MAC) string
}

// Watcher listens on a bridge. Make it with Listen.
type Watcher struct {
	cfg   Config
	sock  *wire.Socket
	start time.Time

	mu     sync.Mutex // guards what follows
	claims []Claim
	lost   int
	asked  []netip.Addr
	known  map[netip.Addr]bool
}

// Listen opens the socket. Frames are kept by Run, which must be called.
func Listen(cfg Config) (*Watcher, error) {
	sock, err := wire.Open(cfg.Interface, true)
	if err != nil {
		return nil, err
	}
	if cfg.Name == nil {
		cfg.Name = wire.MAC.String
	}
	return &Watcher{cfg: cfg, sock: sock, start: time.Now(), known: map[netip.Addr]bool{}}, nil
}

// Run listens and asks until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(w.listen)
	g.Go(func() error {
		defer w.sock.Close()
		return w.ask(ctx)
	})
	return g.Wait()
}

func (w *Watcher) listen() error {
	buf := make([]byte, frameBytes)
	for {
		n, at, err := w.sock.Read(buf)
		switch {
		case errors.Is(err, wire.ErrTimeout):
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("listen on %s: %w", w.cfg.Interface, err)
		}
		if a, ok := wire.Decode(buf[:n]); ok && w.cfg.Watch(a.Addr) {
			w.record(Claim{At: at, Answer: a})
		}
	}
}

func (w *Watcher) record(c Claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.claims) >= maxClaims {
		w.lost++
		return
	}
	w.claims = append(w.claims, c)
	if !w.known[c.Addr] {
		w.known[c.Addr] = true
		if len(w.asked) < maxAsked {
			w.asked = append(w.asked, c.Addr)
		}
	}
}

func (w *Watcher) ask(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := map[netip.Addr]time.Time{}
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		w.mu.Lock()
		addrs := w.asked
		w.mu.Unlock()
		for range min(asksATick, len(addrs)) {
			addr := addrs[next%len(addrs)]
			next++
			if time.Since(last[addr]) < askEvery-tick/2 {
				continue
			}
			last[addr] = time.Now()
			w.send(addr)
		}
	}
}

func (w *Watcher) send(addr netip.Addr) {
	from := w.cfg.AskFrom
	if addr.Is6() {
		from = wire.LinkLocal(w.sock.MAC())
	}
	// A frame that cannot be sent is a question not asked: nothing is concluded from a missing answer.
	_ = w.sock.Write(wire.Request(w.sock.MAC(), from, addr))
}

// Overlaps returns all overlaps seen so far, and an error if not everything could be kept.
func (w *Watcher) Overlaps() ([]Overlap, error) {
	claims, err := w.snapshot()
	return Find(claims, silence), err
}

func (w *Watcher) snapshot() ([]Claim, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost > 0 {
		return w.claims[:len(w.claims):len(w.claims)],
			fmt.Errorf("%d answers came after the %d that are kept: the verdict is incomplete", w.lost, maxClaims)
	}
	return w.claims[:len(w.claims):len(w.claims)], nil
}

// Heard returns how many claims were heard: a watcher that heard none proves nothing.
func (w *Watcher) Heard() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.claims)
}

// Explain tells an overlap in words, with the timeline of the address.
func (w *Watcher) Explain(o Overlap) string {
	claims, _ := w.snapshot()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s and %s both answered for %v: %s\n", o.Addr, w.cfg.Name(o.Older), w.cfg.Name(o.Newer),
		o.Duration().Round(time.Millisecond), o.Why)
	for _, line := range Timeline(claims, o.Addr, silence, w.start, w.cfg.Name) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}
