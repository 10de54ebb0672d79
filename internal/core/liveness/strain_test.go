// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/liveness"
)

const ms = time.Millisecond

// TestStrain: a node whose processors others keep busy is given up too early the first time that it does not run for
// longer than ever. Afterwards, for about a minute, that takes longer. But a node that was stopped is not spared.
func TestStrain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		stall []time.Duration // one after the other
		pause time.Duration   // between them
		down  bool            // in the end
	}{
		{"never late before", []time.Duration{400 * ms}, 0, true},
		{"late a while ago", []time.Duration{250 * ms, 400 * ms}, 15 * time.Second, false},
		{"late again and again", []time.Duration{250 * ms, 400 * ms, 500 * ms}, 15 * time.Second, false},
		{"late long ago", []time.Duration{250 * ms, 400 * ms}, 3 * time.Minute, true},
		{"late, and now dead", []time.Duration{250 * ms, 700 * ms}, 15 * time.Second, true},
		{"stopped a while ago", []time.Duration{2 * time.Second, 400 * ms}, 15 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(1)
			w.start("n1")
			w.start("n2")
			w.start("n3")
			w.run(5 * time.Second)
			for i, stall := range tt.stall {
				if i > 0 {
					w.run(tt.pause)
				}
				w.events = nil
				w.freeze("n2")
				w.run(stall)
				w.thaw("n2")
				w.run(time.Second)
			}
			if down := slices.ContainsFunc(w.events, func(e event) bool { return e.subject == "n2" && !e.up }); down != tt.down {
				t.Errorf("n2 was given up: %v, want %v; %v", down, tt.down, w.events)
			}
		})
	}
}

// TestStrainIsBounded: whatever a node says, it is not waited for longer than StrainMax.
func TestStrainIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := liveness.New(liveness.Config{Self: "a", Life: 1})
	a.Tick(now)
	a.Join("b", true)
	for i, tt := range []struct{ late, want time.Duration }{
		{0, 250 * ms}, {20 * ms, 250 * ms}, {100 * ms, 400 * ms}, {200 * ms, 600 * ms}, {65 * time.Second, 600 * ms}, {0, 250 * ms},
	} {
		a.Receive(liveness.Packet{Kind: liveness.Heartbeat, From: "b", To: "a", Life: 1, Echo: 1, Count: uint64(i) + 1, Late: tt.late})
		if got := a.State().Nodes[0].Patience; got != tt.want {
			t.Errorf("late by %v: patience %v, want %v", tt.late, got, tt.want)
		}
	}
}
