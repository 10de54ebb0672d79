// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/lb"
)

// fast are settings that differ from each other and from the defaults.
// TestStates is the whole table of section 6.8.6: what a session in a state does when its peer says it is in another.
func TestStates(t *testing.T) {
	t.Parallel()
	// reach brings side 1 to a state.
	reach := map[State]func(p *pair){
		AdminDown: func(p *pair) { p.change(1, func(s *Settings) { s.AdminDown = true }) },
		Down:      func(*pair) {},
		Init:      func(p *pair) { p.say(Down, nil) },
		Up:        func(p *pair) { p.say(Init, nil) },
	}
	for _, tt := range []struct {
		local, remote, want State
		diagnostic          Diagnostic
		event               Kind
	}{
		{AdminDown, AdminDown, AdminDown, AdministrativelyDown, 0},
		{AdminDown, Down, AdminDown, AdministrativelyDown, 0},
		{AdminDown, Init, AdminDown, AdministrativelyDown, 0},
		{AdminDown, Up, AdminDown, AdministrativelyDown, 0},
		{Down, AdminDown, Down, NoDiagnostic, 0},
		{Down, Down, Init, NoDiagnostic, 0},
		{Down, Init, Up, NoDiagnostic, CameUp},
		{Down, Up, Down, NoDiagnostic, 0},
		{Init, AdminDown, Down, NeighborDown, 0},
		{Init, Down, Init, NoDiagnostic, 0},
		{Init, Init, Up, NoDiagnostic, CameUp},
		{Init, Up, Up, NoDiagnostic, CameUp},
		{Up, AdminDown, Down, NeighborDown, Released},
		{Up, Down, Down, NeighborDown, Failed},
		{Up, Init, Up, NoDiagnostic, 0},
		{Up, Up, Up, NoDiagnostic, 0},
	} {
		t.Run(fmt.Sprintf("%v hears %v", tt.local, tt.remote), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, Settings{Passive: true}, Settings{})
			p.cut = [2]bool{true, true}
			reach[tt.local](p)
			if s := p.status(1); s.State != tt.local {
				t.Fatalf("is %v before", s.State)
			}
			p.take()
			p.say(tt.remote, nil)
			b, s := p.take(), p.status(1)
			if s.State != tt.want || s.Diagnostic != tt.diagnostic || s.Remote != tt.remote {
				t.Errorf("is %v, %v, remote %v; want %v, %v", s.State, s.Diagnostic, s.Remote, tt.want, tt.diagnostic)
			}
			var want []Event
			if tt.event != 0 {
				want = []Event{{Key: p.key[1], Kind: tt.event, Diagnostic: tt.diagnostic}}
			}
			if diff := cmp.Diff(want, b.Events, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			// Section 6.8.7: the peer hears of a change at once, and only then.
			if changed := tt.want != tt.local; changed != (len(b.Send) == 1) {
				t.Errorf("packets: %+v", b.Send)
			}
			if len(b.Send) == 1 && b.Send[0].Packet.State != tt.want {
				t.Errorf("packet: %+v", b.Send[0].Packet)
			}
		})
	}
}

