// SPDX-License-Identifier: Apache-2.0

// Package bfdnet gives core/bgp/bfd its sockets: it holds BFD sessions with routers.
//
//	Set ──> machine (core/bgp/bfd) <── Run: one loop  ──> Events
//	                                     poll ─> read all that came ─> look at the time ─> send
//
// One goroutine does it all, in that order. So a packet that came while the process was not running is always read
// before its sender is given up, and what depends on microseconds needs no locks, channels or goroutines in between.
// Nothing on the way allocates.
//
// Packets to all sessions come in by few sockets: UDP port 3784 (RFC 5881) and 4784 (RFC 5883), one of each family, and
// one more for each device. Every session sends by a socket of its own, because the source port must be its own (RFC 5881
// section 4).
//
// No capability is needed, but for sessions with a Device: kernels before 5.7 want CAP_NET_RAW for those.
package bfdnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

// Config sets up a Driver.
type Config struct {
	// Logger is required.
	Logger *slog.Logger
	// Retry is the time until a socket that could not be opened is tried again. Default 500 ms.
	Retry time.Duration
}

// Driver holds the sessions. Its methods may be used concurrently.
type Driver struct {
	log    *slog.Logger
	retry  time.Duration
	events chan bfd.Event

	mu      sync.Mutex // guards all below
	machine *bfd.Machine
	wanted  []bfd.Session
	fresh   bool // wanted has changed since Run looked
	wake    int  // eventfd that ends the pause of Run; -1 while it does not run
	queue   []bfd.Event
	queued  chan struct{}
	// What does not work, by what it is.
	listening map[listenerKey]string
	sending   map[bfd.Key]problem
}

// State is what became of the wanted sessions.
type State struct {
	Sessions []Session // in the order of their keys
	bfd.Totals
}

// Session is the state of one session.
type Session struct {
	bfd.Status
	// Error says why packets cannot be sent or received at present; empty: they can.
	Error string
}

// New returns a Driver that does nothing until Run.
func New(cfg Config) *Driver {
	return &Driver{
		log:       cfg.Logger,
		retry:     cmp.Or(cfg.Retry, 500*time.Millisecond),
		events:    make(chan bfd.Event),
		machine:   bfd.New(rand.Uint64()),
		wake:      -1,
		queued:    make(chan struct{}, 1),
		listening: map[listenerKey]string{},
		sending:   map[bfd.Key]problem{},
	}
}

// Set takes all wanted sessions. It is idempotent, may be called before Run, and does not block. Sessions that stay
// wanted change in place, those that are not wanted any more say goodbye.
func (d *Driver) Set(wanted []bfd.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = append([]bfd.Session(nil), wanted...)
	d.fresh = true
	d.machine.Set(time.Now(), d.wanted)
	d.poke()
}

// poke ends the pause of Run. The caller holds the mutex.
func (d *Driver) poke() {
	if d.wake >= 0 {
		_, _ = unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it can only be full, which wakes as well
	}
}

// Events says which sessions came up and went down, in that order. It must be read all the time, but a reader that is
// late loses nothing and delays no session. It is closed when Run ends.
func (d *Driver) Events() <-chan bfd.Event { return d.events }

// State returns what became of the wanted sessions.
func (d *Driver) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	list, totals := d.machine.State()
	s := State{Sessions: make([]Session, 0, len(list)), Totals: totals}
	for _, status := range list {
		one := Session{Status: status, Error: d.listening[listenerOf(status.Key)]}
		// Of a session that is up, what was wrong with one packet is over.
		if p := d.sending[status.Key]; one.Error == "" && status.State != bfd.Up && !p.over() {
			one.Error = p.text
		}
		s.Sessions = append(s.Sessions, one)
	}
	return s
}

// Run holds the sessions until ctx ends. Then it lets all routers know that the silence to come means nothing, so that
// they keep the routes of a speaker that restarts. What fails is told by State and tried again. Run is called once.
func (d *Driver) Run(ctx context.Context) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	d.mu.Lock()
	d.wake = wake
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { d.tell(ctx) })
	stop := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.poke()
	})
	r := newRunner(d, wake)
	err = r.run(ctx)
	stop()
	cancel()
	group.Wait()
	d.mu.Lock()
	d.wake = -1
	d.mu.Unlock()
	r.close()
	return errors.Join(err, unix.Close(wake))
}

// tell hands the events over, because their reader may be busy.
func (d *Driver) tell(ctx context.Context) {
	defer close(d.events)
	for {
		d.mu.Lock()
		events := d.queue
		d.queue = nil
		d.mu.Unlock()
		for _, e := range events {
			select {
			case d.events <- e:
			case <-ctx.Done():
				return
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-d.queued:
		case <-ctx.Done():
			return
		}
	}
}

// enqueue takes events to tell. The caller holds the mutex.
func (d *Driver) enqueue(events []bfd.Event) {
	if len(events) == 0 {
		return
	}
	d.queue = append(d.queue, events...)
	select {
	case d.queued <- struct{}{}:
	default:
	}
}
