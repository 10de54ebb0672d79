// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	ourMAC    = MAC{2, 0, 0, 0, 0, 1}
	secondMAC = MAC{2, 0, 0, 0, 0, 2}
	clientMAC = MAC{2, 0, 0, 0, 0, 0xc}
	otherMAC  = MAC{2, 0, 0, 0, 0, 0xf}

	ip4      = netip.MustParseAddr("192.0.2.1")
	ip6      = netip.MustParseAddr("2001:db8::1:2:3")
	client4  = netip.MustParseAddr("192.0.2.200")
	client6  = netip.MustParseAddr("fe80::c")
	allNodes = netip.MustParseAddr("ff02::1")

	start = time.Unix(1_000_000, 0)
	eth0  = Link{Name: "eth0", Index: 2, MAC: ourMAC, Up: true}
	eth1  = Link{Name: "eth1", Index: 3, MAC: secondMAC, Up: true}
)

func on(ip netip.Addr, interfaces ...string) Address { return Address{IP: ip, Interfaces: interfaces} }

// owning returns a machine that announces ip4 and ip6 on eth0 only, with eth1 present.
func owning(cfg Config) *Machine {
	m := New(cfg)
	m.Set(start, Wanted{Links: []Link{eth0, eth1}, Addresses: []Address{on(ip4, "eth0"), on(ip6, "eth0")}})
	return m
}

func arpRequest(target netip.Addr) Packet {
	return Packet{
		Kind: ARPRequest, Interface: 2, Src: clientMAC, Dst: broadcastMAC(),
		SenderMAC: clientMAC, SenderIP: client4, TargetIP: target,
	}
}

func solicitation(target netip.Addr) Packet {
	group := SolicitedNode(target)
	return Packet{
		Kind: Solicitation, Interface: 2, Src: clientMAC, Dst: groupMAC(group),
		SenderMAC: clientMAC, SenderIP: client6, TargetIP: target, DestIP: group,
	}
}

