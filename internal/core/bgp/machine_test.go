// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

var (
	begin   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	compare = cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func config() bgp.Config {
	return bgp.Config{
		Key: bgp.Key{
			Endpoint: bgp.Endpoint{Address: addr("192.0.2.254"), Port: 179},
			LocalAS:  64512, PeerAS: 64600, RouterID: addr("192.0.2.1"), V4: true,
		},
		Timers: bgp.Timers{Hold: 90 * time.Second},
		Local:  bgp.Local{Address: addr("192.0.2.1"), Remote: addr("192.0.2.254")},
	}
}

func peerOpen() bgp.Open {
	return bgp.Open{Version: 4, AS: 64600, Hold: 30 * time.Second, RouterID: addr("192.0.2.254"), V4: true, V6: true, FourByteAS: true, RouteRefresh: true}
}

// up returns a machine that is established, with its first messages taken.
func up(t *testing.T, cfg bgp.Config, o bgp.Open, routes ...bgp.Route) (*bgp.Machine, []bgp.Message) {
	t.Helper()
	m := bgp.NewMachine(cfg, begin)
	m.Set(routes)
	m.Ready()
	m.Receive(o, begin)
	m.Ready()
	m.Receive(bgp.Keepalive{}, begin)
	if m.State() != bgp.Established {
		t.Fatalf("state %s: %+v", m.State(), m.Ready().End)
	}
	return m, m.Ready().Send
}

func TestMachineComesUp(t *testing.T) {
	t.Parallel()
	m := bgp.NewMachine(config(), begin)
	want := []bgp.Message{bgp.Open{AS: 64512, Hold: 90 * time.Second, RouterID: addr("192.0.2.1"), V4: true, FourByteAS: true, RouteRefresh: true, RestartTime: bgp.RestartTime}}
	if diff := cmp.Diff(want, m.Ready().Send, compare); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	m.Set([]bgp.Route{{Prefix: pfx("198.51.100.1/32")}})
	m.Receive(peerOpen(), begin)
	if diff := cmp.Diff([]bgp.Message{bgp.Keepalive{}}, m.Ready().Send); diff != "" || m.State() != bgp.OpenConfirm {
		t.Errorf("after OPEN in %s (-want +got):\n%s", m.State(), diff)
	}
	m.Receive(bgp.Keepalive{}, begin)
	want = []bgp.Message{
		bgp.Announcement{Family: lb.IPv4, NextHop: addr("192.0.2.1"), Prefixes: []netip.Prefix{pfx("198.51.100.1/32")}},
		bgp.EndOfRIB{Family: lb.IPv4},
	}
	if diff := cmp.Diff(want, m.Ready().Send, compare); diff != "" || m.State() != bgp.Established {
		t.Errorf("after KEEPALIVE in %s (-want +got):\n%s", m.State(), diff)
	}
	if got := m.Ready(); len(got.Send) != 0 || got.End != nil {
		t.Errorf("nothing changed, but there is %+v to do", got)
	}
}

// TestMachineTimers: a KEEPALIVE every third of the hold time that was agreed
// on, and the end when the router is silent for all of it.
func TestMachineTimers(t *testing.T) {
	t.Parallel()
	m, _ := up(t, config(), peerOpen())
	for i := 1; i <= 2; i++ {
		at := begin.Add(time.Duration(i) * 10 * time.Second)
		if got := m.Next(); !got.Equal(at) {
			t.Fatalf("next tick at %v, want %v", got, at)
		}
		m.Tick(at.Add(-time.Millisecond))
		if got := m.Ready().Send; len(got) != 0 {
			t.Fatalf("too early: %v", got)
		}
		m.Tick(at)
		if diff := cmp.Diff([]bgp.Message{bgp.Keepalive{}}, m.Ready().Send); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
	m.Receive(bgp.Update{}, begin.Add(25*time.Second)) // a sign of life like any other
	m.Tick(begin.Add(54 * time.Second))
	if m.Ready().End != nil {
		t.Fatal("ended before the hold time")
	}
	m.Tick(begin.Add(55 * time.Second))
	end := m.Ready().End
	if end == nil || end.Send == nil || end.Send.Code != 4 || !strings.Contains(end.Text, "hold time of 30s") {
		t.Errorf("end %+v, want NOTIFICATION 4", end)
	}
}

// TestMachineThatWasStopped does not blame the router: what it sent meanwhile
// has yet to be read. But it is asked for once only.
func TestMachineThatWasStopped(t *testing.T) {
	t.Parallel()
	m, _ := up(t, config(), peerOpen())
	awake := begin.Add(30*time.Second + time.Minute)
	m.Tick(awake)
	r := m.Ready()
	if r.End != nil {
		t.Fatalf("ended at once: %+v", r.End)
	}
	if diff := cmp.Diff([]bgp.Message{bgp.Keepalive{}}, r.Send); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.Receive(bgp.Keepalive{}, awake.Add(100*time.Millisecond)) // it was in the socket
	m.Tick(awake.Add(2 * time.Second))
	if r := m.Ready(); r.End != nil {
		t.Fatalf("ended although the router was heard: %+v", r.End)
	}

	asleep := awake.Add(5 * time.Minute)
	m.Tick(asleep)
	if m.Ready().End != nil {
		t.Fatal("ended at once the second time")
	}
	m.Tick(asleep.Add(10 * time.Second)) // late again, and nothing was heard
	if end := m.Ready().End; end == nil || !strings.Contains(end.Text, "hold time of 30s") {
		t.Errorf("end %+v, want the hold time to be over", end)
	}
}

func TestMachineChangesTimersInPlace(t *testing.T) {
	t.Parallel()
	m, _ := up(t, config(), peerOpen())
	m.SetTimers(bgp.Timers{Hold: 90 * time.Second, Keepalive: 2 * time.Second}, begin)
	if got, want := m.Next(), begin.Add(2*time.Second); !got.Equal(want) {
		t.Errorf("next KEEPALIVE at %v, want %v", got, want)
	}
	if m.State() != bgp.Established {
		t.Errorf("state %s", m.State())
	}
}

func TestMachineWithoutHoldTime(t *testing.T) {
	t.Parallel()
	o := peerOpen()
	o.Hold = 0
	m, _ := up(t, config(), o)
	if !m.Next().IsZero() {
		t.Errorf("next tick at %v, want none", m.Next())
	}
	m.Tick(begin.Add(1000 * time.Hour))
	if r := m.Ready(); len(r.Send) != 0 || r.End != nil {
		t.Errorf("there is %+v to do", r)
	}
}

// TestMachineRefuses is about OPEN messages that cannot lead to a session.
func TestMachineRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		change  func(*bgp.Config, *bgp.Open)
		subcode uint8
		text    string
	}{
		{"version", func(_ *bgp.Config, o *bgp.Open) { o.Version = 3 }, 1, "version 3"},
		{"AS", func(_ *bgp.Config, o *bgp.Open) { o.AS = 64601 }, 2, "router says it is AS 64601, but peerASN of the BGPPeer is 64600"},
		{"internal", func(c *bgp.Config, _ *bgp.Open) { c.Key.PeerAS, c.Key.Dynamic = 0, "internal" }, 2, "dynamicASN internal"},
		{"external", func(c *bgp.Config, o *bgp.Open) { c.Key.PeerAS, c.Key.Dynamic, o.AS = 0, "external", 64512 }, 2, "dynamicASN is external"},
		{"no router ID", func(_ *bgp.Config, o *bgp.Open) { o.RouterID = addr("0.0.0.0") }, 3, "no router ID"},
		{"our router ID", func(c *bgp.Config, o *bgp.Open) { c.Key.LocalAS = 64600; o.RouterID = addr("192.0.2.1") }, 3, "same router ID"},
		{"hold time", func(_ *bgp.Config, o *bgp.Open) { o.Hold = 2 * time.Second }, 6, "hold time of 2s"},
		{"family", func(c *bgp.Config, o *bgp.Open) { c.Key.V4, c.Key.V6, o.V6 = false, true, false }, 7, "router speaks only IPv4 on this session, and we want only IPv6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, o := config(), peerOpen()
			tt.change(&cfg, &o)
			m := bgp.NewMachine(cfg, begin)
			m.Ready()
			m.Receive(o, begin)
			end := m.Ready().End
			if end == nil || end.Send == nil || end.Send.Code != 2 || end.Send.Subcode != tt.subcode || !strings.Contains(end.Text, tt.text) {
				t.Errorf("end %+v, want NOTIFICATION 2/%d and %q", end, tt.subcode, tt.text)
			}
		})
	}
}

