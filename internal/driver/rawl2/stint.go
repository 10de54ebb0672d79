// SPDX-License-Identifier: Apache-2.0

package rawl2

import "time"

const (
	// quick is how soon after each other questions come in quick succession.
	quick = 5 * time.Millisecond
	// stintLength is how long it takes then until the next question is followed by a go through Go's scheduler. Together the two are no more
	// than the 10 ms that its monitor allows.
	stintLength = 5 * time.Millisecond
)

// stint decides when a goroutine that answers questions goes through Go's scheduler (runtime.Gosched), although nothing makes it.
//
// While it waits in a system call for the next question, it keeps its P, the right to run Go code, for up to 10 ms; then the runtime's monitor
// takes the P away. But since Go 1.26 the monitor does so the next time it looks if the goroutine has not been scheduled for 10 ms, however many
// system calls it has made meanwhile (runtime.retake). To come back without a P, and with no other goroutine at work, means to wake up the
// monitor first, most often on another processor: on a virtual machine that takes 8 µs of an answer's 24. So while questions come in quick
// succession, as after a take-over, the goroutine is scheduled now and then. For a single question that is not worth it: the monitor
// would look after the P for 10 ms.
type stint struct {
	answered time.Time // the last question
	yielded  time.Time
}

// yield tells whether to go through the scheduler after questions that were answered now.
func (s *stint) yield(now time.Time) bool {
	last := s.answered
	s.answered = now
	if now.Sub(last) >= quick || now.Sub(s.yielded) < stintLength {
		return false
	}
	s.yielded = now
	return true
}
