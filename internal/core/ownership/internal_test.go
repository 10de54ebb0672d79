// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/internal/core/lb"
)

// TestRank is checked with: printf 'node-1#192.0.2.128' | sha256sum.
func TestRank(t *testing.T) {
	t.Parallel()
	tests := []struct {
		node lb.NodeName
		ip   string
		want string
	}{
		{"node-1", "192.0.2.128", "4193272dce4003bcc5b7eadadea2b57ed0dc7a75e6492695e233c215428d401e"},
		{"node-2", "192.0.2.128", "b1b5a0e60d7784dda0fbee7e032a910c5c56c42172352599dd97d5a47e0cef0e"},
		{"node-1", "2001:db8::1", "28f4359b0bdd8ca552bb823b57b6cf42e18d3d176196297bedc3031afafa3dff"},
	}
	for _, tt := range tests {
		r := rank(tt.node, netip.MustParseAddr(tt.ip).String())
		if got := hex.EncodeToString(r[:]); got != tt.want {
			t.Errorf("rank(%s, %s) = %s, want %s", tt.node, tt.ip, got, tt.want)
		}
	}
}

func sampleMessage() message {
	held := uint64(300)
	return message{
		full: true, settled: true, sender: "n1",
		records: []record{
			{name: "n1", version: 1 << 40, ready: true, interfaces: []string{"eth0", "eth1"}, hardware: []MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}},
			{name: "n2", version: 7},
		},
		claims: []Claim{
			{Address: netip.MustParseAddr("192.0.2.1"), Epoch: 1, Node: "n1"},
			{Address: netip.MustParseAddr("2001:db8::1"), Epoch: maxEpoch, Node: "n3", Unproven: true},
		},
		offers:   []offer{{key: netip.MustParseAddr("192.0.2.1"), epoch: 4, to: "n2", owner: "n1", claim: 0, turn: 3}},
		greeting: &held,
	}
}

var wireCmp = cmp.Options{
	cmp.AllowUnexported(message{}, record{}, offer{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestWire(t *testing.T) {
	t.Parallel()
	want := sampleMessage()
	b := want.encode()
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, wireCmp); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	first := want.withoutSections()
	short := first.encode()
	if got, err := decode(short); err != nil || cmp.Diff(first, got, wireCmp) != "" {
		t.Errorf("a message without sections: %+v, %v", got, err)
	}
	later := append(slices.Clone(short), "\x02\x63\x04what\x02\x01\x01"...)
	first.claims[1].Unproven = true
	if got, err := decode(later); err != nil || cmp.Diff(first, got, wireCmp) != "" {
		t.Errorf("a message with a section of a later version: %+v, %v", got, err)
	}
	for n := range b {
		if _, err := decode(b[:n]); err == nil && n != len(short) {
			t.Errorf("the first %d of %d bytes are accepted", n, len(b))
		}
	}
}

// withoutSections is the message as the first version of the program writes it.
func (msg *message) withoutSections() message {
	out := *msg
	out.offers, out.greeting = nil, nil
	out.records, out.claims = slices.Clone(msg.records), slices.Clone(msg.claims)
	for i := range out.records {
		out.records[i].hardware = nil
	}
	for i := range out.claims {
		out.claims[i].Unproven = false
	}
	return out
}

func TestWireRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		bytes string
		want  string
	}{
		{"empty", "", "too short"},
		{"other version", "\x02\x00\x02n1\x00\x00\x00", "version 2, want 1"},
		{"no sender", "\x01\x00\x00\x00\x00\x00", "name of 0 bytes"},
		{"more names than bytes", "\x01\x00\x02n1\xff\xff\xff\xff\x0f\x00\x00", "too short"},
		{"name out of range", "\x01\x00\x02n1\x00\x01\x00\x01\x00\x00\x00", "name out of range"},
		{"address of 5 bytes", "\x01\x00\x02n1\x01\x02n1\x00\x01\x05\x01\x02\x03\x04\x05\x01\x00", "not an address"},
		{"mapped address", "\x01\x00\x02n1\x01\x02n1\x00\x01\x10" + strings.Repeat("\x00", 10) + "\xff\xff\xc0\x00\x02\x01\x01\x00", "not an address"},
		{"epoch 0", "\x01\x00\x02n1\x01\x02n1\x00\x01\x04\xc0\x00\x02\x01\x00\x00", "epoch out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := decode([]byte(tt.bytes))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("decode: %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzDecode feeds the decoder with anything, and a machine with what it
// accepts.
func FuzzDecode(f *testing.F) {
	sample := sampleMessage()
	f.Add(sample.encode())
	f.Add((&message{sender: "n"}).encode())
	f.Add([]byte{1, 0, 2, 'n', '1', 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(msg.encode())
		if err != nil {
			t.Fatalf("cannot read what was written: %v", err)
		}
		if diff := cmp.Diff(msg, again, wireCmp); diff != "" {
			t.Fatalf("message (-want +got):\n%s", diff)
		}
		m := New(Config{Self: "n1"})
		m.Tick(time.Unix(1, 0))
		m.SetPeers([]lb.NodeName{"n2"})
		if err := m.Receive(b); err != nil {
			t.Fatal(err)
		}
		m.Ready()
		m.State()
	})
}

// TestNewsFitPackets splits the claims on thousands of addresses.
func TestNewsFitPackets(t *testing.T) {
	t.Parallel()
	long := lb.NodeName(strings.Repeat("n", maxName))
	m := New(Config{Self: long})
	m.Tick(time.Unix(1, 0))
	m.Ready()
	want := map[netip.Addr]uint64{}
	for i := range 3000 {
		ip := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		m.claims[ip] = claim{epoch: maxEpoch, node: lb.NodeName(fmt.Sprintf("%s%d", long[:200], i%7))}
		m.news[ip] = true
		want[ip] = maxEpoch
	}
	messages := m.Ready().Send
	got := map[netip.Addr]uint64{}
	for _, letter := range messages {
		b := letter.Data
		if len(b) > maxNews {
			t.Errorf("a message has %d bytes, want at most %d", len(b), maxNews)
		}
		msg, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range msg.claims {
			got[c.Address] = c.Epoch
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if again := m.Ready().Send; len(again) != 0 {
		t.Errorf("%d messages are sent twice", len(again))
	}
}

// TestStrays keeps a claim without a group for a minute, and does not pass it on.
func TestStrays(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	m := New(Config{Self: "n1"})
	m.Tick(start)
	msg := sampleMessage()
	msg.sender = "n2"
	if err := m.Receive(msg.encode()); err != nil {
		t.Fatal(err)
	}
	inState := func() int {
		s, err := decode(m.State())
		if err != nil {
			t.Fatal(err)
		}
		return len(s.claims)
	}
	m.Tick(start.Add(time.Hour))
	if len(m.Claims()) != 2 {
		t.Errorf("before the first plan, claims are %v, want both", m.Claims())
	}
	m.SetGroups(nil)
	m.strays = map[netip.Addr]time.Time{} // as if just learned
	for _, c := range m.Claims() {
		m.noteStray(c.Address)
	}
	m.Tick(start.Add(time.Hour + strayLimit - 1))
	if len(m.Claims()) != 2 || inState() != 0 {
		t.Errorf("claims are %v, %d in the state; want both, and none", m.Claims(), inState())
	}
	m.Tick(start.Add(time.Hour + strayLimit))
	if len(m.Claims()) != 0 {
		t.Errorf("claims are %v, want none", m.Claims())
	}
	if !slices.IsSortedFunc(m.Claims(), func(a, b Claim) int { return a.Address.Compare(b.Address) }) {
		t.Error("claims are not sorted")
	}
}
