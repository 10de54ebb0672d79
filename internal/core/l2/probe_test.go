// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// prober probes for 300 ms and announces once.
func prober() Config {
	return Config{Probe: 300 * ms, ProbeAgain: 30 * time.Second, Repeats: []time.Duration{0}, Check: time.Hour, Confirm: 2 * time.Second}
}

func fresh(ip netip.Addr) Address { return Address{IP: ip, Interfaces: []string{"eth0"}, Probe: true} }

// probed returns a machine that has just been given addresses nobody had before.
func probed(cfg Config, ips ...netip.Addr) *Machine {
	m := New(cfg)
	m.Set(start, probeWanted(ips...))
	return m
}

func probeWanted(ips ...netip.Addr) Wanted {
	w := Wanted{Links: []Link{eth0, eth1}}
	for _, ip := range ips {
		w.Addresses = append(w.Addresses, fresh(ip))
	}
	return w
}

func TestProbe(t *testing.T) {
	t.Parallel()
	m := probed(prober(), ip4, ip6)
	want := []string{
		"0s probe 192.0.2.1 from 02:00:00:00:00:01", "0s detect 2001:db8::1:2:3",
		"100ms probe 192.0.2.1 from 02:00:00:00:00:01", "100ms detect 2001:db8::1:2:3",
		"200ms probe 192.0.2.1 from 02:00:00:00:00:01", "200ms detect 2001:db8::1:2:3",
	}
	if diff := cmp.Diff(want, sent(m, start.Add(299*ms))); diff != "" {
		t.Errorf("sent while probing (-want +got):\n%s", diff)
	}
	for _, in := range []Packet{arpRequest(ip4), solicitation(ip6)} {
		if got, ok := m.Step(start, in); ok {
			t.Errorf("answered while probing: %+v", got)
		}
	}
	state := State{Addresses: []AddressState{
		{IP: ip4, Phase: PhaseProbing, Interfaces: []string{}, Probing: []string{"eth0"}},
		{IP: ip6, Phase: PhaseProbing, Interfaces: []string{}, Probing: []string{"eth0"}},
	}, Conflicts: []Conflict{}}
	if diff := cmp.Diff(state, m.State(), cmpAddr()); diff != "" {
		t.Errorf("state while probing (-want +got):\n%s", diff)
	}
	if n := len(m.Reaches()); n != 2 {
		t.Errorf("listens for %d addresses", n)
	}
	before := m.Revision()
	want = []string{
		"300ms request 192.0.2.1 at 02:00:00:00:00:01", "300ms advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"300ms reply 192.0.2.1 at 02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, sent(m, start.Add(time.Hour))); diff != "" {
		t.Errorf("sent after silence (-want +got):\n%s", diff)
	}
	if s := m.State(); s.Addresses[0].Phase != PhaseAnnouncing || s.Addresses[1].Phase != PhaseAnnouncing || m.Revision() == before {
		t.Errorf("state after silence: %+v", s)
	}
	if _, ok := m.Step(start, arpRequest(ip4)); !ok {
		t.Error("not answered after silence")
	}
}

