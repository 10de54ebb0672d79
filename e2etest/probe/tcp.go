// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TCP opens a new connection to one address, or to several in turn, again and again, each independent of the others, and keeps when it
// was accepted. A Service's address accepts nothing by itself: who accepts is a Pod behind it.
type TCP struct {
	targets []netip.AddrPort
	every   time.Duration
	timeout time.Duration
	do      func(func() error) error

	mu      sync.Mutex // guards what follows
	answers []time.Time
	tried   int
	reset   int
	failed  int
	cut     int
}

// patience is how long a connection may take. It is short of the first retransmission of a SYN (1 s), so that an answer
// always belongs to a packet that was sent just before.
const patience = 500 * time.Millisecond

// NewTCP returns a prober that opens a connection every so often. do runs a function on a thread of the
// network namespace to probe from.
func NewTCP(target netip.AddrPort, every time.Duration, do func(func() error) error, more ...netip.AddrPort) *TCP {
	return &TCP{targets: append([]netip.AddrPort{target}, more...), every: every, timeout: patience, do: do}
}

// Answers returns when connections were accepted so far.
func (p *TCP) Answers() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.answers...)
}

// Counts returns how many connections were begun, accepted and refused.
func (p *TCP) Counts() (tried, accepted, refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tried, len(p.answers), p.reset
}

// Run probes until ctx ends. It occupies one thread, and waits for all its connections at once with epoll: while nobody
// answers, a hundred of them are open.
func (p *TCP) Run(ctx context.Context) error {
	return p.do(func() error {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("epoll_create", err)
		}
		defer unix.Close(ep)
		open := map[int]time.Time{} // socket -> begun
		defer func() {
			for fd := range open {
				_ = unix.Close(fd)
			}
		}()
		events := make([]unix.EpollEvent, 64)
		for next := time.Now(); ctx.Err() == nil; {
			now := time.Now()
			if !now.Before(next) {
				next = later(next.Add(p.every), now)
				if err := p.begin(ep, open, now); err != nil {
					return err
				}
			}
			wait := max(time.Until(next)+time.Millisecond-1, 0) / time.Millisecond // rounded up: no spinning
			n, err := unix.EpollWait(ep, events, int(wait))
			if err != nil && !errors.Is(err, unix.EINTR) {
				return os.NewSyscallError("epoll_wait", err)
			}
			p.finish(ep, open, events[:max(n, 0)], time.Now())
			p.expire(ep, open, time.Now())
		}
		return nil
	})
}

// later keeps the beat, but does not try to catch up after a pause.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (p *TCP) begin(ep int, open map[int]time.Time, now time.Time) error {
	target := p.targets[p.tried%len(p.targets)] // only this goroutine changes tried
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(target.Port()), Addr: target.Addr().As16()}
	if target.Addr().Is4() {
		family = unix.AF_INET
		to = &unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// Closing resets the connection: no port stays in TIME_WAIT, however many there were.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("setsockopt SO_LINGER", err)
	}
	p.mu.Lock()
	p.tried++
	p.mu.Unlock()
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		p.fail()
		return unix.Close(fd) // no route or no neighbour right now: that is an answer missing, not a failure to probe
	}
	open[fd] = now
	ev := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

func (p *TCP) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed++
}

// Failed returns how many connections were refused, or not accepted in time. Those still open when Run ended do not count.
func (p *TCP) Failed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Cut returns how many of the accepted connections were reset before the prober looked: they fell into the move of an address. The
// first packet after the handshake went to a node that does not know the connection, a tenth of a millisecond after it was accepted.
func (p *TCP) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *TCP) finish(ep int, open map[int]time.Time, events []unix.EpollEvent, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ev := range events {
		fd := int(ev.Fd)
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err == nil && code == 0:
			p.answers = append(p.answers, now)
		case err == nil && code == int(unix.ECONNRESET):
			// Until a connection is accepted a reset means ECONNREFUSED. With the prober a moment earlier, this is the case above.
			p.answers = append(p.answers, now)
			p.cut++
		case code == int(unix.ECONNREFUSED):
			p.reset++
			p.failed++
		default:
			p.failed++
		}
		forget(ep, open, fd)
	}
}

// forget closes a connection. It takes it out of epoll itself: a process that was forked just now, and has not executed its program
// yet, has the socket open too, and the events would go on.
func forget(ep int, open map[int]time.Time, fd int) {
	delete(open, fd)
	_ = unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, fd, nil)
	_ = unix.Close(fd)
}

func (p *TCP) expire(ep int, open map[int]time.Time, now time.Time) {
	for fd, begun := range open {
		if now.Sub(begun) > p.timeout {
			p.fail()
			forget(ep, open, fd)
		}
	}
}

// Session is a TCP prober that is running.
type Session struct {
	tcp    *TCP
	cancel context.CancelFunc
	done   chan error
}

// Start begins to probe in the background.
func Start(ctx context.Context, p *TCP) *Session {
	ctx, cancel := context.WithCancel(ctx)
	s := &Session{tcp: p, cancel: cancel, done: make(chan error, 1)}
	go func() { s.done <- p.Run(ctx) }()
	return s
}

// WaitAnswers waits until n more connections were accepted.
func (s *Session) WaitAnswers(ctx context.Context, n int) error {
	_, before, _ := s.tcp.Counts()
	for {
		tried, accepted, refused := s.tcp.Counts()
		if accepted >= before+n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%v: of %d connections %d were accepted and %d refused: %w",
				s.tcp.targets, tried, accepted, refused, ctx.Err())
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("the prober ended early: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Longest returns the longest gap so far.
func (s *Session) Longest() Gap { return LongestGap(s.tcp.Answers()) }

// Counts returns how many connections were begun, accepted and refused so far.
func (s *Session) Counts() (tried, accepted, refused int) { return s.tcp.Counts() }

// Failed returns how many connections were refused or not accepted in time so far.
func (s *Session) Failed() int { return s.tcp.Failed() }

// Cut returns how many of the accepted connections were reset at once so far.
func (s *Session) Cut() int { return s.tcp.Cut() }

// Stop ends the probing.
func (s *Session) Stop() error {
	s.cancel()
	return <-s.done
}

// LongestSince returns the longest gap that ended after t.
func (s *Session) LongestSince(t time.Time) Gap {
	answers := s.tcp.Answers()
	slices.SortFunc(answers, time.Time.Compare)
	// The last answer before t is the beginning of a gap that t falls into.
	first := max(0, sort.Search(len(answers), func(i int) bool { return answers[i].After(t) })-1)
	return LongestGap(answers[first:])
}
