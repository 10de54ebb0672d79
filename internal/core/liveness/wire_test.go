// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/liveness"
)

func TestWire(t *testing.T) {
	t.Parallel()
	for _, p := range []liveness.Packet{
		{Kind: liveness.Heartbeat, From: "a", To: "b"},
		{
			Kind: liveness.Verdict, From: "node-1", To: "node-2", Life: 1, Echo: 2, Count: 3, Incarnation: 4, Watching: true, Deaf: true,
			Subject: "node-3", SubjectIncarnation: 1 << 63, Age: 250 * time.Millisecond, Record: 1 << 62, Late: 65 * time.Second,
		},
	} {
		b := p.Append(nil)
		got, err := liveness.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("packet (-want +got):\n%s", diff)
		}
		if _, err := liveness.Decode(append(b, 1, 2, 3)); err != nil {
			t.Errorf("with what a later version may add: %v", err)
		}
		next := len(b) - 2 // where the next speakers end
		p.Late = 0
		if got, err := liveness.Decode(b[:next]); err != nil || cmp.Diff(p, got) != "" {
			t.Errorf("from a next speaker: %+v, %v, want %+v", got, err, p)
		}
		first := next - 8 // where the first speakers end
		p.Record = 0
		if got, err := liveness.Decode(b[:first]); err != nil || cmp.Diff(p, got) != "" {
			t.Errorf("from a first speaker: %+v, %v, want %+v", got, err, p)
		}
		for i := range b {
			if _, err := liveness.Decode(b[:i]); err == nil && i != first && i != next {
				t.Errorf("the first %d of %d bytes are taken for a packet", i, len(b))
			}
		}
	}
}

// TestWireFormat keeps the bytes as they are: speakers of two versions work
// together while a cluster is upgraded.
func TestWireFormat(t *testing.T) {
	t.Parallel()
	p := liveness.Packet{
		Kind: liveness.Suspect, From: "a", To: "bc", Life: 1, Echo: 2, Count: 3, Incarnation: 4, Watching: true,
		Subject: "d", SubjectIncarnation: 5, Age: 258 * time.Millisecond, Record: 6, Late: 259 * time.Millisecond,
	}
	const want = "0201" + "0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000000005" +
		"0102" + "0161" + "026263" + "0164" + "0000000000000006" + "0103"
	if diff := cmp.Diff(want, hex.EncodeToString(p.Append(nil))); diff != "" {
		t.Errorf("bytes (-want +got):\n%s", diff)
	}
	for kind, want := range map[liveness.Kind]int{
		liveness.Heartbeat: 1, liveness.Suspect: 2, liveness.Ask: 3, liveness.Vouch: 4, liveness.Verdict: 5, liveness.Alive: 6,
	} {
		if int(kind) != want {
			t.Errorf("kind %d is %d on the wire", want, kind)
		}
	}
}

func FuzzDecode(f *testing.F) {
	p := liveness.Packet{Kind: liveness.Verdict, From: "a", To: "b", Subject: "c", Count: 1}
	f.Add(p.Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := liveness.Decode(b)
		if err != nil {
			return
		}
		again, err := liveness.Decode(p.Append(nil))
		if err != nil || cmp.Diff(p, again) != "" {
			t.Errorf("%+v becomes %+v, %v", p, again, err)
		}
	})
}
