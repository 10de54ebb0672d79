// SPDX-License-Identifier: Apache-2.0

// Package gobgp holds BGP sessions with routers.
//
// It is the only importer of GoBGP, and uses it as what turns messages into
// bytes and back. GoBGP's server is not linked (docs/decisions/0007): it would
// cost every node 9 MB whether it has peers or not, and its faults are those of
// a router, which a node is none of. What decides is core/bgp.Machine, what
// connects is the transport that the caller gives.
//
//	Set(wanted) --> one session per peer --+-- dial, wait, dial again (bgp.Backoff)
//	                                       +-- connection: reader, writer, bgp.Machine
//
// Nothing that one router does reaches the session of another: each has its
// goroutines, its connection, its memory.
package gobgp

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// Conn is a connection with a router.
type Conn interface {
	// Receive returns the next message. UPDATEs have no body.
	Receive() (bgp.Raw, error)
	// Write sends bytes. One that gets stuck longer than the limit fails.
	Write(b []byte, limit time.Duration) error
	// Local says what this end is.
	Local() bgp.Local
	// Close ends the connection; Receive and Write return then.
	Close() error
}

// Config says how a Driver works. All but Logger are required.
type Config struct {
	// Dial connects to a router. It must return soon after ctx is done. Its
	// errors are shown to users: they say what is wrong and name the router.
	Dial func(ctx context.Context, e bgp.Endpoint) (Conn, error)
	// Restarting is set when the speaker may have held sessions before, so
	// that routers may have kept its routes (RFC 4724).
	Restarting bool
	Logger     *slog.Logger
}

// Driver holds the wanted sessions.
type Driver struct {
	cfg     Config
	set     chan bgp.Wanted // capacity 1: the newest replaces an older one
	changed chan struct{}   // capacity 1

	mu       sync.Mutex // guards sessions
	sessions map[string]*session

	running sync.WaitGroup
}

// New returns a Driver; nothing happens before Run.
func New(cfg Config) *Driver {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{
		cfg: cfg, set: make(chan bgp.Wanted, 1), changed: make(chan struct{}, 1),
		sessions: map[string]*session{},
	}
}

// Set gives the whole wanted state. It is idempotent and returns at once. For
// one goroutine.
func (d *Driver) Set(w bgp.Wanted) {
	select {
	case <-d.set:
	default:
	}
	d.set <- w
}

// Lost says that BFD has lost the router: its session ends at once.
func (d *Driver) Lost(peer string) {
	d.mu.Lock()
	s := d.sessions[peer]
	d.mu.Unlock()
	if s != nil {
		s.reset()
	}
}

// Changed is signalled when the state of a session changed.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// State returns what became of the wanted sessions, by peer.
func (d *Driver) State() []bgp.SessionState {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]bgp.SessionState, 0, len(d.sessions))
	for _, name := range slices.Sorted(maps.Keys(d.sessions)) {
		out = append(out, d.sessions[name].snapshot())
	}
	return out
}

// Run works until ctx ends. Then it says goodbye to all routers, except to
// those that will keep the routes while the speaker restarts: a connection
// that ends without a NOTIFICATION is what tells them to (RFC 4724).
func (d *Driver) Run(ctx context.Context) error {
	defer d.running.Wait()
	for {
		select {
		case <-ctx.Done():
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, s := range d.sessions {
				s.stop(ended)
			}
			return nil
		case w := <-d.set:
			d.apply(ctx, w)
		}
	}
}

// apply starts, changes and ends sessions.
func (d *Driver) apply(ctx context.Context, w bgp.Wanted) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := make(map[string]bool, len(w.Sessions))
	for i := range w.Sessions {
		want := &w.Sessions[i]
		wanted[want.Peer] = true
		s := d.sessions[want.Peer]
		if s != nil && !s.fits(want) {
			s.stop(reconfigured)
			s = nil
		}
		if s == nil {
			s = d.start(ctx, want)
		}
		s.set(*want)
	}
	for name, s := range d.sessions {
		if !wanted[name] {
			s.stop(deconfigured)
			delete(d.sessions, name)
			d.poke()
		}
	}
}

// start begins a session. The one that it replaces, if any, must have closed
// its connection before the first attempt: routers allow one per address.
func (d *Driver) start(ctx context.Context, want *bgp.Session) *session {
	before := d.sessions[want.Peer]
	s := newSession(want, d.cfg, d.poke)
	d.sessions[want.Peer] = s
	d.running.Go(func() {
		if before != nil {
			<-before.done
		}
		s.run(context.WithoutCancel(ctx))
	})
	return s
}

func (d *Driver) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}
