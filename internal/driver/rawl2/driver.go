// SPDX-License-Identifier: Apache-2.0

// Package rawl2 gives core/l2 its sockets: it answers ARP and NDP for the addresses of this node and announces them.
//
//	Set ──> machine (core/l2) <── one goroutine per interface and protocol: read, decide, write
//	           │
//	           └──> Run: opens and closes the sockets, sends announcements when due
//	                   └──> memberships: joins the solicited-node groups of IPv6 addresses
//
// Packet sockets serve both protocols. For IPv6 an ICMPv6 socket would not do: a unicast probe (RFC 4861 section
// 7.3.3) is addressed to an address that this node's kernel does not have, so it never gets as far as such a socket.
//
// The way from question to answer is one thread without a stop: poll, read, decide under a mutex, write. A thread that
// sleeps in poll is woken by the kernel itself; the network poller of the Go runtime would put a second wake-up
// between. Nothing on the way allocates.
//
// CAP_NET_RAW is all it needs. With an arpoffload.Table, which needs more, the kernel answers plain ARP requests before
// they come here.
package rawl2

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/driver/rawl2/arpoffload"
)

// Config sets up a Driver.
type Config struct {
	// Logger is required.
	Logger *slog.Logger
	// L2 sets the times of announcements. Take l2.DefaultConfig and change what should differ.
	L2 l2.Config
	// Retry is the time until a socket that failed is opened again, unless Set comes first. Default 200 ms. Joining
	// groups is tried again after ten times that.
	Retry time.Duration
	// Offload makes the kernel answer ARP requests. Default: the Driver answers them itself. It belongs to the Driver
	// until Run has ended.
	Offload *arpoffload.Table
}

// Driver answers and announces. Its methods may be used concurrently.
type Driver struct {
	log     *slog.Logger
	retry   time.Duration
	wake    chan struct{}     // to Run: something has changed
	changed chan struct{}     // to the user
	started chan []netip.Addr // to the user, from Run

	mu       sync.Mutex // guards all below
	machine  *l2.Machine
	moved    bool      // Reaches has changed since Run looked
	revision uint64    // of the machine, when changed was signalled last
	alarm    time.Time // when Run wakes up by itself
	errors   map[errorKey]string
	lease    time.Time         // zero: no limit
	offload  *arpoffload.Table // nil: none. Run attaches it to interfaces without mu
}

// errorKey names what may fail, so that its success later clears the error.
type errorKey struct {
	link string
	what string
}

// New returns a Driver that does nothing until Run.
func New(cfg Config) *Driver {
	if cfg.Offload != nil {
		cfg.L2.Offload = &offload{table: cfg.Offload, log: cfg.Logger}
	}
	return &Driver{
		log:     cfg.Logger,
		retry:   cmp.Or(cfg.Retry, 200*time.Millisecond),
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		started: make(chan []netip.Addr, 1),
		machine: l2.New(cfg.L2),
		errors:  map[errorKey]string{},
		offload: cfg.Offload,
	}
}

// Set takes the whole wanted state. It is idempotent, may be called before Run, and returns without waiting for a
// socket. When it returns, addresses that w does not contain are answered no more. Started tells when those that are new
// are answered.
func (d *Driver) Set(w l2.Wanted) {
	d.mu.Lock()
	moved := d.machine.Set(time.Now(), w)
	d.moved = d.moved || moved
	d.signal()
	d.mu.Unlock()
	if moved {
		notify(d.wake)
	}
}

// Lease lets the driver answer and announce until then, and not later unless it is renewed. A process that stood still,
// or whose user does, must not answer for what another node may own by now: the packets that wait in its sockets come
// before anybody can call Set. Without a first call there is no limit.
func (d *Driver) Lease(until time.Time) {
	d.mu.Lock()
	over := !d.lease.IsZero() && !leased(time.Now(), d.lease)
	d.lease = until
	if d.offload != nil {
		d.offload.Lease(offloadLease(time.Now(), until))
	}
	if over {
		d.machine.Missed(time.Now()) // answers, see answer
	}
	d.mu.Unlock()
	if over {
		notify(d.wake) // announcements may be due
	}
}

