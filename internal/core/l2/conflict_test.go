// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
			m := owning(DefaultConfig())
			before := m.Revision()
			m.Step(start, tt.in)
			m.Step(start, tt.in)
			got := m.State().Conflicts
			if diff := cmp.Diff(tt.want, got, cmpAddr(), emptyIsNil()); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
			if news := m.Revision() - before; news != uint64(len(tt.want)) {
				t.Errorf("revision moved by %d", news)
			}
		})
	}
}

func emptyIsNil() cmp.Option {
	return cmp.Transformer("empty", func(c []Conflict) []Conflict { return append([]Conflict(nil), c...) })
}

func TestConflictEnds(t *testing.T) {
	t.Parallel()
	claim := with(arpRequest(ip4), func(p *Packet) { p.SenderMAC, p.SenderIP = otherMAC, ip4 })
	cfg := Config{ConflictTTL: time.Minute}

	m := owning(cfg)
	m.Step(start, claim)
	m.Step(start.Add(30*time.Second), claim)
	if got := m.Next(); !got.Equal(start.Add(90 * time.Second)) {
		t.Errorf("looks again at %v", got.Sub(start))
	}
	m.Tick(start.Add(89*time.Second), nil)
	if got := m.State().Conflicts; len(got) != 1 || !got[0].LastSeen.Equal(start.Add(30*time.Second)) {
		t.Errorf("conflicts before the end: %+v", got)
	}
	revision := m.Revision()
	m.Tick(start.Add(90*time.Second), nil)
	if got := m.State().Conflicts; len(got) != 0 || m.Revision() == revision {
		t.Errorf("conflicts after the end: %+v", got)
	}

	m = owning(cfg)
	m.Step(start, claim)
	m.Set(start, Wanted{[]Link{eth0, eth1}, []Address{on(ip6, "eth0")}})
	if got := m.State().Conflicts; len(got) != 0 {
		t.Errorf("conflicts of an address that went: %+v", got)
	}
}

func TestConflictsAreBounded(t *testing.T) {
	t.Parallel()
	m := owning(DefaultConfig())
	for i := range 1000 {
		m.Step(start, with(arpRequest(ip4), func(p *Packet) {
			p.SenderMAC, p.SenderIP = MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, ip4
		}))
	}
	if got := len(m.State().Conflicts); got != maxConflicts {
		t.Errorf("%d conflicts kept", got)
	}
}
