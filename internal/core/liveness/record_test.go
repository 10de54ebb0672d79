// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/liveness"
)

// TestRecord: a node says which record it has published, and others hear of each
// once. A late packet does not bring an older one back, a new life may begin with
// one; a speaker that says nothing of it is left alone.
func TestRecord(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := liveness.New(liveness.Config{Self: "a", Life: 1})
	a.Tick(now)
	a.Join("b", true)
	count := map[uint64]uint64{}
	hear := func(life, record uint64) liveness.Packet {
		count[life]++
		p := liveness.Packet{Kind: liveness.Heartbeat, From: "b", To: "a", Life: life, Echo: 1, Count: count[life], Record: record}
		a.Receive(p)
		return p
	}
	late := liveness.Packet{Kind: liveness.Heartbeat, From: "b", To: "a", Life: 10, Echo: 1, Count: 5, Record: 3}
	for _, step := range []struct {
		what string
		do   func()
		want []liveness.Record
	}{
		{"a speaker of the first version", func() { hear(10, 0) }, nil},
		{"the first record", func() { hear(10, 3) }, []liveness.Record{{Node: "b", Version: 3}}},
		{"the same again", func() { hear(10, 3) }, nil},
		{"a newer one", func() { count[10] = 8; hear(10, 4) }, []liveness.Record{{Node: "b", Version: 4}}},
		{"a late packet", func() { a.Receive(late) }, nil},
		{"a recording, of who knows whom", func() { a.Receive(liveness.Packet{From: "b", To: "a", Life: 10, Count: 20, Record: 9}) }, nil},
		{"a new life, whose clock is behind", func() { hear(11, 2) }, []liveness.Record{{Node: "b", Version: 2}}},
		{"the first version once more", func() { hear(12, 0) }, []liveness.Record{{Node: "b"}}},
	} {
		step.do()
		if diff := cmp.Diff(step.want, a.Ready().Records); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", step.what, diff)
		}
	}

	a.SetRecord(7)
	now = now.Add(time.Second)
	a.Tick(now)
	for _, p := range a.Ready().Send {
		if p.Record != 7 {
			t.Errorf("%+v does not name the record", p)
		}
	}
}
