// SPDX-License-Identifier: Apache-2.0

package controller

import "time"

// tidy says when to give memory back to the machine. In a burst of Services
// the garbage collector may let the heap grow, because collecting more often
// costs the time that Services wait. At rest that memory is of no use.
type tidy struct {
	writes int
	last   time.Time
}

// Limits of a tidy.
const (
	tidyWrites = 200
	// tidyRest is long enough for the events of the writes to be sent.
	tidyRest = 5 * time.Second
)

// after is called after each round. It reports whether now is the time, and if
// not, when to ask again (0: not without further writes).
func (t *tidy) after(written int, now time.Time) (due bool, again time.Duration) {
	if written > 0 {
		t.writes += written
		t.last = now
	}
	if t.writes < tidyWrites {
		return false, 0
	}
	if left := tidyRest - now.Sub(t.last); left > 0 {
		return false, left
	}
	t.writes = 0
	return true, 0
}
