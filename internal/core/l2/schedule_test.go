// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sent runs the machine's timers until end and writes one line per packet.
func sent(m *Machine, end time.Time) []string {
	var lines []string
	for now := m.Next(); !now.IsZero() && !now.After(end); now = m.Next() {
		for _, p := range m.Tick(now, nil) {
			lines = append(lines, fmt.Sprintf("%v %s", now.Sub(start), describe(p)))
		}
	}
	return lines
}

func describe(p Packet) string {
	switch {
	case p.Kind == ARPRequest && p.SenderIP.IsUnspecified():
		return fmt.Sprintf("probe %v from %v", p.TargetIP, p.SenderMAC)
	case p.Kind == Solicitation && p.SenderIP.IsUnspecified() && p.SenderMAC == (MAC{}):
		return fmt.Sprintf("detect %v", p.TargetIP)
	case p.Kind == Solicitation:
		return fmt.Sprintf("ask %v by %v from %v", p.TargetIP, p.SenderIP, p.SenderMAC)
	case p.Kind == Advertisement && p.Override && !p.Solicited && p.DestIP == allNodes:
		return fmt.Sprintf("advertise %v at %v", p.TargetIP, p.SenderMAC)
	case p.gratuitous() && p.Dst == broadcastMAC() && p.Src == p.SenderMAC:
		return fmt.Sprintf("%s %v at %v", map[Kind]string{ARPRequest: "request", ARPReply: "reply"}[p.Kind], p.TargetIP, p.SenderMAC)
	}
	return fmt.Sprintf("%+v", p)
}

func TestBurstIPv4(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	m.Set(start, Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip4, "eth0")}})
	want := []string{
		"0s request 192.0.2.1 at 02:00:00:00:00:01", "0s reply 192.0.2.1 at 02:00:00:00:00:01",
		"200ms request 192.0.2.1 at 02:00:00:00:00:01", "200ms reply 192.0.2.1 at 02:00:00:00:00:01",
		"1s request 192.0.2.1 at 02:00:00:00:00:01", "1s reply 192.0.2.1 at 02:00:00:00:00:01",
		"1s probe 192.0.2.1 from 02:00:00:00:00:01",
		"2s request 192.0.2.1 at 02:00:00:00:00:01", "2s reply 192.0.2.1 at 02:00:00:00:00:01",
		"2s probe 192.0.2.1 from 02:00:00:00:00:01",
		"3.5s request 192.0.2.1 at 02:00:00:00:00:01", "3.5s reply 192.0.2.1 at 02:00:00:00:00:01",
		"3.5s probe 192.0.2.1 from 02:00:00:00:00:01",
		"5s request 192.0.2.1 at 02:00:00:00:00:01", "5s reply 192.0.2.1 at 02:00:00:00:00:01",
		"5s probe 192.0.2.1 from 02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, sent(m, start.Add(5*time.Second))); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := m.State().Addresses[0].GratuitousSent; got != 12 {
		t.Errorf("gratuitous counted: %d, want 12", got)
	}
}

func TestBurstIPv6(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Refresh = 0
	m := New(cfg)
	m.Set(start, Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip6, "eth0")}})
	want := []string{
		"0s advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"200ms advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"1s advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"1s ask 2001:db8::1:2:3 by fe80::ff:fe00:1 from 02:00:00:00:00:01",
		"2s advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"2s ask 2001:db8::1:2:3 by fe80::ff:fe00:1 from 02:00:00:00:00:01",
		"3.5s advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"3.5s ask 2001:db8::1:2:3 by fe80::ff:fe00:1 from 02:00:00:00:00:01",
		"5s advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
		"5s ask 2001:db8::1:2:3 by fe80::ff:fe00:1 from 02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, sent(m, start.Add(time.Hour))); diff != "" {
		t.Errorf("sent without refresh (-want +got):\n%s", diff)
	}
}