// TestDropped has the checks of section 6.8.6, RFC 5881 and RFC 5883 that need a session.
func TestDropped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		multihop bool
		change   func(p *pair, in *Arrival)
		unknown  bool   // to nobody
		drop     string // to the session
	}{
		{name: "right", change: func(*pair, *Arrival) {}},
		{name: "without discriminator, Down", change: func(_ *pair, in *Arrival) {
			in.Packet.YourDiscriminator, in.Packet.State = 0, Down
		}},
		{name: "wrong discriminator", unknown: true, change: func(_ *pair, in *Arrival) { in.Packet.YourDiscriminator++ }},
		{name: "from elsewhere with the right discriminator", unknown: true, change: func(_ *pair, in *Arrival) {
			in.Source = in.Source.Next()
		}},
		{name: "from elsewhere without discriminator", unknown: true, change: func(_ *pair, in *Arrival) {
			in.Source, in.Packet.YourDiscriminator, in.Packet.State = in.Source.Next().Next(), 0, Down
		}},
		{name: "TTL of a hop", change: func(_ *pair, in *Arrival) { in.TTL = 254 },
			drop: "packet with TTL 254, a neighbour sends 255: is there a hop in between?"},
		{name: "on the multihop port", unknown: true, change: func(_ *pair, in *Arrival) { in.Multihop = true }},
		{name: "by another device", unknown: true, change: func(_ *pair, in *Arrival) { in.Device = "vrf-red" }},
		{name: "authenticated", change: func(_ *pair, in *Arrival) { in.Packet.Auth = true },
			drop: "packet with authentication, which is not supported"},
		{name: "multihop, one hop", multihop: true, change: func(*pair, *Arrival) {}},
		{name: "multihop, none", multihop: true, change: func(_ *pair, in *Arrival) { in.TTL = 255 }},
		{name: "multihop, two hops", multihop: true, change: func(_ *pair, in *Arrival) { in.TTL = 253 },
			drop: "packet with TTL 253, at least 254 (minimumTtl) is wanted"},
		{name: "multihop, two hops allowed", multihop: true, change: func(p *pair, in *Arrival) {
			p.change(1, func(s *Settings) { s.MinTTL = 253 })
			in.TTL = 253
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPairOf(t, tt.multihop, Settings{}, Settings{})
			p.up()
			in := p.arrival(0, p.last[0])
			in.Packet.Poll = false
			tt.change(p, &in)
			before, totals := p.status(1), p.m[1].totals
			p.m[1].Step(p.now, &in)
			s := p.status(1)
			if got := p.m[1].totals.Unknown - totals.Unknown; (got == 1) != tt.unknown {
				t.Errorf("%d unknown packets", got)
			}
			if s.LastDrop != tt.drop || (s.Dropped == 1) != (tt.drop != "") {
				t.Errorf("dropped %d: %q, want %q", s.Dropped, s.LastDrop, tt.drop)
			}
			if taken := s.Received - before.Received; (taken == 1) == (tt.unknown || tt.drop != "") {
				t.Errorf("%d packets taken", taken)
			}
		})
	}
}

// TestIntervals: what both sides agree on (section 6.8.2 to 6.8.4).
// TestJitter: section 6.8.7.
// TestSlowWhileNotUp: section 6.8.3.
// TestDetection: section 6.8.4, and section 6.8.1 about what is forgotten.
// TestStopped: a process that was stopped does not blame the peer.
// TestPoll: section 6.5 and 6.8.3. Intervals change without a break.
// TestFinalUnasked: an answer to nothing changes nothing.
// TestPollAnswered: the answer goes out at once, whatever the state, and does not count as one of the regular packets.
// TestUpAtOnce: when a session comes up, the peer may rely on the new pace from the first packet that offers it.
func TestPassive(t *testing.T) {
	t.Parallel()
	p := newPair(t, Settings{Passive: true}, Settings{Passive: true})
	p.run(10 * time.Second)
	if n := len(p.log[0]) + len(p.log[1]); n != 0 {
		t.Errorf("two passive systems sent %d packets", n)
	}
	p.change(1, func(s *Settings) { s.Passive = false })
	p.up()
	p.cut[1] = true
	p.run(10 * time.Second)
	before := len(p.log[0])
	p.run(10 * time.Second)
	if after := len(p.log[0]); after != before {
		t.Errorf("a passive system goes on, %d packets, after its peer is gone", after-before)
	}
}

// TestPeerWantsNone: section 6.8.7, remote RequiredMinRx 0, and section 6.6, demand mode of the peer.
// TestAdminDown: section 6.8.16, and RFC 5882 section 4.2.
func TestAdminDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	p.change(0, func(s *Settings) { s.AdminDown = true })
	for i, want := range []struct {
		state State
		event string
	}{{AdminDown, "BFD session is held down by this node"}, {Down, "BFD session is held down by the router"}} {
		if s := p.status(i); s.State != want.state {
			t.Errorf("side %d is %v", i, s.State)
		}
		if e := p.events[i]; len(e) != 1 || e[0].Kind != Released || e[0].String() != want.event {
			t.Errorf("events of side %d: %v", i, e)
		}
	}
	p.run(10 * time.Second) // no further event, neither when nothing comes any more
	p.cut = [2]bool{true, true}
	p.run(10 * time.Second)
	if len(p.events[0])+len(p.events[1]) != 2 {
		t.Errorf("events %v, %v", p.events[0], p.events[1])
	}
	p.cut = [2]bool{}
	p.change(0, func(s *Settings) { s.AdminDown = false })
	p.up()
}

