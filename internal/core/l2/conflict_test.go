// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConflicts(t *testing.T) {
	t.Parallel()
	foreign := func(p *Packet) { p.Src, p.SenderMAC = otherMAC, otherMAC }
	advertised := with(solicitation(ip6), func(p *Packet) {
		foreign(p)
		p.Kind, p.Dst, p.DestIP, p.Override = Advertisement, groupMAC(allNodes), allNodes, true
	})
	tests := []struct {
		name string
		in   Packet
		want []Conflict
	}{
		{"gratuitous arp", with(arpRequest(ip4), func(p *Packet) { foreign(p); p.SenderIP = ip4 }),
			[]Conflict{{ip4, "eth0", otherMAC, start}}},
		{"arp request of a station with the address", with(arpRequest(client4), func(p *Packet) { foreign(p); p.SenderIP = ip4 }),
			[]Conflict{{ip4, "eth0", otherMAC, start}}},
		{"answer to our question", with(arpRequest(netip.IPv4Unspecified()), func(p *Packet) {
			foreign(p)
			p.Kind, p.Dst, p.TargetMAC, p.SenderIP = ARPReply, ourMAC, ourMAC, ip4
		}), []Conflict{{ip4, "eth0", otherMAC, start}}},
		{"the same from another of our links", with(arpRequest(ip4), func(p *Packet) { p.SenderMAC, p.SenderIP = secondMAC, ip4 }), nil},
		{"probe", with(arpRequest(ip4), func(p *Packet) { foreign(p); p.SenderIP = netip.IPv4Unspecified() }), nil},
		{"ordinary request", arpRequest(ip4), nil},
		{"claim of another address", with(arpRequest(client4), func(p *Packet) { p.SenderIP = client4 }), nil},
		{"claim on a link without the address", with(arpRequest(ip4), func(p *Packet) { foreign(p); p.SenderIP, p.Interface = ip4, 3 }), nil},
		{"advertisement", advertised, []Conflict{{ip6, "eth0", otherMAC, start}}},
		{"advertisement without option", with(advertised, func(p *Packet) { p.SenderMAC = MAC{} }),
			[]Conflict{{ip6, "eth0", otherMAC, start}}},
		{"our own advertisement", with(advertised, func(p *Packet) { p.SenderMAC = ourMAC }), nil},
		{"solicitation from the address", with(solicitation(client6), func(p *Packet) { foreign(p); p.SenderIP = ip6 }),
			[]Conflict{{ip6, "eth0", otherMAC, start}}},
		{"duplicate address detection", with(solicitation(ip6), func(p *Packet) {
			p.Src, p.SenderIP, p.SenderMAC = otherMAC, netip.IPv6Unspecified(), MAC{}
		}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := owning(Config{})
			before := m.Revision()
			m.Step(start, tt.in)
			m.Step(start, tt.in)
			got := m.State().Conflicts
			if diff := cmp.Diff(tt.want, got, cmpAddr(), emptyIsNil()); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
			// It appears, and is a conflict: Config{} believes at once.
			if news := m.Revision() - before; news != uint64(2*len(tt.want)) {
				t.Errorf("revision moved by %d", news)
			}
		})
	}
}

func emptyIsNil() cmp.Option {
	return cmp.Transformer("empty", func(c []Conflict) []Conflict { return append([]Conflict(nil), c...) })
}

// claim is somebody else's gratuitous ARP for ip4.
func claim() Packet {
	return with(arpRequest(ip4), func(p *Packet) { p.SenderMAC, p.SenderIP = otherMAC, ip4 })
}

// questions runs the machine from one time to another and returns when it asked who has ip4.
func questions(m *Machine, from, to time.Duration) []time.Duration {
	var out []time.Duration
	for at := from; at <= to; at += 100 * time.Millisecond {
		for _, p := range m.Tick(start.Add(at), nil) {
			if p.Kind == ARPRequest && p.SenderIP.IsUnspecified() && p.TargetIP == ip4 {
				out = append(out, at)
			}
		}
	}
	return out
}

