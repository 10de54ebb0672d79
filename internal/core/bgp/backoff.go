// SPDX-License-Identifier: Apache-2.0

package bgp

import "time"

// Times of a Backoff.
const (
	// backoffFirst and DefaultConnect bound the time between two attempts.
	backoffFirst   = 500 * time.Millisecond
	DefaultConnect = 30 * time.Second
	// persistent is the time between the starts of two attempts to reach a
	// router that was up before and does not answer now, and the longest time
	// that an attempt takes: a router that comes back is found within a second
	// of opening its port.
	persistent = 850 * time.Millisecond
	// patient is the longest time that other attempts take.
	patient = 5 * time.Second
	// breath is the shortest wait after any failure.
	breath = 50 * time.Millisecond
	// stable is how long a session must have been up to count as a success.
	stable = 10 * time.Second
)

// Outcome is how an attempt to hold a session ended.
type Outcome uint8

// The outcomes.
const (
	// Unreachable: there was no connection.
	Unreachable Outcome = iota
	// Refused: there was a connection, but no session.
	Refused
	// Lost: there was a session.
	Lost
)

// Backoff says when to try again. The zero value is ready for the first
// attempt, which is due at once.
type Backoff struct {
	// Limit is the longest wait; 0: DefaultConnect.
	Limit time.Duration

	wasUp    bool
	failures int
}

// Attempt returns how long the next attempt to connect may take.
func (b *Backoff) Attempt() time.Duration {
	if b.wasUp {
		return persistent
	}
	return patient
}

// Wait returns how long to wait after an attempt that ended so. took is how
// long the attempt took, or the session was up; random is a number from 0 to 1.
//
// Failures after the connection was made (a bad OPEN, a router that closes at
// once) grow the wait whatever happened before: such a router is reached, and
// asking it more often helps nobody.
func (b *Backoff) Wait(o Outcome, took time.Duration, random float64) time.Duration {
	switch {
	case o == Lost && took >= stable:
		b.wasUp, b.failures = true, 0
		return breath
	case o == Lost:
		b.wasUp = true
	case o == Unreachable && b.wasUp:
		return max(persistent-took, breath)
	}
	limit := b.Limit
	if limit == 0 {
		limit = DefaultConnect
	}
	wait := limit
	if b.failures < 16 {
		wait = min(backoffFirst<<b.failures, limit)
	}
	b.failures++
	// A quarter of jitter, as RFC 4271, section 10, has it.
	return time.Duration(float64(wait) * (1 - random/4))
}