// TestMachineStates is about messages that do not belong where they come.
func TestMachineStates(t *testing.T) {
	t.Parallel()
	inState := func(t *testing.T, s bgp.State) *bgp.Machine {
		t.Helper()
		m := bgp.NewMachine(config(), begin)
		if s != bgp.OpenSent {
			m.Receive(peerOpen(), begin)
		}
		if s == bgp.Established {
			m.Receive(bgp.Keepalive{}, begin)
		}
		if m.State() != s {
			t.Fatalf("state %s", m.State())
		}
		return m
	}
	tests := []struct {
		state   bgp.State
		message bgp.Message
		subcode uint8 // RFC 6608; 0: it belongs there
	}{
		{bgp.OpenSent, bgp.Keepalive{}, 1},
		{bgp.OpenSent, bgp.Update{}, 1},
		{bgp.OpenSent, bgp.Refresh{}, 1},
		{bgp.OpenConfirm, peerOpen(), 2},
		{bgp.OpenConfirm, bgp.Update{}, 2},
		{bgp.OpenConfirm, bgp.Refresh{}, 2},
		{bgp.Established, peerOpen(), 3},
		{bgp.Established, bgp.Update{}, 0},
		{bgp.Established, bgp.Refresh{Family: lb.IPv6}, 0},
	}
	for _, tt := range tests {
		m := inState(t, tt.state)
		m.Receive(tt.message, begin)
		end := m.Ready().End
		switch {
		case tt.subcode == 0 && end != nil:
			t.Errorf("%T in %s: %+v", tt.message, tt.state, end)
		case tt.subcode != 0 && (end == nil || end.Send == nil || end.Send.Code != 5 || end.Send.Subcode != tt.subcode):
			t.Errorf("%T in %s: %+v, want NOTIFICATION 5/%d", tt.message, tt.state, end, tt.subcode)
		}
	}
	for _, s := range []bgp.State{bgp.OpenSent, bgp.OpenConfirm, bgp.Established} {
		m := inState(t, s)
		m.Receive(bgp.Notification{Code: 6, Subcode: 4}, begin)
		if end := m.Ready().End; end == nil || end.Send != nil || !strings.Contains(end.Text, "reset the session") {
			t.Errorf("NOTIFICATION in %s: %+v, want the end without an answer", s, end)
		}
		m.Receive(bgp.Keepalive{}, begin) // too late: nothing happens
		m = inState(t, s)
		for range 10 { // KEEPALIVEs come before the end
			m.Tick(m.Next())
		}
		if end := m.Ready().End; end == nil || end.Send == nil || end.Send.Code != 4 {
			t.Errorf("silence in %s: %+v, want NOTIFICATION 4", s, end)
		}
	}
}

