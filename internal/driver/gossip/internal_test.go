// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSecretKey is checked with: printf herald | sha256sum | cut -c1-32.
func TestSecretKey(t *testing.T) {
	t.Parallel()
	const want = "1c85bf7d3c260817db543a95c0e52d02"
	if got := hex.EncodeToString(secretKey([]byte("herald"))); got != want {
		t.Errorf("secretKey = %s, want %s", got, want)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := newMemory(2)
	var got []bool
	for _, n := range []uint64{1, 1, 2, 3, 3, 1} { // 3 takes the place of 1
		got = append(got, m.fresh(messageID{7, n}))
	}
	if diff := cmp.Diff([]bool{true, false, true, true, false, true}, got); diff != "" {
		t.Errorf("fresh (-want +got):\n%s", diff)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(seal(kindUser, messageID{1, 2}, []byte("content")))
	f.Add(seal(kindGoodbye, messageID{1 << 63, 1}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, id, content, ok := open(b)
		if ok && !bytes.Equal(seal(kind, id, content), b) {
			t.Errorf("%x opens to %d %v %x, which seals to something else", b, kind, id, content)
		}
	})
}

// TestQueue drops messages, but no members, when nobody listens, and asks for a
// resync after that.
func TestQueue(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for range queueLimit + 10 {
		q.put(Event{Kind: Message})
	}
	q.put(Event{Kind: FullState})
	q.put(Event{Kind: MemberUp, Node: "n"})
	if got := q.drops(); got != 11 {
		t.Errorf("dropped %d, want 11", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan Event, queueLimit+1)
	resyncs := 0
	q.pump(ctx, out, func() { resyncs++; cancel() })
	var last Event
	for range queueLimit + 1 {
		last = <-out
	}
	if last.Kind != MemberUp || last.Node != "n" {
		t.Errorf("last event: %+v, want the member", last)
	}
	if resyncs != 1 || len(out) != 0 {
		t.Errorf("%d resyncs, %d events too many", resyncs, len(out))
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := newLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	l.Printf("[ERR] memberlist: Failed to send %d", 1)
	l.Printf("[WARN] memberlist: Refuting")
	l.Printf("[INFO] memberlist: Suspect n2 has failed")
	l.Printf("[DEBUG] memberlist: Stream connection")
	l.Printf("[x unknown form")
	want := `level=WARN msg=memberlist says="Failed to send 1"
level=WARN msg=memberlist says=Refuting
level=INFO msg=memberlist says="Suspect n2 has failed"
level=DEBUG msg=memberlist says="Stream connection"
level=INFO msg=memberlist says="[x unknown form"
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	out.Reset()
	for range 100 {
		l.Printf("[ERR] memberlist: a stranger with a wrong key")
	}
	if n := strings.Count(out.String(), "\n"); n > 20 {
		t.Errorf("%d lines of 100, want 20 at most", n)
	}
}
