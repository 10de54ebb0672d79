// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

// runner is what belongs to the goroutine of Run.
type runner struct {
	d    *Driver
	wake int

	wanted    map[bfd.Key]bool
	listeners map[listenerKey]*listener
	senders   map[bfd.Key]*sender
	needed    map[listenerKey]bool
	zones     map[uint32]string // names of the interfaces of link-local peers
	missing   bool              // some sockets could not be opened
	retryAt   time.Time

	order  []*listener   // as in fds
	fds    []unix.PollFd // the first is wake
	pause  unix.Timespec
	in     receiver
	out    []byte
	broken []bfd.Key // whose sender must be opened anew
}

func newRunner(d *Driver, wake int) *runner {
	return &runner{
		d: d, wake: wake,
		wanted: map[bfd.Key]bool{}, listeners: map[listenerKey]*listener{}, senders: map[bfd.Key]*sender{},
		needed: map[listenerKey]bool{}, zones: map[uint32]string{},
		fds: []unix.PollFd{{Fd: int32(wake), Events: unix.POLLIN}},
	}
}

// round limits the packets read in a turn, so that a flood does not keep the sessions from sending.
const round = 1024

func (r *runner) run(ctx context.Context) error {
	for {
		r.open()
		r.turn()
		r.closeUnwanted()
		select {
		case <-ctx.Done():
			r.goodbye()
			return nil
		default:
		}
		if err := r.wait(); err != nil {
			return err
		}
	}
}

// turn reads, looks at the time, and sends.
func (r *runner) turn() {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fresh {
		return // the sockets come first
	}
	for i, l := range r.order {
		if r.fds[i+1].Revents != 0 {
			r.read(l)
		}
	}
	d.machine.Tick(time.Now())
	r.flush()
}

// flush does what the machine wants to be done. The caller holds the mutex.
func (r *runner) flush() {
	b := r.d.machine.Take()
	for i := range b.Send {
		r.send(&b.Send[i])
	}
	for _, e := range b.Events {
		switch e.Kind {
		case bfd.CameUp:
			delete(r.d.sending, e.Key)
		case bfd.Failed:
			// Perhaps the way has changed, and with it the source address that the kernel had chosen.
			r.broken = append(r.broken, e.Key)
		case bfd.Released: // nothing is wrong with the way
		}
	}
	r.d.enqueue(b.Events)
}

func (r *runner) read(l *listener) {
	for range round {
		n, err := r.in.read(l.fd)
		if err != nil {
			return // nothing there, or an error about a packet that was sent: the next one may be good
		}
		arrival := bfd.Arrival{
			Source: r.in.source(r.zones), Destination: r.in.destination, TTL: r.in.ttl,
			Device: l.key.device, Multihop: l.key.port == portMultihop,
		}
		if arrival.Packet, err = bfd.Parse(r.in.payload[:n]); err != nil {
			r.d.machine.Malformed()
			continue
		}
		r.d.machine.Step(time.Now(), &arrival)
	}
}

func (r *runner) send(o *bfd.Outgoing) {
	s := r.senders[o.Key]
	if s == nil {
		r.d.machine.Unsent(o.Key)
		return
	}
	r.out = o.Packet.Append(r.out[:0])
	_, err := unix.Write(s.fd, r.out)
	refused := err == unix.ECONNREFUSED
	if refused { // that is about an earlier packet, and this one was not sent
		_, err = unix.Write(s.fd, r.out)
	}
	switch err {
	case nil, unix.ECONNREFUSED:
		if refused {
			r.report(o.Key, refusing, errRefused)
		} else if len(r.d.sending) > 0 && r.d.sending[o.Key].when == sending {
			delete(r.d.sending, o.Key)
		}
	case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		r.d.machine.Unsent(o.Key) // as if it were lost on the way
	default:
		r.d.machine.Unsent(o.Key)
		r.report(o.Key, sending, fmt.Errorf("send BFD packets: %w", err))
		r.broken = append(r.broken, o.Key)
	}
}

var errRefused = errors.New("router refuses BFD packets: is BFD enabled there?")

// problem is what is wrong with sending.
type problem struct {
	when phase
	text string
	at   time.Time // the last time
}

// over: the router has not refused a packet for so long that it will not have refused the last ones.
func (p problem) over() bool { return p.when == refusing && time.Since(p.at) > 3*time.Second }

// phase says what puts an end to a problem.
type phase uint8

const (
	opening  phase = iota // a socket
	sending               // a packet
	refusing              // the router does; the end is when it has stopped doing so
)

// report keeps what is wrong with sending. The caller holds the mutex.
func (r *runner) report(key bfd.Key, when phase, err error) {
	now := problem{when, err.Error(), time.Now()}
	before := r.d.sending[key]
	r.d.sending[key] = now
	if before.text != now.text {
		r.d.log.Warn("bfd packets cannot be sent", "peer", key.String(), "error", now.text)
	}
}