func TestBurstAgain(t *testing.T) {
	t.Parallel()
	down, moved, renewed := eth0, eth0, eth0
	down.Up, moved.MAC, renewed.Index = false, secondMAC, 9
	tests := []struct {
		name   string
		change func(m *Machine, now time.Time, set func(...Link))
		want   []string // sent in the first 100 ms after the change
	}{
		{"nothing changed", func(_ *Machine, _ time.Time, set func(...Link)) { set(eth0) }, nil},
		{"another link came", func(_ *Machine, _ time.Time, set func(...Link)) { set(eth0, eth1) }, nil},
		{"link down", func(_ *Machine, _ time.Time, set func(...Link)) { set(down) }, nil},
		{"link gone", func(_ *Machine, _ time.Time, set func(...Link)) { set() }, nil},
		{"link up again", func(_ *Machine, _ time.Time, set func(...Link)) { set(down); set(eth0) },
			[]string{"10s request 192.0.2.1 at 02:00:00:00:00:01", "10s reply 192.0.2.1 at 02:00:00:00:00:01"}},
		{"new mac", func(_ *Machine, _ time.Time, set func(...Link)) { set(moved) },
			[]string{"10s request 192.0.2.1 at 02:00:00:00:00:02", "10s reply 192.0.2.1 at 02:00:00:00:00:02"}},
		{"made anew", func(_ *Machine, _ time.Time, set func(...Link)) { set(renewed) },
			[]string{"10s request 192.0.2.1 at 02:00:00:00:00:01", "10s reply 192.0.2.1 at 02:00:00:00:00:01"}},
		{"reannounce", func(m *Machine, now time.Time, _ func(...Link)) { m.Reannounce(now, 2) },
			[]string{"10s request 192.0.2.1 at 02:00:00:00:00:01", "10s reply 192.0.2.1 at 02:00:00:00:00:01"}},
		{"reannounce elsewhere", func(m *Machine, now time.Time, _ func(...Link)) { m.Reannounce(now, 3) }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Refresh = 0
			m := New(cfg)
			now := start
			set := func(links ...Link) { m.Set(now, Wanted{Links: links, Addresses: []Address{on(ip4, "eth0")}}) }
			set(eth0)
			now = start.Add(10 * time.Second)
			sent(m, now)
			tt.change(m, now, set)
			if diff := cmp.Diff(tt.want, sent(m, now.Add(100*time.Millisecond))); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefreshSpread: in one interval each address is refreshed once, and not all at the same time.
func TestRefreshSpread(t *testing.T) {
	t.Parallel()
	const addresses = 600
	cfg := DefaultConfig()
	m := New(cfg)
	m.Set(start, manyAddresses(addresses/2))
	begin := start.Add(time.Minute)
	for now := m.Next(); now.Before(begin); now = m.Next() {
		m.Tick(now, nil)
	}
	times, probes := map[netip.Addr][]time.Duration{}, 0
	perSecond := make([]int, 60)
	for now := m.Next(); now.Before(begin.Add(cfg.Refresh)); now = m.Next() {
		for _, p := range m.Tick(now, nil) {
			if p.claimed() == p.SenderIP {
				times[p.TargetIP] = append(times[p.TargetIP], now.Sub(begin))
				perSecond[now.Sub(begin)/time.Second]++
			} else {
				probes++
			}
		}
	}
	if len(times) != addresses || probes != addresses {
		t.Errorf("%d addresses refreshed and %d asked for, want %d", len(times), probes, addresses)
	}
	for ip, at := range times {
		if len(at) != 1 {
			t.Errorf("%v refreshed at %v", ip, at)
		}
	}
	if most := slices.Max(perSecond); most > 3*addresses/60 {
		t.Errorf("up to %d refreshes in one second: %v", most, perSecond)
	}
}

// TestOverdue: a process that was stopped does not send everything it missed.
func TestOverdue(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Refresh = 0
	m := New(cfg)
	m.Set(start, Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip6, "eth0")}})
	m.Tick(start, nil)
	if got := m.Tick(start.Add(4*time.Second), nil); len(got) != 2 || got[0].Kind != Advertisement || got[1].Kind != Solicitation {
		t.Errorf("sent after the pause: %+v", got)
	}
	if got := m.Next(); !got.Equal(start.Add(5 * time.Second)) {
		t.Errorf("next at %v", got.Sub(start))
	}
}

// TestTickInParts: a take-over of many addresses is served in parts. Each is announced once before the other form of the
// announcement of any of them.
func TestTickInParts(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	w := manyAddresses(500)
	m.Set(start, w)
	var got []netip.Addr
	for !m.Next().After(start) {
		part := m.Tick(start, nil)
		if len(part) > 3*batch {
			t.Fatalf("%d packets in one part", len(part))
		}
		for _, p := range part {
			got = append(got, p.TargetIP)
		}
	}
	var want []netip.Addr
	for _, a := range w.Addresses {
		want = append(want, a.IP)
	}
	for _, a := range w.Addresses {
		if a.IP.Is4() {
			want = append(want, a.IP)
		}
	}
	if diff := cmp.Diff(want, slices.Compact(got), cmpAddr()); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
}

func TestNothingToDo(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	m.Set(start, Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip4, "eth0")}})
	if got := m.Next(); !got.IsZero() {
		t.Errorf("without repeats and refresh there is work at %v", got)
	}
	if got, ok := m.Step(start, arpRequest(ip4)); !ok {
		t.Errorf("no answer: %+v", got)
	}
}

// TestHushed: an address that is offered to another node is answered for and not announced, not even by what was due
// just before; when it stays here it is announced as if taken over anew.
func TestHushed(t *testing.T) {
	t.Parallel()
	set := func(m *Machine, now time.Time, hushed bool) {
		w := Wanted{Links: []Link{eth0}}
		for _, ip := range []netip.Addr{ip4, ip6} {
			w.Addresses = append(w.Addresses, Address{IP: ip, Interfaces: []string{"eth0"}, Hushed: hushed})
		}
		m.Set(now, w)
	}
	claims := func(ps []Packet) (n int) {
		for i := range ps {
			if ps[i].gratuitous() {
				n++
			}
		}
		return n
	}
	m := New(DefaultConfig())
	set(m, start, false)
	due := m.Tick(start, nil)
	if n := claims(due); n != 3 {
		t.Fatalf("%d announcements at first, want 2 of IPv4 and one of IPv6: %+v", n, due)
	}
	set(m, start, true)
	for i := range due {
		if m.Current(&due[i]) {
			t.Errorf("still to be sent: %+v", due[i])
		}
	}
	now := start
	for ; now.Before(start.Add(3 * time.Minute)); now = m.Next() {
		if ps := m.Tick(now, nil); claims(ps) > 0 {
			t.Fatalf("after %v it announces %+v", now.Sub(start), ps)
		}
	}
	for _, q := range []Packet{arpRequest(ip4), solicitation(ip6)} {
		if _, ok := m.Step(now, q); !ok {
			t.Errorf("no answer about %v", q.TargetIP)
		}
	}
	set(m, now, false)
	for _, at := range DefaultConfig().Repeats {
		ps := m.Tick(now.Add(at), nil)
		if n := claims(ps); n != 3 {
			t.Errorf("%v after it is not hushed any more there are %d announcements, want 3", at, n)
		}
		for i := range ps {
			if !m.Current(&ps[i]) {
				t.Errorf("not to be sent: %+v", ps[i])
			}
		}
	}
}
