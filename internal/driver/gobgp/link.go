// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

const (
	// chunk is how much is written at once; the router has to take each chunk
	// within the limit, so that one with a full table of ours to read is not
	// taken for one that stopped reading.
	chunk = 64 << 10
	// minSendLimit is the shortest time that a router may take for a chunk
	// (RFC 9687 calls it SendHoldTimer and wants it above the hold time).
	minSendLimit = 10 * time.Second
	// goodbyeLimit is how long the last message may take.
	goodbyeLimit = 500 * time.Millisecond
)

// link is one connection with its machine. Reader and writer are goroutines of
// their own; the machine belongs to that of run.
type link struct {
	s       *session
	conn    Conn
	machine *bgp.Machine
	encoder encoder
	upSince time.Time

	incoming chan bgp.Message // from the reader; closed at its end
	readErr  error            // why; read after incoming is closed
	alive    chan struct{}    // capacity 1: UPDATEs came, any number
	outgoing chan []byte      // to the writer
	written  chan error       // from the writer, one for each of outgoing
	idle     bool             // the writer has nothing to do
	stop     chan struct{}    // closed when run returns
}

func newLink(s *session, conn Conn) *link {
	want, _, _ := s.orders()
	m := bgp.NewMachine(bgp.Config{
		Key: want.Key, Timers: want.Timers, Local: conn.Local(),
		NextHop4: want.NextHop4, NextHop6: want.NextHop6, Restarting: s.restarting,
	}, time.Now())
	m.Set(want.Routes)
	return &link{
		s: s, conn: conn, machine: m, encoder: encoder{localAS: want.Key.LocalAS},
		incoming: make(chan bgp.Message, 4), alive: make(chan struct{}, 1),
		outgoing: make(chan []byte, 1), written: make(chan error, 1), idle: true, stop: make(chan struct{}),
	}
}

// run works until the connection ends, and says why in words, or which cause
// of the session's end it was.
func (l *link) run() (string, cause) {
	ended := make(chan struct{}, 2)
	go func() { l.read(); ended <- struct{}{} }()
	go func() { l.write(); ended <- struct{}{} }()
	text, c := l.loop()
	close(l.stop)
	_ = l.conn.Close() // a second time is harmless
	<-ended
	<-ended
	return text, c
}

func (l *link) loop() (string, cause) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	incoming := l.incoming
	for {
		l.machine.Tick(time.Now())
		if text, end := l.step(); end {
			_, c, _ := l.s.orders()
			return text, c
		}
		l.report()
		next := l.machine.Next()
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(wait)
		select {
		case msg, ok := <-incoming:
			if !ok {
				incoming = nil
				l.machine.Close(nil, lostText(l.readErr, l.machine.State(), l.conn.Local().Address))
				continue
			}
			l.take(msg)
		case <-l.alive:
			l.machine.Receive(bgp.Update{}, time.Now())
		case err := <-l.written:
			l.idle = true
			if err != nil {
				l.machine.Close(nil, "router does not take what is sent: "+err.Error())
			}
		case <-l.s.wake:
			l.obey()
		case <-timer.C:
		}
	}
}

// take gives a message of the router to the machine.
func (l *link) take(msg bgp.Message) {
	before := l.machine.State()
	l.machine.Receive(msg, time.Now())
	if before == bgp.OpenSent && l.machine.State() == bgp.OpenConfirm {
		l.encoder.internal, l.encoder.fourByteAS = l.machine.Internal(), l.machine.FourByteAS()
	}
	if before != bgp.Established && l.machine.State() == bgp.Established {
		l.upSince = time.Now()
		l.s.log.Info("BGP session is up", "ip", l.conn.Local().Remote)
	}
}

// obey looks at what is wanted now.
func (l *link) obey() {
	want, c, lost := l.s.orders()
	switch {
	case c == deconfigured:
		n := bgp.Deconfigured()
		l.machine.Close(&n, "")
	case c == reconfigured:
		n := bgp.Reconfigured()
		l.machine.Close(&n, "")
	case c == ended && l.s.key.GracefulRestart:
		l.machine.Close(nil, "")
	case c == ended:
		n := bgp.Shutdown("the speaker of this node ends")
		l.machine.Close(&n, "")
	case lost:
		n := bgp.BFDDown()
		l.machine.Close(&n, "BFD has lost the router")
	default:
		l.machine.Set(want.Routes)
		l.machine.SetTimers(want.Timers, time.Now())
	}
}