// open opens the sockets that are needed and not there.
func (r *runner) open() {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range r.broken {
		if s := r.senders[key]; s != nil {
			s.close()
			delete(r.senders, key)
		}
	}
	due := len(r.broken) > 0 || r.missing && !time.Now().Before(r.retryAt)
	r.broken = r.broken[:0]
	if d.fresh {
		d.fresh, due = false, true
		r.want(d.wanted)
	}
	if !due {
		return
	}
	r.missing = false
	for _, key := range slices.SortedFunc(maps.Keys(r.needed), listenerKey.compare) {
		r.openListener(key)
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.wanted), bfd.Key.Compare) {
		r.openSender(key)
	}
	if r.missing {
		r.retryAt = time.Now().Add(d.retry)
	}
	r.arrange()
}

// want works out what is needed.
func (r *runner) want(sessions []bfd.Session) {
	clear(r.wanted)
	clear(r.needed)
	for i := range sessions {
		key := sessions[i].Key.Normal()
		r.wanted[key] = true
		r.needed[listenerOf(key)] = true
	}
}

func (r *runner) openListener(key listenerKey) {
	if r.listeners[key] != nil {
		return
	}
	l, err := r.listen(key)
	if err != nil {
		r.missing = true
		if text := err.Error(); r.d.listening[key] != text {
			r.d.listening[key] = text
			r.d.log.Warn("bfd packets cannot be received", "port", key.port, "error", text)
		}
		return
	}
	r.listeners[key] = l
	delete(r.d.listening, key)
}

// listen opens a listener. Those of other devices on the same port are asked to make room for a moment: any longer, and
// another program could take their packets.
func (r *runner) listen(key listenerKey) (*listener, error) {
	var siblings []*listener
	for k, l := range r.listeners {
		if k.port == key.port && k.v6 == key.v6 {
			siblings = append(siblings, l)
		}
	}
	for _, l := range siblings {
		if err := l.share(true); err != nil {
			return nil, err
		}
	}
	l, err := openListener(key, len(siblings) > 0)
	for _, s := range siblings {
		err = errors.Join(err, s.share(false))
	}
	if err != nil && l != nil {
		l.close()
	}
	return l, err
}

func (r *runner) openSender(key bfd.Key) {
	if r.senders[key] != nil {
		return
	}
	s, err := openSender(key)
	if err != nil {
		r.missing = true
		r.report(key, opening, err)
		return
	}
	r.senders[key] = s
	if r.d.sending[key].when == opening {
		delete(r.d.sending, key)
	}
}

// closeUnwanted comes after turn: sessions that are not wanted any more have said goodbye by then.
func (r *runner) closeUnwanted() {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.d.fresh {
		return // there is news that open has not seen
	}
	changed := false
	for key, s := range r.senders {
		if !r.wanted[key] {
			s.close()
			delete(r.senders, key)
			changed = true
		}
	}
	for key, l := range r.listeners {
		if !r.needed[key] {
			l.close()
			delete(r.listeners, key)
			changed = true
		}
	}
	maps.DeleteFunc(r.d.sending, func(key bfd.Key, _ problem) bool { return !r.wanted[key] })
	maps.DeleteFunc(r.d.listening, func(key listenerKey, _ string) bool { return !r.needed[key] })
	if changed {
		r.arrange()
	}
}

// arrange prepares what depends on the set of sockets.
func (r *runner) arrange() {
	r.order = r.order[:0]
	r.fds = append(r.fds[:0], unix.PollFd{Fd: int32(r.wake), Events: unix.POLLIN})
	for _, key := range slices.SortedFunc(maps.Keys(r.listeners), listenerKey.compare) {
		l := r.listeners[key]
		r.order = append(r.order, l)
		// Perhaps there is something already.
		r.fds = append(r.fds, unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN, Revents: unix.POLLIN})
	}
	clear(r.zones)
	for key, s := range r.senders {
		if s.zone != 0 {
			r.zones[s.zone] = key.Peer.Zone()
		}
	}
}

// wait pauses until there is something to do.
func (r *runner) wait() error {
	r.d.mu.Lock()
	next := r.d.machine.Next()
	r.d.mu.Unlock()
	if r.missing && (next.IsZero() || r.retryAt.Before(next)) {
		next = r.retryAt
	}
	var timeout *unix.Timespec
	if !next.IsZero() {
		r.pause = unix.NsecToTimespec(max(0, time.Until(next)).Nanoseconds())
		timeout = &r.pause
	}
	if _, err := unix.Ppoll(r.fds, timeout, nil); err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for packets: %w", err)
	}
	if r.fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(r.wake, count[:]) // it is not blocking, and the count does not matter
	}
	return nil
}

// goodbye ends all sessions.
func (r *runner) goodbye() {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.d.machine.Set(time.Now(), nil)
	r.flush()
}

func (r *runner) close() {
	for _, s := range r.senders {
		s.close()
	}
	for _, l := range r.listeners {
		l.close()
	}
}

// anyAddress is the one that listens everywhere.
func anyAddress(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