// TestRefresh: the family is repeated, and what was gone meanwhile is withdrawn
// all the same.
func TestRefresh(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Key.V6, cfg.Local.Interface6 = true, addr("2001:db8::1")
	a, b, c := bgp.Route{Prefix: pfx("198.51.100.1/32")}, bgp.Route{Prefix: pfx("198.51.100.2/32")}, bgp.Route{Prefix: pfx("2001:db8:ff::1/128")}
	m, _ := up(t, cfg, peerOpen(), a, b, c)
	m.Set([]bgp.Route{b, c})
	m.Receive(bgp.Refresh{Family: lb.IPv4}, begin)
	m.Receive(bgp.Refresh{Family: lb.IPv4}, begin)
	want := []bgp.Message{
		bgp.Withdrawal{Family: lb.IPv4, Prefixes: []netip.Prefix{a.Prefix}},
		bgp.Announcement{Family: lb.IPv4, NextHop: addr("192.0.2.1"), Prefixes: []netip.Prefix{b.Prefix}},
		bgp.EndOfRIB{Family: lb.IPv4},
	}
	if diff := cmp.Diff(want, m.Ready().Send, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if m.Prefixes() != 2 {
		t.Errorf("the router has %d prefixes, want 2", m.Prefixes())
	}
}

// TestNextHops is about routes of each family over sessions of each family.
func TestNextHops(t *testing.T) {
	t.Parallel()
	v4, v6 := pfx("198.51.100.1/32"), pfx("2001:db8:ff::1/128")
	local4 := bgp.Local{Address: addr("192.0.2.1")}
	local6 := bgp.Local{Address: addr("2001:db8::1")}
	linkLocal := bgp.Local{Address: addr("fe80::1%eth0")}
	with := func(l bgp.Local, change func(*bgp.Local)) bgp.Local { change(&l); return l }
	tests := []struct {
		name     string
		local    bgp.Local
		extended bool
		only4    bool   // the router does not take IPv6
		want4    string // next hop of the IPv4 route; empty: not sent
		want6    string
		wantLL   string
		notice   string
	}{
		{"IPv4 session, IPv6 on the interface", with(local4, func(l *bgp.Local) { l.Interface6 = addr("2001:db8::1") }), false, false, "192.0.2.1", "2001:db8::1", "", ""},
		{"IPv4 session, the node's IPv6", local4, false, false, "192.0.2.1", "2001:db8::99", "", ""},
		{"IPv6 session, RFC 8950", local6, true, false, "2001:db8::1", "2001:db8::1", "", ""},
		{"IPv6 session, IPv4 on the interface", with(local6, func(l *bgp.Local) { l.Interface4 = addr("192.0.2.1") }), false, false, "192.0.2.1", "2001:db8::1", "", ""},
		{"IPv6 session, the node's IPv4", local6, false, false, "192.0.2.99", "2001:db8::1", "", ""},
		{"link-local", linkLocal, true, false, "fe80::1", "fe80::1", "", ""},
		{"link-local and global", with(linkLocal, func(l *bgp.Local) { l.Interface6 = addr("2001:db8::1") }), true, false, "2001:db8::1", "2001:db8::1", "fe80::1", ""},
		{"router on the same host", bgp.Local{Address: addr("127.0.0.1")}, false, false, "192.0.2.99", "2001:db8::99", "", ""},
		{"router on the same host, IPv6", bgp.Local{Address: addr("::1")}, true, false, "192.0.2.99", "2001:db8::99", "", ""},
		{"router without IPv6", local4, false, true, "192.0.2.1", "", "", "router does not take IPv6 routes on this session"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, o := config(), peerOpen()
			cfg.Local, cfg.Key.V6 = tt.local, true
			cfg.NextHop4, cfg.NextHop6 = addr("192.0.2.99"), addr("2001:db8::99")
			o.ExtendedNextHop, o.V6 = tt.extended, !tt.only4
			m, sent := up(t, cfg, o, bgp.Route{Prefix: v4}, bgp.Route{Prefix: v6})
			var got4, got6, gotLL string
			for _, msg := range sent {
				if a, ok := msg.(bgp.Announcement); ok && a.Family == lb.IPv4 {
					got4 = a.NextHop.String()
				} else if ok {
					got6 = a.NextHop.String()
					if a.LinkLocal.IsValid() {
						gotLL = a.LinkLocal.String()
					}
				}
			}
			if got4 != tt.want4 || got6 != tt.want6 || gotLL != tt.wantLL || m.Notice() != tt.notice {
				t.Errorf("next hops %q, %q, %q, notice %q; want %q, %q, %q, %q", got4, got6, gotLL, m.Notice(), tt.want4, tt.want6, tt.wantLL, tt.notice)
			}
		})
	}
	cfg, o := config(), peerOpen()
	cfg.Local, cfg.Key.V6 = local6, true
	m, _ := up(t, cfg, o, bgp.Route{Prefix: v4})
	if !strings.Contains(m.Notice(), "RFC 8950") || m.Prefixes() != 0 {
		t.Errorf("without any IPv4 next hop: %d prefixes, notice %q", m.Prefixes(), m.Notice())
	}
}
