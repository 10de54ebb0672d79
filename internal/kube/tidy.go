// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"runtime/debug"
	"time"
)

// A Tidy says when to give memory back to the machine. In a burst of Services
// the garbage collector may let the heap grow, because collecting more often
// costs the time that Services wait. At rest that memory is of no use.
type Tidy struct {
	writes int
	last   time.Time
}

// Limits of a Tidy.
const (
	tidyWrites = 200
	// tidyRest is long enough for the events of the writes to be sent.
	tidyRest = 5 * time.Second
)

// After is called after each round, with the number of objects that it has
// written. It gives memory back if it is the time for that; otherwise it says
// when to call again (0: not without further writes).
func (t *Tidy) After(written int, now time.Time) time.Duration {
	due, again := t.after(written, now)
	if due {
		debug.FreeOSMemory()
	}
	return again
}

func (t *Tidy) after(written int, now time.Time) (due bool, again time.Duration) {
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