// step does what the machine asks for.
func (l *link) step() (text string, end bool) {
	if !l.idle && l.machine.State() != bgp.Idle {
		return "", false
	}
	r := l.machine.Ready()
	if r.End != nil {
		l.goodbye(r.End)
		return r.End.Text, true
	}
	if len(r.Send) == 0 {
		return "", false
	}
	var buf []byte
	for _, m := range r.Send {
		b, n, err := l.encoder.encode(buf, m)
		if err != nil {
			l.machine.Close(nil, "internal error: "+err.Error())
			return l.step()
		}
		buf = b
		l.count(m, n)
	}
	l.idle = false
	l.outgoing <- buf
	return "", false
}

// goodbye sends the last message, if the writer is not stuck.
func (l *link) goodbye(e *bgp.End) {
	if e.Send == nil {
		return
	}
	if !l.idle {
		select {
		case err := <-l.written:
			if err != nil {
				return
			}
		case <-time.After(goodbyeLimit):
			return
		}
	}
	b, n, err := l.encoder.encode(nil, *e.Send)
	if err != nil {
		return
	}
	l.count(*e.Send, n)
	_ = l.conn.Write(b, goodbyeLimit) // it ends anyhow
}

// report shows the state to others.
func (l *link) report() {
	l.s.show(func(st *bgp.SessionState) {
		st.State, st.Prefixes, st.Notice = l.machine.State(), l.machine.Prefixes(), l.machine.Notice()
	})
}

// read hands messages to the loop. UPDATEs are only a sign of life, and as many
// as a router likes to send are one.
func (l *link) read() {
	defer close(l.incoming)
	for {
		raw, err := l.conn.Receive()
		if bad := (bgp.Malformed{}); errors.As(err, &bad) {
			l.hand(bad)
		}
		if err != nil {
			l.readErr = err
			return
		}
		l.received(raw.Type)
		if raw.Type == bgp.TypeUpdate && l.settled() {
			select {
			case l.alive <- struct{}{}:
			default:
			}
			continue
		}
		msg, err := decode(raw)
		if err != nil {
			msg = bgp.Malformed{Code: 1, Subcode: 3, Text: err.Error()}
		}
		if !l.hand(msg) {
			return
		}
	}
}

// hand gives a message to the loop and reports whether it still runs.
func (l *link) hand(msg bgp.Message) bool {
	select {
	case l.incoming <- msg:
		return true
	case <-l.stop:
		return false
	}
}

// settled reports whether the session is established, as far as others see.
func (l *link) settled() bool { return l.s.snapshot().State == bgp.Established }

// write sends what it is given.
func (l *link) write() {
	for {
		select {
		case <-l.stop:
			return
		case buf := <-l.outgoing:
			var err error
			for len(buf) > 0 && err == nil {
				n := min(len(buf), chunk)
				err = l.conn.Write(buf[:n], l.sendLimit())
				buf = buf[n:]
			}
			l.written <- err
		}
	}
}

func (l *link) sendLimit() time.Duration {
	return max(minSendLimit, 2*l.s.holdTime())
}

func (s *session) holdTime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want.Timers.Hold
}

// count notes what is sent: n messages.
func (l *link) count(m bgp.Message, n int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	c := &l.s.state.Counters
	c.TotalSent += uint64(n)
	switch m.(type) {
	case bgp.Open:
		c.OpensSent++
	case bgp.Keepalive:
		c.KeepalivesSent++
	case bgp.Notification:
		c.NotificationsSent++
	case bgp.Announcement, bgp.Withdrawal, bgp.EndOfRIB:
		c.UpdatesSent += uint64(n)
	}
}

func (l *link) received(t bgp.Type) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	c := &l.s.state.Counters
	c.TotalReceived++
	switch t {
	case bgp.TypeOpen:
		c.OpensReceived++
	case bgp.TypeKeepalive:
		c.KeepalivesReceived++
	case bgp.TypeUpdate:
		c.UpdatesReceived++
	case bgp.TypeRouteRefresh:
		c.RefreshesReceived++
	}
}

// lostText says why a connection ended without a NOTIFICATION.
func lostText(err error, state bgp.State, local netip.Addr) string {
	closed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case closed && state == bgp.OpenSent:
		return fmt.Sprintf("router accepted the connection and closed it at once: has it a neighbor configured with this node's address %s?", local)
	case closed:
		return "router closed the connection without saying why"
	}
	return "connection lost: " + err.Error()
}
