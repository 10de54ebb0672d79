// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"testing"
	"time"
)

// TestStint: who is asked in quick succession is scheduled every 5 ms, who is asked now and then is not.
func TestStint(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ every, want time.Duration }{
		"storm":        {50 * time.Microsecond, stintLength},
		"quick":        {time.Millisecond, stintLength},
		"just quick":   {quick - time.Microsecond, 2 * (quick - time.Microsecond)},
		"not quick":    {quick, 0},
		"now and then": {time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s stint
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var yields []time.Time
			for at := time.Duration(0); at < 1000*tt.every; at += tt.every {
				if now := start.Add(at); s.yield(now) {
					yields = append(yields, now)
				}
			}
			if tt.want == 0 {
				if len(yields) != 0 {
					t.Errorf("yields %d times", len(yields))
				}
				return
			}
			for i := 1; i < len(yields); i++ {
				if d := yields[i].Sub(yields[i-1]); d < stintLength || d > tt.want {
					t.Fatalf("yields after %v, want %v to %v", d, stintLength, tt.want)
				}
			}
			if len(yields) < 2 {
				t.Errorf("yields %d times", len(yields))
			}
		})
	}
}
