// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// TestClockSetBack: a node that starts with an earlier time than its former life
// had is heard all the same, and what that life said still is no proof.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := liveness.New(liveness.Config{Self: "a", Life: 500})
	b := liveness.New(liveness.Config{Self: "b", Life: 1000})
	machines := map[lb.NodeName]*liveness.Machine{"a": a, "b": b}
	var recorded []liveness.Packet
	deliver := func() {
		for range 10 {
			for _, name := range []lb.NodeName{"a", "b"} {
				for _, p := range machines[name].Ready().Send {
					if p.From == "b" {
						recorded = append(recorded, p)
					}
					machines[p.To].Receive(p)
				}
			}
		}
	}
	tick := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(10 * time.Millisecond) {
			a.Tick(now)
			machines["b"].Tick(now)
			deliver()
		}
	}
	a.Tick(now)
	b.Tick(now)
	a.Join("b", true)
	b.Join("a", true)
	tick(time.Second)

	machines["b"] = liveness.New(liveness.Config{Self: "b", Life: 7})
	old := recorded
	machines["b"].Tick(now)
	machines["b"].Join("a", true)
	tick(2 * time.Second)
	for name, m := range machines {
		if s := m.State(); s.CutOff || len(s.Nodes) != 1 || !s.Nodes[0].Up || now.Sub(s.Nodes[0].Heard) > 200*time.Millisecond {
			t.Errorf("%s: %+v", name, s)
		}
	}

	for _, p := range old { // what was recorded of the former life keeps nobody alive
		if a.Receive(p) {
			t.Fatalf("a believes a recording: %+v", p)
		}
	}
}