// TestProbeHears: what one station may say while we probe.
func TestProbeHears(t *testing.T) {
	t.Parallel()
	from := func(mac MAC) func(Packet) Packet {
		return func(p Packet) Packet { p.Src, p.SenderMAC = mac, mac; return p }
	}
	stranger, peer, own := from(otherMAC), from(clientMAC), from(secondMAC)
	reply := with(arpRequest(netip.IPv4Unspecified()), func(p *Packet) {
		p.Kind, p.Dst, p.TargetMAC, p.SenderIP = ARPReply, ourMAC, ourMAC, ip4
	})
	gratuitous := with(arpRequest(ip4), func(p *Packet) { p.SenderIP = ip4 })
	gratuitousReply := with(gratuitous, func(p *Packet) { p.Kind = ARPReply })
	arpProbe := with(arpRequest(ip4), func(p *Packet) { p.SenderIP = netip.IPv4Unspecified() })
	advertised := with(solicitation(ip6), func(p *Packet) { p.Kind, p.Dst, p.DestIP = Advertisement, groupMAC(allNodes), allNodes })
	detect := func(mac MAC) Packet {
		return with(solicitation(ip6), func(p *Packet) { p.Src, p.SenderMAC, p.SenderIP = mac, MAC{}, netip.IPv6Unspecified() })
	}
	tests := []struct {
		name     string
		in       Packet
		phase    Phase
		reported bool
	}{
		{"a stranger answers", stranger(reply), PhaseContested, true},
		{"a stranger announces", stranger(gratuitous), PhaseContested, true},
		{"a stranger probes too", stranger(arpProbe), PhaseContested, true},
		{"a stranger asks from the address", stranger(with(arpRequest(client4), func(p *Packet) { p.SenderIP = ip4 })), PhaseContested, true},
		{"a stranger asks for the address", stranger(arpRequest(ip4)), PhaseProbing, false},
		{"a stranger answers for another address", stranger(with(reply, func(p *Packet) { p.SenderIP = client4 })), PhaseProbing, false},
		{"a peer answers", peer(reply), PhaseContested, false}, // its kernel, or it has not heard yet who owns it
		{"a peer announces", peer(gratuitous), PhaseProbing, false},
		{"a peer announces by reply", peer(gratuitousReply), PhaseProbing, false},
		{"a peer probes too", peer(arpProbe), PhaseProbing, false},
		{"our other link probes", own(arpProbe), PhaseProbing, false},
		{"ndp: a stranger answers", stranger(advertised), PhaseContested, true},
		{"ndp: a stranger probes too", detect(otherMAC), PhaseContested, true},
		{"ndp: a stranger asks from the address", stranger(with(solicitation(client6), func(p *Packet) { p.SenderIP = ip6 })), PhaseContested, true},
		{"ndp: a stranger asks for the address", stranger(solicitation(ip6)), PhaseProbing, false},
		{"ndp: a peer answers", peer(advertised), PhaseContested, false},
		{"ndp: a peer probes too", detect(clientMAC), PhaseProbing, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ip := ip4
			if tt.in.Kind == Solicitation || tt.in.Kind == Advertisement {
				ip = ip6
			}
			w := probeWanted(ip)
			w.Peers = []MAC{clientMAC}
			m := New(prober())
			m.Set(start, w)
			m.Tick(start, nil)
			if got, ok := m.Step(start, tt.in); ok {
				t.Errorf("answered: %+v", got)
			}
			s := m.State()
			if s.Addresses[0].Phase != tt.phase || (len(s.Conflicts) > 0) != tt.reported {
				t.Errorf("phase %s, conflicts %v; want %s, reported %v", s.Addresses[0].Phase, s.Conflicts, tt.phase, tt.reported)
			}
		})
	}
}

// occupied answers every question for ip4 as a station that has it, and returns when runs of questions began.
func occupied(m *Machine, from, to time.Duration, mac MAC) (runs []time.Duration) {
	for now := m.Next(); !now.IsZero() && !now.After(start.Add(to)); now = m.Next() {
		for _, p := range m.Tick(now, nil) {
			at := now.Sub(start)
			if p.gratuitous() {
				panic(fmt.Sprintf("l2: announced at %v", at))
			}
			if len(runs) == 0 || at-runs[len(runs)-1] > 500*ms {
				runs = append(runs, at)
			}
			m.Step(now, Packet{
				Kind: ARPReply, Interface: 2, Src: mac, Dst: ourMAC, SenderMAC: mac, SenderIP: ip4, TargetMAC: ourMAC,
				TargetIP: netip.IPv4Unspecified(),
			})
		}
	}
	return runs
}

// TestContested: somebody has the address; it is asked again and again, but less and less often, and announced once it
// is free. Meanwhile the state is always the same.
func TestContested(t *testing.T) {
	t.Parallel()
	m := probed(prober(), ip4)
	m.Tick(start, nil)
	m.Step(start, claim())
	revision := m.Revision()
	runs := occupied(m, 0, 3*time.Minute, otherMAC)
	last := time.Duration(0)
	for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30, 30, 30} {
		want := time.Duration(seconds) * time.Second
		if pause := runs[i] - last; pause > want || pause < want*3/4 {
			t.Errorf("run %d after %v, want at most %v and little less", i, pause, want)
		}
		last = runs[i]
	}
	if m.Revision() != revision {
		t.Error("the user was told of something although nothing changed")
	}
	s := m.State()
	if s.Addresses[0].Phase != PhaseContested || len(s.Conflicts) != 1 || s.Conflicts[0].MAC != otherMAC || start.Add(last).After(s.Conflicts[0].LastSeen) {
		t.Errorf("state: %+v", s)
	}
	free := m.Next()
	got := sent(m, free.Add(299*ms))
	if len(got) != 3 || m.State().Addresses[0].Phase != PhaseContested || len(m.State().Conflicts) != 1 {
		t.Errorf("probing again: %v, %+v", got, m.State())
	}
	if got := sent(m, free.Add(time.Second)); len(got) != 2 || m.State().Addresses[0].Phase != PhaseAnnouncing || len(m.State().Conflicts) != 0 {
		t.Errorf("announced once it is free: %v, %+v", got, m.State())
	}
}