func with(p Packet, change func(*Packet)) Packet {
	change(&p)
	return p
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	arp := Packet{
		Kind: ARPReply, Interface: 2, Src: ourMAC, Dst: clientMAC,
		SenderMAC: ourMAC, SenderIP: ip4, TargetMAC: clientMAC, TargetIP: client4,
	}
	ndp := Packet{
		Kind: Advertisement, Interface: 2, Src: ourMAC, Dst: clientMAC,
		SenderMAC: ourMAC, SenderIP: ip6, TargetIP: ip6, DestIP: client6, Solicited: true, Override: true,
	}
	tests := []struct {
		name string
		in   Packet
		want Packet // zero: silence
	}{
		{"arp broadcast", arpRequest(ip4), arp},
		{"arp to our mac", with(arpRequest(ip4), func(p *Packet) { p.Dst = ourMAC }), arp},
		{"arp to another mac", with(arpRequest(ip4), func(p *Packet) { p.Dst = otherMAC }), Packet{}},
		{"arp probe", with(arpRequest(ip4), func(p *Packet) { p.SenderIP = netip.IPv4Unspecified() }),
			with(arp, func(p *Packet) { p.TargetIP = netip.IPv4Unspecified() })},
		{"arp gratuitous request", with(arpRequest(ip4), func(p *Packet) { p.SenderIP = ip4 }), Packet{}},
		{"arp reply", with(arpRequest(ip4), func(p *Packet) { p.Kind = ARPReply }), Packet{}},
		{"arp for somebody else", arpRequest(client4), Packet{}},
		{"arp on another link", with(arpRequest(ip4), func(p *Packet) { p.Interface = 3 }), Packet{}},
		{"ndp to the group", solicitation(ip6), ndp},
		{"ndp to our mac", with(solicitation(ip6), func(p *Packet) { p.Dst, p.DestIP = ourMAC, ip6 }), ndp},
		{"ndp to another mac", with(solicitation(ip6), func(p *Packet) { p.Dst, p.DestIP = otherMAC, ip6 }), Packet{}},
		{"ndp without source option", with(solicitation(ip6), func(p *Packet) { p.SenderMAC = MAC{} }), ndp},
		{"ndp answer goes to the option", with(solicitation(ip6), func(p *Packet) { p.Src = otherMAC }), ndp},
		{"ndp duplicate address detection",
			with(solicitation(ip6), func(p *Packet) { p.SenderIP, p.SenderMAC = netip.IPv6Unspecified(), MAC{} }),
			with(ndp, func(p *Packet) { p.DestIP, p.Dst, p.Solicited = allNodes, MAC{0x33, 0x33, 0, 0, 0, 1}, false })},
		{"ndp advertisement", with(solicitation(ip6), func(p *Packet) { p.Kind = Advertisement }), Packet{}},
		{"ndp for somebody else", solicitation(netip.MustParseAddr("2001:db8::9")), Packet{}},
		{"ndp on another link", with(solicitation(ip6), func(p *Packet) { p.Interface = 3 }), Packet{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := owning(DefaultConfig())
			got, ok := m.Step(start, tt.in)
			if diff := cmp.Diff(tt.want, got, cmpAddr()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if ok != (tt.want != Packet{}) {
				t.Errorf("answered = %v", ok)
			}
			var responses uint64
			for _, a := range m.State().Addresses {
				responses += a.ResponsesSent
			}
			if (responses == 1) != ok {
				t.Errorf("responses counted = %d, answered = %v", responses, ok)
			}
		})
	}
}

func cmpAddr() cmp.Option {
	return cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
}

// TestSetAgainstModel compares random sequences of Set with the obvious rule: an address is answered exactly on those
// of its interfaces that exist, are up and have a MAC, with that MAC.
func TestSetAgainstModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	names := []string{"eth0", "eth1", "eth2"}
	m := New(DefaultConfig())
	now := start
	for round := range 2000 {
		var w Wanted
		for _, name := range names {
			if rng.IntN(5) > 0 {
				w.Links = append(w.Links, Link{name, 1 + rng.IntN(6), MAC{2, byte(rng.IntN(2)), 0, 0, 0, byte(rng.IntN(2))}, rng.IntN(4) > 0})
			}
		}
		slices.SortFunc(w.Links, func(a, b Link) int { return a.Index - b.Index })
		w.Links = slices.CompactFunc(w.Links, func(a, b Link) bool { return a.Index == b.Index })
		for i := range 6 {
			ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			if rng.IntN(3) > 0 {
				w.Addresses = append(w.Addresses, on(ip, names[rng.IntN(3):]...))
			}
		}
		now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
		before := reaches(m)
		if changed := m.Set(now, w); changed == maps.Equal(before, reaches(m)) {
			t.Fatalf("seed %d round %d: Set reported changed = %v", seed, round, changed)
		}
		for i := range 6 {
			for index := 1; index <= 6; index++ {
				ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
				got, _ := m.Step(now, with(arpRequest(ip), func(p *Packet) { p.Interface = index }))
				want := model(w, ip, index)
				if current := m.Current(&Packet{TargetIP: ip, Interface: index}); current != (want != MAC{}) {
					t.Fatalf("seed %d round %d: a packet about %v on link %d is current: %v", seed, round, ip, index, current)
				}
				if got.SenderMAC != want {
					t.Fatalf("seed %d round %d: %v on link %d answered with %v, want %v\n%+v", seed, round, ip, index, got.SenderMAC, want, w)
				}
			}
		}
		checkQueue(t, m)
		for _, p := range m.Tick(now, nil) {
			if model(w, p.claimed(), p.Interface) != p.SenderMAC {
				t.Fatalf("seed %d round %d: sent %+v, wanted %+v", seed, round, p, w)
			}
		}
		if again := m.Next(); !again.IsZero() {
			m.Set(now, w)
			if m.Next() != again {
				t.Fatalf("seed %d round %d: the same Set again moved the schedule", seed, round)
			}
		}
	}
}

func reaches(m *Machine) map[Reach]bool {
	set := map[Reach]bool{}
	for _, r := range m.Reaches() {
		set[r] = true
	}
	return set
}

// claimed is the address a sent packet is about.
func (p Packet) claimed() netip.Addr { return p.TargetIP }

func model(w Wanted, ip netip.Addr, index int) MAC {
	for _, a := range w.Addresses {
		for _, l := range w.Links {
			if a.IP == ip && l.Index == index && l.usable() && slices.Contains(a.Interfaces, l.Name) {
				return l.MAC
			}
		}
	}
	return MAC{}
}

