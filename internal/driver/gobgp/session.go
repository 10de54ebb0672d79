// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// cause is why a session ends for good.
type cause uint8

const (
	running      cause = iota
	deconfigured       // the peer is no longer wanted
	reconfigured       // its key changed
	ended              // the speaker ends
)

// session is what the driver does about one wanted session: one connection
// after the other.
type session struct {
	peer       string
	key        bgp.Key
	problem    string
	dial       func(ctx context.Context, e bgp.Endpoint) (Conn, error)
	restarting bool
	poke       func()
	log        *slog.Logger
	done       chan struct{}
	failedAt   time.Time     // when the error that is shown was news; of the goroutine of run
	wake       chan struct{} // capacity 1: want, cause or lost changed

	mu    sync.Mutex // guards the rest
	want  bgp.Session
	cause cause
	lost  bool // BFD has lost the router
	state bgp.SessionState
}

func newSession(want *bgp.Session, cfg Config, poke func()) *session {
	return &session{
		peer: want.Peer, key: want.Key, problem: want.Problem, dial: cfg.Dial, restarting: cfg.Restarting, poke: poke,
		log:  cfg.Logger.With("peer", want.Peer),
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		want: *want,
		state: bgp.SessionState{
			Peer: want.Peer, State: bgp.Idle, Since: time.Now(), Address: want.Key.Address, VRF: want.Key.Device,
			Router: want.Key.Name(), LastError: want.Problem,
		},
	}
}

// fits reports whether the session can become what is wanted without a new
// connection.
func (s *session) fits(want *bgp.Session) bool {
	return s.key == want.Key && s.problem == want.Problem
}

func (s *session) set(want bgp.Session) {
	s.mu.Lock()
	s.want = want
	s.mu.Unlock()
	s.nudge()
}

func (s *session) stop(c cause) {
	s.mu.Lock()
	s.cause = c
	s.mu.Unlock()
	s.nudge()
}

func (s *session) reset() {
	s.mu.Lock()
	s.lost = true
	s.mu.Unlock()
	s.nudge()
}

func (s *session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// orders returns what is wanted now; lost is reported once.
func (s *session) orders() (want bgp.Session, c cause, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost, s.lost = s.lost, false
	return s.want, s.cause, lost
}

func (s *session) snapshot() bgp.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// show changes what others see of the session.
func (s *session) show(fn func(*bgp.SessionState)) {
	s.mu.Lock()
	before := s.state
	fn(&s.state)
	if s.state.State != before.State && !(connecting(before.State) && connecting(s.state.State)) {
		s.state.Since = time.Now()
	}
	after := s.state
	s.mu.Unlock()
	after.Counters = before.Counters
	if after != before {
		s.poke()
	}
}

// connecting reports whether a session with this state is not up, and tries. Of
// that people want to know since when it is so, not when it was tried last.
func connecting(state bgp.State) bool {
	return state != bgp.Idle && state != bgp.Established
}

// failed shows an error, and logs it when it is news. While a router is down
// the ways to fail may alternate many times; each is shown for a while.
func (s *session) failed(state bgp.State, text string) {
	const while = 10 * time.Second
	news := false
	now := time.Now()
	s.show(func(st *bgp.SessionState) {
		wasUp := st.State == bgp.Established
		st.State, st.Prefixes, st.Notice = state, 0, ""
		if text != "" && st.LastError != text && (wasUp || st.LastError == "" || now.Sub(s.failedAt) >= while) {
			st.LastError, s.failedAt, news = text, now, true
		}
	})
	if news {
		s.log.Warn("BGP session is down", "error", text)
	}
}

// run holds the session until it is stopped.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	if s.problem != "" {
		s.log.Warn("BGP session is not possible", "error", s.problem)
		for {
			if _, c, _ := s.orders(); c != running {
				return
			}
			<-s.wake
		}
	}
	var backoff bgp.Backoff
	for {
		want, c, _ := s.orders()
		if c != running {
			return
		}
		backoff.Limit = want.Timers.Connect
		outcome, took, c := s.attempt(ctx, backoff.Attempt())
		if c != running {
			return
		}
		if !s.rest(backoff.Wait(outcome, took, rand.Float64())) {
			return
		}
	}
}

// rest waits and reports whether to go on.
func (s *session) rest(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-s.wake:
			if _, c, _ := s.orders(); c != running {
				return false
			}
		}
	}
}

// attempt makes one connection and keeps it as long as it lasts. It returns how
// long it took to fail, or the session was up.
func (s *session) attempt(ctx context.Context, limit time.Duration) (bgp.Outcome, time.Duration, cause) {
	start := time.Now()
	s.show(func(st *bgp.SessionState) {
		if st.State == bgp.Idle {
			st.State = bgp.Connect // later ones are not worth a report each
		}
	})
	conn, c, err := s.connect(ctx, limit)
	if c != running {
		if conn != nil {
			_ = conn.Close() // it was never used
		}
		return 0, 0, c
	}
	if err != nil {
		s.failed(bgp.Active, err.Error())
		return bgp.Unreachable, time.Since(start), running
	}
	l := newLink(s, conn)
	s.show(func(st *bgp.SessionState) {
		st.State, st.Address = bgp.OpenSent, conn.Local().Remote
	})
	text, c := l.run()
	if c != running {
		s.show(func(st *bgp.SessionState) { st.State, st.Prefixes = bgp.Idle, 0 })
		return 0, 0, c
	}
	s.failed(bgp.Active, text)
	if l.upSince.IsZero() {
		return bgp.Refused, time.Since(start), running
	}
	s.restarting = false
	return bgp.Lost, time.Since(l.upSince), running
}

// connect dials, and gives up when the session is stopped.
func (s *session) connect(ctx context.Context, limit time.Duration) (Conn, cause, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		conn Conn
		err  error
	}
	results := make(chan result, 1)
	go func() {
		conn, err := s.dial(ctx, s.key.Endpoint)
		results <- result{conn, err}
	}()
	for {
		select {
		case r := <-results:
			_, c, _ := s.orders()
			return r.conn, c, r.err
		case <-s.wake:
			if _, c, _ := s.orders(); c != running {
				cancel()
				r := <-results
				return r.conn, c, nil
			}
		}
	}
}