// TestContestedByPeer: a node of the cluster that answers may be about to stop. Only if it goes on it is reported.
func TestContestedByPeer(t *testing.T) {
	t.Parallel()
	w := probeWanted(ip4)
	w.Peers = []MAC{otherMAC}
	m := New(prober())
	m.Set(start, w)
	occupied(m, 0, 1500*ms, otherMAC)
	if s := m.State(); s.Addresses[0].Phase != PhaseContested || len(s.Conflicts) != 0 {
		t.Errorf("state after a moment: %+v", s)
	}
	occupied(m, 0, 4*time.Second, otherMAC)
	if s := m.State(); len(s.Conflicts) != 1 {
		t.Errorf("state after a while: %+v", s)
	}
}

// TestProbeOnlyWhenFresh: what was announced once is announced again at once.
func TestProbeOnlyWhenFresh(t *testing.T) {
	t.Parallel()
	down, moved := eth0, eth0
	down.Up, moved.MAC = false, MAC{2, 0, 0, 0, 0, 7}
	w := probeWanted(ip4)
	change := func(m *Machine, links ...Link) {
		w := w
		w.Links = links
		m.Set(start.Add(10*time.Second), w)
	}
	tests := []struct {
		name    string
		proven  bool
		change  func(m *Machine)
		probing bool
	}{
		{"new MAC", true, func(m *Machine) { change(m, moved) }, false},
		{"new MAC while contested", false, func(m *Machine) { change(m, moved) }, true},
		{"down and up", true, func(m *Machine) { change(m, down); change(m, eth0) }, false},
		{"down and up while contested", false, func(m *Machine) { change(m, down); change(m, eth0) }, true},
		{"reannounce", true, func(m *Machine) { m.Reannounce(start.Add(10*time.Second), 2) }, false},
		{"reannounce while contested", false, func(m *Machine) { m.Reannounce(start.Add(10*time.Second), 2) }, true},
		{"another round", true, func(m *Machine) { w := probeWanted(ip4); w.Addresses[0].Round = 1; m.Set(start, w) }, false},
		{"another round while contested", false, func(m *Machine) { w := probeWanted(ip4); w.Addresses[0].Round = 1; m.Set(start, w) }, true},
		{"not fresh any more", true, func(m *Machine) { w := probeWanted(ip4); w.Addresses[0].Probe = false; m.Set(start, w) }, false},
		{"not fresh any more while contested", false, func(m *Machine) { w := probeWanted(ip4); w.Addresses[0].Probe = false; m.Set(start, w) }, true},
		{"given back and taken again", true, func(m *Machine) { m.Set(start, Wanted{}); m.Set(start, w) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := New(prober())
			m.Set(start, w)
			if tt.proven {
				sent(m, start.Add(9*time.Second))
			} else {
				occupied(m, 0, 9*time.Second, otherMAC)
			}
			tt.change(m)
			if _, answered := m.Step(start, arpRequest(ip4)); answered == tt.probing {
				t.Errorf("answered: %v", answered)
			}
		})
	}
}

// TestProbeOff: nothing is probed without a time for it, and what is not fresh never is.
func TestProbeOff(t *testing.T) {
	t.Parallel()
	cfg := prober()
	cfg.Probe = 0
	if _, ok := probed(cfg, ip4).Step(start, arpRequest(ip4)); !ok {
		t.Error("not answered although probing is off")
	}
	if _, ok := owning(prober()).Step(start, arpRequest(ip4)); !ok {
		t.Error("not answered although the cluster had it before")
	}
}