// TestRemoved: whoever is not wanted any more says goodbye, and leaves nothing.
func TestRemoved(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	p.m[0].Set(p.now, nil)
	p.flush()
	if e := p.events[1]; len(e) != 1 || e[0].Kind != Released {
		t.Errorf("events of the peer: %v", e)
	}
	if len(p.events[0]) != 0 {
		t.Errorf("events of a session that is gone: %v", p.events[0])
	}
	m := p.m[0]
	if n := len(m.sessions) + len(m.byLocal) + len(m.byPeer) + len(m.queue); n != 0 || !m.Next().IsZero() {
		t.Errorf("%d things are left", n)
	}
	p.run(5 * time.Second)
	if s := p.status(1); s.State != Down {
		t.Errorf("the peer is %v", s.State)
	}
	p.set(0)
	p.up()
}

func TestSetIdempotent(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	want, next := p.status(0), p.m[0].Next()
	p.set(0)
	p.m[0].Set(p.now, []Session{{p.key[0], p.want[0]}, {p.key[0], Settings{Transmit: time.Second}}})
	if b := p.m[0].Take(); len(b.Send)+len(b.Events) != 0 {
		t.Errorf("%+v", b)
	}
	if diff := cmp.Diff(want, p.status(0), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("status (-before +after):\n%s", diff)
	}
	if got := p.m[0].Next(); !got.Equal(next) {
		t.Errorf("next is %v, was %v", got, next)
	}
}

// TestTwoOfOnePeer: sessions that differ in the local address, and one that leaves it open.
func TestTwoOfOnePeer(t *testing.T) {
	t.Parallel()
	m := New(1)
	router := netip.MustParseAddr("192.0.2.9")
	addr := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }
	m.Set(time.Unix(1, 0), []Session{{Key: Key{Peer: router}}, {Key: Key{Peer: router, Source: addr(1)}}, {Key: Key{Peer: router, Source: addr(2)}}})
	for i, to := range []byte{1, 2, 3, 3} {
		m.Step(time.Unix(1, 0), &Arrival{
			Source: router, Destination: addr(to), TTL: 255,
			Packet: Packet{State: Down, Multiplier: 3, MyDiscriminator: uint32(i + 1), DesiredMinTx: 1e6, RequiredMinRx: 1e6},
		})
	}
	list, totals := m.State()
	for i, want := range []uint64{2, 1, 1} {
		if list[i].Received != want || list[i].State != Init {
			t.Errorf("%v: %d packets, want %d", list[i].Key, list[i].Received, want)
		}
	}
	if totals != (Totals{}) {
		t.Errorf("totals %+v", totals)
	}
}

// TestEcho: echo packets are not welcome, whatever is set, and the status says so.
func TestEcho(t *testing.T) {
	t.Parallel()
	s := fast()
	s.Echo = true
	p := newPair(t, s, fast())
	p.up()
	if p.last[0].RequiredMinEchoRx != 0 {
		t.Errorf("packet %+v", p.last[0])
	}
	if with, without := p.status(0).Notice, p.status(1).Notice; with == "" || without != "" {
		t.Errorf("notices %q, %q", with, without)
	}
}

// TestClockSteps: a clock that is set back neither stops nor floods the session.
func TestSettingsOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in   lb.BFDProfile
		want Settings
	}{
		"empty": {want: Settings{Transmit: 300 * ms, Receive: 300 * ms, Multiplier: 3, MinTTL: 254}},
		"all": {
			in: lb.BFDProfile{ReceiveInterval: 10 * ms, TransmitInterval: 60 * time.Second, DetectMultiplier: 255,
				EchoMode: true, EchoInterval: 60 * ms, Passive: true, MinimumTTL: 1},
			want: Settings{Transmit: 60 * time.Second, Receive: 10 * ms, Multiplier: 255, MinTTL: 1, Echo: true, Passive: true},
		},
		"echo interval without echo mode": {in: lb.BFDProfile{EchoInterval: 60 * ms},
			want: Settings{Transmit: 300 * ms, Receive: 300 * ms, Multiplier: 3, MinTTL: 254}},
		"out of bounds": {in: lb.BFDProfile{ReceiveInterval: ms, TransmitInterval: time.Hour},
			want: Settings{Transmit: 60 * time.Second, Receive: 10 * ms, Multiplier: 3, MinTTL: 254}},
	} {
		if diff := cmp.Diff(tt.want, SettingsOf(&tt.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
