// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// TestSince: attempts that fail do not change since when a session is down, so
// that nothing is written because of them.
func TestSince(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		s := &session{log: slog.New(slog.DiscardHandler), poke: func() {}, state: bgp.SessionState{State: bgp.Idle, Since: begun}}
		step := func(state bgp.State, want time.Duration) {
			t.Helper()
			time.Sleep(time.Minute)
			if state == bgp.Active {
				s.failed(state, "refused")
			} else {
				s.show(func(st *bgp.SessionState) { st.State = state })
			}
			if got := s.snapshot().Since.Sub(begun); got != want {
				t.Errorf("%s after %v: since %v, want %v", state, time.Since(begun), got, want)
			}
		}
		step(bgp.Connect, time.Minute)
		step(bgp.Active, time.Minute)
		step(bgp.OpenSent, time.Minute)
		step(bgp.Active, time.Minute)
		step(bgp.OpenSent, time.Minute)
		step(bgp.Established, 6*time.Minute)
		step(bgp.Active, 7*time.Minute)
		step(bgp.OpenSent, 7*time.Minute)
	})
}