func TestConflictMustBeHeardAgain(t *testing.T) {
	t.Parallel()
	const s = time.Second
	cfg := Config{Confirm: 2 * s, Recheck: s}

	// Heard once, while an address moved: asked twice, and forgotten without a word.
	m := owning(cfg)
	m.Step(start, claim())
	if diff := cmp.Diff([]time.Duration{1 * s, 2 * s}, questions(m, 0, 10*s)); diff != "" {
		t.Errorf("questions after a passing claim (-want +got):\n%s", diff)
	}
	if len(m.suspects) != 0 {
		t.Errorf("still known: %+v", m.suspects)
	}

	// Heard again within Confirm: no conflict yet. After it: one.
	m = owning(cfg)
	m.Step(start, claim())
	m.Step(start.Add(1900*time.Millisecond), claim())
	if got := m.State().Conflicts; len(got) != 0 {
		t.Errorf("a conflict too early: %+v", got)
	}
	before := m.Revision()
	m.Step(start.Add(2*s), claim())
	if got := m.State().Conflicts; len(got) != 1 || m.Revision() == before {
		t.Errorf("no conflict after Confirm: %+v", got)
	}
}

func TestConflictEnds(t *testing.T) {
	t.Parallel()
	const s = time.Second
	m := owning(Config{Recheck: s})
	m.Step(start, claim())
	if got := m.Next(); !got.Equal(start.Add(s)) {
		t.Errorf("asks first after %v", got.Sub(start))
	}
	if diff := cmp.Diff([]time.Duration{1 * s, 6 * s, 11 * s}, questions(m, 0, 14*s)); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
	m.Step(start.Add(14*s), claim())
	questions(m, 14*s, 28*s)
	if got := m.State().Conflicts; len(got) != 1 || !got[0].LastSeen.Equal(start.Add(14*s)) {
		t.Errorf("conflicts before the end: %+v", got)
	}
	revision := m.Revision()
	m.Tick(start.Add(29*s), nil)
	if got := m.State().Conflicts; len(got) != 0 || m.Revision() == revision {
		t.Errorf("conflicts after the end: %+v", got)
	}

	m = owning(Config{Recheck: s})
	m.Step(start, claim())
	m.Set(start, Wanted{Links: []Link{eth0, eth1}, Addresses: []Address{on(ip6, "eth0")}})
	if got := m.State().Conflicts; len(got) != 0 {
		t.Errorf("conflicts of an address that went: %+v", got)
	}
}

func TestConflictsAreBounded(t *testing.T) {
	t.Parallel()
	m := owning(Config{})
	for i := range 1000 {
		m.Step(start, with(arpRequest(ip4), func(p *Packet) {
			p.SenderMAC, p.SenderIP = MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, ip4
		}))
	}
	if got := len(m.State().Conflicts); got != maxSightings {
		t.Errorf("%d conflicts kept", got)
	}
}

// TestDefence: a stranger's claim is answered by an announcement, once in a while, whoever heard it; the schedule
// goes on as if nothing had been. A node of the cluster may be about to get the address, and is not fought.
func TestDefence(t *testing.T) {
	t.Parallel()
	const s = time.Second
	cfg := Config{Defend: 10 * s, Check: time.Hour, Repeats: []time.Duration{0, 20 * s}}
	m := New(cfg)
	w := Wanted{Links: []Link{eth0}, Addresses: []Address{on(ip4, "eth0"), on(ip6, "eth0")}}
	m.Set(start, w)
	sent(m, start)
	advertised := with(solicitation(ip6), func(p *Packet) {
		p.SenderMAC, p.Kind, p.Dst, p.DestIP = otherMAC, Advertisement, groupMAC(allNodes), allNodes
	})
	var got []string
	for _, at := range []time.Duration{1 * s, 2 * s, 10 * s, 12 * s} {
		m.Step(start.Add(at), claim())
		m.Step(start.Add(at), advertised)
		got = append(got, sent(m, start.Add(at))...)
	}
	announcement := func(at string) []string {
		return []string{
			at + " advertise 2001:db8::1:2:3 at 02:00:00:00:00:01",
			at + " reply 192.0.2.1 at 02:00:00:00:00:01", at + " request 192.0.2.1 at 02:00:00:00:00:01",
		}
	}
	sorted := cmpopts.SortSlices(strings.Compare)
	if diff := cmp.Diff(append(announcement("1s"), announcement("12s")...), got, sorted); diff != "" {
		t.Errorf("defended (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(announcement("20s"), sent(m, start.Add(20*s)), sorted); diff != "" {
		t.Errorf("the next repeat (-want +got):\n%s", diff)
	}
	w.Peers = []MAC{otherMAC}
	m.Set(start.Add(30*s), w)
	m.Step(start.Add(30*s), claim())
	if got := sent(m, start.Add(30*s)); got != nil {
		t.Errorf("defended against a peer: %v", got)
	}
	if got := m.State(); len(got.Conflicts) != 2 || got.Addresses[0].GratuitousSent != 8 {
		t.Errorf("state: %+v", got)
	}
}