// TestProbeUnsent: questions that could not be sent do not count.
func TestProbeUnsent(t *testing.T) {
	t.Parallel()
	m := probed(prober(), ip4)
	for range 50 {
		now := m.Next()
		for _, p := range m.Tick(now, nil) {
			m.Unsent(now, &p)
		}
	}
	if s := m.State(); s.Addresses[0].Phase != PhaseProbing {
		t.Errorf("state after %v: %+v", m.Next().Sub(start), s)
	}
	begin := m.Next()
	if got := sent(m, begin.Add(300*ms)); len(got) != 5 {
		t.Errorf("sent then: %v", got)
	}
}

// TestProbeMany: the questions for many addresses are spread, so that the answers fit into the buffer of a socket.
func TestProbeMany(t *testing.T) {
	t.Parallel()
	w := manyAddresses(500)
	for i := range w.Addresses {
		w.Addresses[i].Probe = true
	}
	m := New(prober())
	m.Set(start, w)
	var last time.Time
	recent := map[time.Duration]int{} // questions by hundredths of a second
	for now := m.Next(); !now.IsZero(); now = m.Next() {
		for _, p := range m.Tick(now, nil) {
			if p.SenderIP.IsUnspecified() {
				recent[now.Sub(start).Truncate(10*ms)]++
				last = now
			}
		}
	}
	for at, n := range recent {
		if n > 3*probeGroup {
			t.Errorf("%d questions from %v on", n, at)
		}
	}
	if took := last.Sub(start); took > 400*ms {
		t.Errorf("the last question after %v", took)
	}
	if s := m.State(); s.Addresses[999].Phase != PhaseAnnouncing || len(recent) == 0 {
		t.Errorf("state of the last: %+v", s.Addresses[999])
	}
}

// TestProbeMissed: after a time in which answers may have been lost, all questions are asked again.
func TestProbeMissed(t *testing.T) {
	t.Parallel()
	m := probed(prober(), ip4)
	sent(m, start.Add(290*ms))
	m.Missed(start.Add(290 * ms))
	want := []string{
		"290ms probe 192.0.2.1 from 02:00:00:00:00:01", "390ms probe 192.0.2.1 from 02:00:00:00:00:01",
		"490ms probe 192.0.2.1 from 02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, sent(m, start.Add(589*ms))); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// TestProbeAfterPause: a process that stood still gives the others time to answer nevertheless.
func TestProbeAfterPause(t *testing.T) {
	t.Parallel()
	m := probed(prober(), ip4)
	m.Tick(start, nil)
	late := start.Add(10 * time.Second)
	if got := m.Tick(late, nil); len(got) != 1 {
		t.Errorf("sent after the pause: %+v", got)
	}
	if got := m.Next().Sub(late); got != 100*ms {
		t.Errorf("next after %v", got)
	}
}

// TestRivals: two stations that want one address and are no peers meet again and again until one of them gets it. Each
// of them hears the other after a delay.
func TestRivals(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		delay := time.Duration(rng.IntN(5)) * ms
		ms := [2]*Machine{New(prober()), New(prober())}
		for i, mac := range []MAC{ourMAC, otherMAC} {
			l := Link{Name: "eth0", Index: 2, MAC: mac, Up: true}
			ms[i].Set(start, Wanted{Links: []Link{l}, Addresses: []Address{fresh(ip4)}})
		}
		announcing := func() (n int) {
			for _, m := range ms {
				if m.State().Addresses[0].Phase == PhaseAnnouncing {
					n++
				}
			}
			return n
		}
		type flight struct {
			at time.Time
			to int
			p  Packet
		}
		var air []flight
		now := start
		for ; now.Before(start.Add(20*time.Second)) && announcing() == 0; now = now.Add(time.Millisecond) {
			for i, m := range ms {
				for _, p := range m.Tick(now, nil) {
					air = append(air, flight{now.Add(delay), 1 - i, p})
				}
			}
			air = slices.DeleteFunc(air, func(f flight) bool {
				if f.at.After(now) {
					return false
				}
				if answer, ok := ms[f.to].Step(now, f.p); ok {
					ms[1-f.to].Step(now, answer)
				}
				return true
			})
		}
		if announcing() != 1 {
			t.Fatalf("seed %d: %d announce after %v", seed, announcing(), now.Sub(start))
		}
	}
}
