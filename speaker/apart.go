// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"time"

	"github.com/heraldlb/herald/internal/core/ownership"
)

// A speaker that heard nobody for a while, or stood still, believes things of the
// others that were true then: that they are dead, that nobody announces. It cannot
// tell whether it was cut off; and when the cable is back, the API server may be
// there before the others are heard, and before its events are. So it says nothing
// on behalf of others, and removes nothing of theirs, until
//
//   - the API server has been there for backFor, which is longer than it takes to
//     hear the others again: who is not heard by then is dead, or out of reach;
//   - and the caches have seen all that was there after that.
//
// What it says of itself alone it goes on saying.
const (
	backFor = 2 * time.Second
	// backStep is how often to ask whether the API server is there.
	backStep = 500 * time.Millisecond
	// backRetryMax bounds the time between two attempts.
	backRetryMax = 2 * time.Second
)

// contact is what the engine knows of the way to the other speakers.
type contact struct {
	// losses counts how often the speaker began to hear nobody, or stood still.
	losses uint64
	// alone and settled are those of the machine. met: it was settled once; what
	// was before that, nobody was told.
	alone, settled, met bool
}

// next takes what the machine says now, and reports whether that is news.
func (c *contact) next(m *ownership.Machine) bool {
	was := *c
	c.alone, c.settled = m.Alone(), m.Settled()
	if c.met && (c.alone && !was.alone || !c.settled && was.settled) {
		c.losses++
	}
	c.met = c.met || c.settled
	return *c != was
}

// returning finds out when the words of this speaker count again.
type returning struct {
	seen  contact   // when it was looked at last
	since time.Time // the API server is there; zero: it was not
}

// regain is one round of the loop that does so.
func (s *speaker) regain(ctx context.Context) (time.Duration, error) {
	var now contact
	if !s.engine.query(func(*ownership.Machine) { now = s.engine.contact }) || now.losses == s.regained.Load() {
		s.returning = returning{}
		return 0, nil
	}
	if now != s.returning.seen {
		s.returning = returning{seen: now}
	}
	if !now.settled {
		return 0, nil // the engine says when
	}
	if err := s.cluster.Reach(ctx); err != nil {
		s.returning.since = time.Time{}
		return 0, err
	}
	if s.returning.since.IsZero() {
		s.returning.since = time.Now()
	}
	if time.Since(s.returning.since) < backFor {
		return backStep, nil
	}
	if err := s.cluster.CatchUp(ctx); err != nil {
		s.returning.since = time.Time{}
		return 0, err
	}
	s.regained.Store(now.losses)
	s.reportLoop.Poke()
	s.cleanLoop.Poke()
	return 0, nil
}

// knows is trusted for other goroutines.
func (s *speaker) knows() bool {
	trusted := false
	s.engine.query(func(*ownership.Machine) { trusted = s.trusted() })
	return trusted
}

// trusted reports whether what this speaker believes of others counts. The engine's
// goroutine asks.
func (s *speaker) trusted() bool { return s.engine.contact.losses == s.regained.Load() }