// leased compares by the clock on the wall too: the monotonic clock stands still while a virtual machine is suspended.
func leased(now, until time.Time) bool {
	return until.IsZero() || now.Before(until) && now.Round(0).Before(until.Round(0))
}

// State returns what is announced, what was seen, and what does not work.
func (d *Driver) State() l2.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.machine.State()
	for k, message := range d.errors {
		s.Errors = append(s.Errors, l2.InterfaceError{
			Interface: k.link, Message: k.what + ": " + message,
			NoIPv4: k.what == protocolName(unix.ETH_P_ARP), NoIPv6: k.what == protocolName(unix.ETH_P_IPV6),
		})
	}
	slices.SortFunc(s.Errors, func(a, b l2.InterfaceError) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), strings.Compare(a.Message, b.Message))
	})
	return s
}

// Changed receives a value after a conflict or an error has come or gone, and after an address that was probed is
// announced or left to somebody else. Several may come as one. It has one reader.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Started receives addresses that a Set has added, once questions about them get through to the driver on at least one
// of their interfaces and the first announcement, if there is one, is out. It has one reader. An address whose sockets
// cannot be opened comes when they can, and holds up no other.
func (d *Driver) Started() <-chan []netip.Addr { return d.started }

// Run answers and announces until ctx ends. What fails is listed in State and tried again.
func (d *Driver) Run(ctx context.Context) error {
	r := &runner{
		driver: d, ports: map[portKey]*port{}, failed: map[portKey]bool{}, members: newMemberships(d),
		fresh: map[netip.Addr]bool{},
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { r.members.run(ctx) })
	defer func() {
		cancel()
		group.Wait()
		r.close()
	}()
	d.mu.Lock()
	d.moved = true // what was set before, or by an earlier Run
	d.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
		r.reconcile()
		r.announce()
		r.joinGroups()
		r.closeLeaving()
		timer.Reset(r.pause())
	}
}

// answer is the way of one packet. It returns the answer in out, or nothing.
func (d *Driver) answer(index int, in, out []byte) []byte {
	p, err := l2.ParseFrame(in)
	if err != nil {
		return nil // the network is full of packets that are not for us
	}
	p.Interface = index
	now := time.Now()
	d.mu.Lock()
	if !leased(now, d.lease) {
		d.mu.Unlock()
		return nil
	}
	reply, ok := d.machine.Step(now, p)
	d.signal()
	d.mu.Unlock()
	if !ok {
		return nil
	}
	return l2.AppendFrame(out[:0], &reply)
}

// signal tells the user of what became of addresses and of conflicts, and Run of work that is due earlier than it
// knows. The caller holds mu.
func (d *Driver) signal() {
	if r := d.machine.Revision(); r != d.revision {
		d.revision = r
		notify(d.changed)
	}
	if next := d.machine.Next(); !next.IsZero() && next.Before(d.alarm) {
		d.alarm = next
		notify(d.wake)
	}
}

// report notes that something failed, or with nil that it works or is no longer needed.
func (d *Driver) report(link, what string, err error) {
	k := errorKey{link, what}
	d.mu.Lock()
	old, failed := d.errors[k]
	switch {
	case err != nil:
		d.errors[k] = err.Error()
	case failed:
		delete(d.errors, k)
	}
	news := failed != (err != nil) || failed && old != err.Error()
	d.mu.Unlock()
	if !news {
		return
	}
	notify(d.changed)
	if err != nil {
		d.log.Warn("layer 2 on an interface failed, will retry", "interface", link, "what", what, "error", err)
	} else {
		d.log.Info("layer 2 on an interface works again", "interface", link, "what", what)
	}
}

// notify leaves a value in a channel of capacity one.
func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
