// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"net/netip"
	"testing"

	mdarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"

	"github.com/heraldlb/herald/internal/core/l2"
)

// FuzzAgainstOthers compares the decoder of core/l2 with those of mdlayher/arp and mdlayher/ndp: what it understands,
// they understand in the same way. It may be stricter.
func FuzzAgainstOthers(f *testing.F) {
	mac, all := l2.MAC{2, 0, 0, 0, 0, 1}, netip.IPv6LinkLocalAllNodes()
	for _, p := range []l2.Packet{
		{Kind: l2.ARPRequest, Src: mac, Dst: broadcast(), SenderMAC: mac, SenderIP: far4.Addr(), TargetIP: vip4},
		{Kind: l2.ARPReply, Src: mac, Dst: otherMAC, SenderMAC: mac, SenderIP: vip4, TargetMAC: otherMAC, TargetIP: far4.Addr()},
		{Kind: l2.Solicitation, Src: mac, SenderMAC: mac, SenderIP: far6.Addr(), TargetIP: vip6, DestIP: l2.SolicitedNode(vip6)},
		{Kind: l2.Solicitation, Src: mac, SenderIP: netip.IPv6Unspecified(), TargetIP: vip6, DestIP: l2.SolicitedNode(vip6)},
		{Kind: l2.Advertisement, Src: mac, SenderMAC: mac, SenderIP: vip6, TargetIP: vip6, DestIP: all, Override: true},
		{Kind: l2.Advertisement, Src: mac, SenderMAC: mac, SenderIP: vip6, TargetIP: vip6, DestIP: far6.Addr(), Solicited: true},
	} {
		f.Add(l2.AppendFrame(nil, &p))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := l2.ParseFrame(frame)
		if err != nil {
			return
		}
		if p.Kind == l2.ARPRequest || p.Kind == l2.ARPReply {
			compareARP(t, p, frame[14:])
			return
		}
		size := int(frame[18])<<8 | int(frame[19])
		compareNDP(t, p, frame[54:54+size])
	})
}

func compareARP(t *testing.T, p l2.Packet, b []byte) {
	t.Helper()
	var other mdarp.Packet
	if err := other.UnmarshalBinary(b); err != nil {
		t.Fatalf("mdlayher/arp does not understand %+v: %v", p, err)
	}
	theirs := l2.Packet{
		Kind: p.Kind, Src: p.Src, Dst: p.Dst,
		SenderMAC: l2.MAC(other.SenderHardwareAddr), SenderIP: other.SenderIP,
		TargetMAC: l2.MAC(other.TargetHardwareAddr), TargetIP: other.TargetIP,
	}
	if p != theirs || (other.Operation == mdarp.OperationRequest) != (p.Kind == l2.ARPRequest) {
		t.Fatalf("we read %+v, mdlayher/arp %+v", p, other)
	}
}

func compareNDP(t *testing.T, p l2.Packet, b []byte) {
	t.Helper()
	m, err := ndp.ParseMessage(b)
	if err != nil {
		return // it looks into options that do not concern us
	}
	var options []ndp.Option
	var direction ndp.Direction
	switch m := m.(type) {
	case *ndp.NeighborSolicitation:
		options, direction = m.Options, ndp.Source
		if p.Kind != l2.Solicitation || p.TargetIP != m.TargetAddress {
			t.Fatalf("we read %+v, mdlayher/ndp %+v", p, m)
		}
	case *ndp.NeighborAdvertisement:
		options, direction = m.Options, ndp.Target
		if p.Kind != l2.Advertisement || p.TargetIP != m.TargetAddress || p.Solicited != m.Solicited || p.Override != m.Override {
			t.Fatalf("we read %+v, mdlayher/ndp %+v", p, m)
		}
	default:
		t.Fatalf("we read %+v, mdlayher/ndp %+v", p, m)
	}
	var mac l2.MAC
	for _, o := range options {
		if o, ok := o.(*ndp.LinkLayerAddress); ok && o.Direction == direction {
			mac = l2.MAC(o.Addr)
		}
	}
	if p.SenderMAC != mac {
		t.Fatalf("we read link-layer address %v, mdlayher/ndp %v", p.SenderMAC, mac)
	}
}
