// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// cut splits bytes into messages.
func cut(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b[16:]))
		if n < 19 || n > 4096 || n > len(b) || !bytes.Equal(b[:16], bytes.Repeat([]byte{0xff}, 16)) {
			t.Fatalf("a message of %d bytes, %d are left", n, len(b))
		}
		out = append(out, b[:n])
		b = b[n:]
	}
	return out
}

func encoded(t *testing.T, e *encoder, m bgp.Message) [][]byte {
	t.Helper()
	b, n, err := e.encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	out := cut(t, b)
	if len(out) != n {
		t.Errorf("%d messages are counted as %d", len(out), n)
	}
	return out
}

func TestOpenThereAndBack(t *testing.T) {
	t.Parallel()
	for _, o := range []bgp.Open{
		{Version: 4, AS: 64512, Hold: 90 * time.Second, RouterID: netip.MustParseAddr("192.0.2.1"), V4: true},
		{Version: 4, AS: 4200000001, Hold: 3 * time.Second, RouterID: netip.MustParseAddr("192.0.2.1"), V6: true, FourByteAS: true, RouteRefresh: true},
		{Version: 4, AS: 1, RouterID: netip.MustParseAddr("1.2.3.4"), V4: true, V6: true, FourByteAS: true, ExtendedNextHop: true, GracefulRestart: true, Restarting: true, RestartTime: 120 * time.Second},
	} {
		b := encoded(t, &encoder{}, o)[0]
		got, err := decode(bgp.Raw{Type: bgp.TypeOpen, Body: b[19:]})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestOldRouter: without capabilities a router speaks IPv4 and two-byte AS.
func TestOldRouter(t *testing.T) {
	t.Parallel()
	got, err := decode(bgp.Raw{Type: bgp.TypeOpen, Body: []byte{4, 0xfc, 0x58, 0, 90, 10, 0, 0, 1, 0}})
	want := bgp.Open{Version: 4, AS: 64600, Hold: 90 * time.Second, RouterID: netip.MustParseAddr("10.0.0.1"), V4: true}
	if err != nil || got != want {
		t.Errorf("%+v, error %v; want %+v", got, err, want)
	}
}

// TestUpdates reads what is sent with the library, as a router would.
func TestUpdates(t *testing.T) {
	t.Parallel()
	v4, v6 := []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}, []netip.Prefix{netip.MustParsePrefix("2001:db8:ff::/64")}
	attributes := bgp.Attributes{LocalPref: 200, Communities: []uint32{1, bgp.GracefulShutdown}, Large: []lb.LargeCommunity{{Global: 1, Local1: 2, Local2: 3}}, Bandwidth: 125000}
	tests := []struct {
		name    string
		encoder encoder
		message bgp.Message
		want    string
	}{
		{
			"external", encoder{localAS: 4200000001, fourByteAS: true}, bgp.Announcement{Attributes: attributes, Family: lb.IPv4, NextHop: netip.MustParseAddr("192.0.2.1"), Prefixes: v4},
			"[198.51.100.1/32] {Origin: i} {AsPath: 4200000001} {Nexthop: 192.0.2.1} {Communities: 0:1, planned-shut} {Extcomms: [23456:125000]} {LargeCommunity: [ 1:2:3]}",
		},
		{
			"internal", encoder{localAS: 64512, internal: true, fourByteAS: true}, bgp.Announcement{Attributes: attributes, Family: lb.IPv4, NextHop: netip.MustParseAddr("192.0.2.1"), Prefixes: v4},
			"[198.51.100.1/32] {Origin: i} {AsPath: } {Nexthop: 192.0.2.1} {LocalPref: 200} {Communities: 0:1, planned-shut} {Extcomms: [64512:125000]} {LargeCommunity: [ 1:2:3]}",
		},
		{
			"router with two-byte AS", encoder{localAS: 4200000001}, bgp.Announcement{Family: lb.IPv4, NextHop: netip.MustParseAddr("192.0.2.1"), Prefixes: v4},
			"[198.51.100.1/32] {Origin: i} {AsPath: 23456} {Nexthop: 192.0.2.1} 4200000001",
		},
		{
			"IPv6", encoder{localAS: 64512, fourByteAS: true}, bgp.Announcement{Family: lb.IPv6, NextHop: netip.MustParseAddr("2001:db8::1"), Prefixes: v6},
			"[] {MpReach(ipv6-unicast): {Nexthop: 2001:db8::1, NLRIs: [2001:db8:ff::/64]}} {Origin: i} {AsPath: 64512}",
		},
		{
			"IPv4 over IPv6", encoder{localAS: 64512, fourByteAS: true}, bgp.Announcement{Family: lb.IPv4, NextHop: netip.MustParseAddr("2001:db8::1"), LinkLocal: netip.MustParseAddr("fe80::1"), Prefixes: v4},
			"[] {MpReach(ipv4-unicast): {Nexthop: 2001:db8::1, NLRIs: [198.51.100.1/32]}} {Origin: i} {AsPath: 64512}",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			messages := encoded(t, &tt.encoder, tt.message)
			if len(messages) != 1 {
				t.Fatalf("%d messages", len(messages))
			}
			m, err := packet.ParseBGPMessage(messages[0])
			if err != nil {
				t.Fatal(err)
			}
			u := m.Body.(*packet.BGPUpdate)
			got := ""
			for _, a := range u.PathAttributes {
				got += " " + a.String()
			}
			nlri := "["
			for _, p := range u.NLRI {
				nlri += p.String()
			}
			if diff := cmp.Diff(tt.want, nlri+"]"+got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestManyPrefixes: large groups become several messages, and nothing is lost.
func TestManyPrefixes(t *testing.T) {
	t.Parallel()
	e := encoder{localAS: 64512, fourByteAS: true}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		var prefixes []netip.Prefix
		want := map[string]bool{}
		for i := range 5000 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32)
			if f == lb.IPv6 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), 128)
			}
			prefixes = append(prefixes, p)
			want[p.String()] = true
		}
		next := netip.MustParseAddr("192.0.2.1")
		if f == lb.IPv6 {
			next = netip.MustParseAddr("2001:db8::1")
		}
		many := make([]uint32, 250)
		large := make([]lb.LargeCommunity, 200)
		for _, m := range []bgp.Message{
			bgp.Announcement{Family: f, NextHop: next, Prefixes: prefixes, Attributes: bgp.Attributes{Communities: many, Large: large}},
			bgp.Withdrawal{Family: f, Prefixes: prefixes},
		} {
			got := map[string]bool{}
			for _, b := range encoded(t, &e, m) {
				parsed, err := packet.ParseBGPMessage(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range prefixesIn(parsed.Body.(*packet.BGPUpdate)) {
					got[p] = true
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %T (-want +got):\n%s", f, m, diff)
			}
		}
	}
}

func prefixesIn(u *packet.BGPUpdate) (out []string) {
	for _, p := range append(u.NLRI, u.WithdrawnRoutes...) {
		out = append(out, p.String())
	}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *packet.PathAttributeMpReachNLRI:
			for _, p := range a.Value {
				out = append(out, p.String())
			}
		case *packet.PathAttributeMpUnreachNLRI:
			for _, p := range a.Value {
				out = append(out, p.String())
			}
		}
	}
	return out
}

// FuzzDecode: no message can end the program.
func FuzzDecode(f *testing.F) {
	b, _, err := (&encoder{}).encode(nil, bgp.Open{AS: 4200000001, RouterID: netip.MustParseAddr("1.2.3.4"), V4: true, V6: true, FourByteAS: true, RouteRefresh: true, ExtendedNextHop: true, GracefulRestart: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(1), b[19:])
	f.Add(byte(3), []byte{6, 2, 3, 'b', 'y', 'e'})
	f.Add(byte(5), []byte{0, 1, 0, 1})
	f.Add(byte(2), []byte{0, 0, 0, 7, 0xc0, 17, 6, 2, 1, 0, 0})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		msg, err := decode(bgp.Raw{Type: bgp.Type(kind), Body: body})
		if (msg == nil) == (err == nil) {
			t.Fatalf("message %v, error %v", msg, err)
		}
	})
}
