// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdarp "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"

	"github.com/heraldlb/herald/internal/core/l2"
)

// TestAnswersOnTheWire checks what a kernel does not ask on demand, and reads the answers with the decoders of
// others.
func TestAnswersOnTheWire(t *testing.T) {
	t.Parallel()
	// wires returns the near end of a cable and both protocols at its far end.
	wires := func(t *testing.T, name string) (l l2.Link, a, n *wire) {
		t.Helper()
		_, far := cable(t, name)
		d := running(t, silent())
		l, a, n = link(t, name), newWire(t, far, arp), newWire(t, far, ip6)
		d.Set(own(l, vip4, vip6))
		a.ready(t, vip4)
		n.ready(t, vip6)
		return l, a, n
	}
	t.Run("unicast ARP request", func(t *testing.T) {
		t.Parallel()
		l, a, _ := wires(t, "wire0")
		q := a.request(vip4)
		q.Dst = l.MAC
		a.send(t, q)
		_, frame := a.receive(t, l2.ARPReply)
		checkARP(t, frame, l.MAC, a.mac, far4.Addr())
	})
	t.Run("ARP probe", func(t *testing.T) {
		t.Parallel()
		l, a, _ := wires(t, "wire1")
		q := a.request(vip4)
		q.SenderIP = netip.IPv4Unspecified()
		a.send(t, q)
		_, frame := a.receive(t, l2.ARPReply)
		checkARP(t, frame, l.MAC, a.mac, netip.IPv4Unspecified())
	})
	t.Run("unicast solicitation", func(t *testing.T) {
		t.Parallel()
		l, _, n := wires(t, "wire2")
		q := n.solicitation(vip6)
		q.Dst, q.DestIP, q.SenderMAC = l.MAC, vip6, l2.MAC{}
		n.send(t, q)
		p, frame := n.receive(t, l2.Advertisement)
		checkNDP(t, p, frame, l.MAC, n.mac, far6.Addr(), true)
	})
	t.Run("solicitation without source link-layer option", func(t *testing.T) {
		t.Parallel()
		l, _, n := wires(t, "wire5")
		q := n.solicitation(vip6)
		q.SenderMAC = l2.MAC{}
		n.send(t, q)
		p, frame := n.receive(t, l2.Advertisement)
		checkNDP(t, p, frame, l.MAC, n.mac, far6.Addr(), true)
	})
	t.Run("duplicate address detection", func(t *testing.T) {
		t.Parallel()
		l, _, n := wires(t, "wire3")
		q := n.solicitation(vip6)
		q.SenderIP, q.SenderMAC = netip.IPv6Unspecified(), l2.MAC{}
		n.send(t, q)
		p, frame := n.receive(t, l2.Advertisement)
		checkNDP(t, p, frame, l.MAC, l2.MAC{0x33, 0x33, 0, 0, 0, 1}, netip.IPv6LinkLocalAllNodes(), false)
	})
	t.Run("not ours", func(t *testing.T) {
		t.Parallel()
		_, a, n := wires(t, "wire4")
		// The answer to a later question comes first, so the earlier ones get none.
		other := a.request(vip4.Next())
		toOther := a.request(vip4)
		toOther.Dst = otherMAC
		a.send(t, other)
		a.send(t, toOther)
		marked := a.request(vip4)
		marked.SenderIP = netip.MustParseAddr("192.0.2.222")
		a.send(t, marked)
		if p, _ := a.receive(t, l2.ARPReply); p.SenderIP != vip4 || p.TargetIP != marked.SenderIP {
			t.Errorf("answered: %+v", p)
		}
		n.send(t, n.solicitation(vip6.Next()))
		n.send(t, n.solicitation(vip6))
		if p, _ := n.receive(t, l2.Advertisement); p.TargetIP != vip6 {
			t.Errorf("answered: %+v", p)
		}
	})
}

func checkARP(t *testing.T, frame []byte, ours, asker l2.MAC, askerIP netip.Addr) {
	t.Helper()
	var eth ethernet.Frame
	var got mdarp.Packet
	if err := eth.UnmarshalBinary(frame); err != nil {
		t.Fatal(err)
	}
	if err := got.UnmarshalBinary(eth.Payload); err != nil {
		t.Fatal(err)
	}
	want := mdarp.Packet{
		HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4, Operation: mdarp.OperationReply,
		SenderHardwareAddr: ours[:], SenderIP: vip4, TargetHardwareAddr: asker[:], TargetIP: askerIP,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
	if !slices.Equal(eth.Source, ours[:]) || !slices.Equal(eth.Destination, asker[:]) {
		t.Errorf("frame from %v to %v", eth.Source, eth.Destination)
	}
}

func checkNDP(t *testing.T, p l2.Packet, frame []byte, ours, to l2.MAC, toIP netip.Addr, solicited bool) {
	t.Helper()
	got, err := ndp.ParseMessage(frame[54:])
	if err != nil {
		t.Fatal(err)
	}
	want := &ndp.NeighborAdvertisement{
		Solicited: solicited, Override: true, TargetAddress: vip6,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: ours[:]}},
	}
	if diff := cmp.Diff(ndp.Message(want), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("advertisement (-want +got):\n%s", diff)
	}
	if p.Src != ours || p.Dst != to || p.SenderIP != vip6 || p.DestIP != toIP {
		t.Errorf("frame: %+v", p)
	}
}