// checkQueue checks that exactly the present targets are scheduled.
func checkQueue(t *testing.T, m *Machine) {
	t.Helper()
	if len(m.queue.targets) != len(m.targets) {
		t.Fatalf("%d scheduled, %d targets", len(m.queue.targets), len(m.targets))
	}
	for i, q := range m.queue.targets {
		if m.targets[q.key()] != q || q.position != i {
			t.Fatalf("queue and targets differ at %d: %+v", i, q)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	down := eth1
	down.Up = false
	m.Set(start, Wanted{Links: []Link{eth0, down}, Addresses: []Address{on(ip6, "eth0", "eth1"), on(ip4, "eth1")}})
	m.Step(start, solicitation(ip6))
	want := State{
		Addresses: []AddressState{
			{IP: ip6, Phase: PhaseAnnouncing, Interfaces: []string{"eth0"}, RequestsReceived: 1, ResponsesSent: 1},
			{IP: ip4, Phase: PhaseIdle, Interfaces: []string{}},
		},
		Conflicts: []Conflict{},
	}
	if diff := cmp.Diff(want, m.State(), cmpAddr()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Reach{{IP: ip6, Link: eth0, Number: 1}}, m.Reaches(), cmpAddr()); diff != "" {
		t.Errorf("reaches (-want +got):\n%s", diff)
	}
	m.Set(start, Wanted{Links: []Link{eth0}})
	if diff := cmp.Diff(State{Addresses: []AddressState{}, Conflicts: []Conflict{}}, m.State()); diff != "" {
		t.Errorf("state without addresses (-want +got):\n%s", diff)
	}
}

// TestSetKeepsNothing makes sure that a caller may reuse its slices.
func TestSetKeepsNothing(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	w := Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip4, "eth0")}}
	m.Set(start, w)
	w.Links[0].MAC, w.Addresses[0].Interfaces[0] = otherMAC, "eth9"
	m.Set(start, Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip4, "eth0")}})
	if got, _ := m.Step(start, arpRequest(ip4)); got.SenderMAC != ourMAC {
		t.Errorf("answer from %v", got.SenderMAC)
	}
	if got := m.Tick(start, nil); len(got) != 2 {
		t.Errorf("first announcements: %v", got)
	}
	if got := m.Next(); !got.Equal(start.Add(200 * time.Millisecond)) {
		t.Errorf("an equal Set restarted the burst: next at %v", got.Sub(start))
	}
}

func manyAddresses(n int) Wanted {
	w := Wanted{Links: []Link{eth0, eth1}}
	for i := range n {
		w.Addresses = append(w.Addresses, on(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "eth0"))
		w.Addresses = append(w.Addresses, on(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), "eth0"))
	}
	return w
}

func BenchmarkStep(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		w := manyAddresses(n / 2)
		m := New(DefaultConfig())
		m.Set(start, w)
		for _, in := range []Packet{arpRequest(w.Addresses[0].IP), solicitation(w.Addresses[n-1].IP)} {
			frame := AppendFrame(nil, &in)
			out := make([]byte, 0, MaxFrame)
			b.Run(fmt.Sprintf("%s/addresses=%d", map[Kind]string{ARPRequest: "arp", Solicitation: "ndp"}[in.Kind], n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if out = answerFrame(m, frame, out); len(out) == 0 {
						b.Fatal("no answer")
					}
				}
			})
		}
	}
}

// answerFrame is the whole way of a reply without the socket.
func answerFrame(m *Machine, frame, out []byte) []byte {
	p, err := ParseFrame(frame)
	if err != nil {
		return nil
	}
	p.Interface = eth0.Index
	reply, ok := m.Step(start, p)
	if !ok {
		return nil
	}
	return AppendFrame(out[:0], &reply)
}

func TestNoAllocationPerReply(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all goroutines
	w := manyAddresses(500)
	m := New(DefaultConfig())
	m.Set(start, w)
	out := make([]byte, 0, MaxFrame)
	for _, in := range []Packet{arpRequest(w.Addresses[0].IP), solicitation(w.Addresses[1].IP), arpRequest(client4)} {
		frame := AppendFrame(nil, &in)
		if n := testing.AllocsPerRun(1000, func() { answerFrame(m, frame, out) }); n != 0 {
			t.Errorf("%v allocations for %+v", n, in)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { answerFrame(m, []byte("no packet at all"), out) }); n != 0 {
		t.Errorf("%v allocations for a broken frame", n)
	}
}

func BenchmarkSetUnchanged10k(b *testing.B) {
	w := manyAddresses(5000)
	m := New(DefaultConfig())
	m.Set(start, w)
	b.ReportAllocs()
	for b.Loop() {
		m.Set(start, w)
	}
}

func BenchmarkState10k(b *testing.B) {
	m := New(DefaultConfig())
	m.Set(start, manyAddresses(5000))
	b.ReportAllocs()
	for b.Loop() {
		m.State()
	}
}
