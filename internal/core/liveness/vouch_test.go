// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// TestLastWord: a dead node comes back by the word of another that heard it some
// time ago. If that word was the last one, it is dead again as soon as a living
// node would be that was heard then; it does not get the patience for a new node.
func TestLastWord(t *testing.T) {
	t.Parallel()
	const (
		step   = 5 * time.Millisecond
		age    = 200 * time.Millisecond
		limit  = 250*time.Millisecond + 75*time.Millisecond // Silence and Refute, since it was heard
		others = 2
	)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := liveness.New(liveness.Config{Self: "a", Life: 1})
	a.Tick(now)
	a.Join("b", true)
	a.Join("c", true)
	count := map[lb.NodeName]uint64{}
	receive := func(p liveness.Packet) {
		count[p.From]++
		p.To, p.Life, p.Echo, p.Count, p.Incarnation = "a", 10, 1, count[p.From], 10
		a.Receive(p)
	}
	up := func() (n int) {
		for _, node := range a.State().Nodes {
			if node.Up {
				n++
			}
		}
		return n
	}
	// run lets c agree at each step that b is silent, until so many are up.
	run := func(until int) time.Duration {
		begun := now
		for up() != until && now.Sub(begun) < 3*time.Second {
			now = now.Add(step)
			a.Advance(now)
			receive(liveness.Packet{Kind: liveness.Suspect, From: "c", Subject: "b", SubjectIncarnation: 10})
			a.Tick(now)
			a.Ready()
		}
		return now.Sub(begun)
	}
	receive(liveness.Packet{Kind: liveness.Heartbeat, From: "b"})
	run(others - 1)
	if up() != others-1 {
		t.Fatalf("b is silent and not dead: %+v", a.State())
	}
	for range 120 { // the verdict is old enough for a word to count
		now = now.Add(step)
		a.Advance(now)
		receive(liveness.Packet{Kind: liveness.Heartbeat, From: "c"})
		a.Tick(now)
	}
	receive(liveness.Packet{Kind: liveness.Vouch, From: "c", Subject: "b", Age: age})
	if up() != others {
		t.Fatalf("c heard b, and b is not back: %+v", a.State())
	}
	if took := age + run(others-1); took > limit+2*step || took < limit {
		t.Errorf("b was dead %v after it was heard last, want %v", took, limit)
	}
}
