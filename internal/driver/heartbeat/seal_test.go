// SPDX-License-Identifier: Apache-2.0

package heartbeat

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/liveness"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	p := liveness.Packet{Kind: liveness.Verdict, From: "a", To: "b", Life: 1, Count: 2, Subject: "c"}
	old, rotated := []byte("old"), []byte("new")
	mine := newSealer([][]byte{old}, "")
	b := mine.seal(nil, &p)

	got, ok := newSealer([][]byte{rotated, old}, "").open(b)
	if !ok {
		t.Error("a datagram with a secret that is still accepted is thrown away")
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("packet (-want +got):\n%s", diff)
	}
	for name, s := range map[string]*sealer{
		"another secret": newSealer([][]byte{rotated}, ""),
		"another label":  newSealer([][]byte{old}, "cluster2"),
	} {
		if _, ok := s.open(b); ok {
			t.Errorf("opened with %s", name)
		}
	}
	for i := range b {
		forged := bytes.Clone(b)
		forged[i] ^= 0x10
		if _, ok := mine.open(forged); ok {
			t.Errorf("opened although byte %d was changed", i)
		}
		if _, ok := mine.open(b[:i]); ok {
			t.Errorf("opened although only %d of %d bytes came", i, len(b))
		}
	}
}

// TestSealAllocates: an idle speaker seals and opens some 80 datagrams a second.
func TestSealAllocates(t *testing.T) { //nolint:paralleltest // it counts allocations
	s := newSealer([][]byte{[]byte("secret")}, "")
	p := liveness.Packet{Kind: liveness.Heartbeat, From: "a", To: "b", Life: 1, Count: 2}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = s.seal(buf, &p) }); n > 0 {
		t.Errorf("sealing allocates %v times", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	s := newSealer([][]byte{[]byte("secret")}, "")
	p := liveness.Packet{Kind: liveness.Heartbeat, From: "node-1.example.com", To: "node-2.example.com", Life: 1, Count: 2}
	var buf []byte
	for b.Loop() {
		buf = s.seal(buf, &p)
	}
}

func BenchmarkOpen(b *testing.B) {
	s := newSealer([][]byte{[]byte("secret")}, "")
	p := liveness.Packet{Kind: liveness.Heartbeat, From: "node-1.example.com", To: "node-2.example.com", Life: 1, Count: 2}
	buf := s.seal(nil, &p)
	for b.Loop() {
		s.open(buf)
	}
}

func FuzzOpen(f *testing.F) {
	s := newSealer([][]byte{[]byte("secret")}, "")
	p := liveness.Packet{Kind: liveness.Heartbeat, From: "a", To: "b"}
	f.Add(s.seal(nil, &p))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := s.open(b); ok && !bytes.Equal(s.seal(nil, &p), b) {
			t.Errorf("%x was never sealed", b)
		}
	})
}
