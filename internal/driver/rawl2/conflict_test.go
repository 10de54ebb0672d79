// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

// TestConflict: the far kernel has the address too and says so only when asked, as with IPVS.
func TestConflict(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "conflict0")
	far.AddAddr(t, "lo", netip.PrefixFrom(vip4, 32)) // ARP answers for addresses of any interface
	far.AddAddr(t, "eth0", netip.PrefixFrom(vip6, 64))
	cfg := l2.DefaultConfig()
	cfg.Check = 0
	d := running(t, cfg)
	d.Set(own(link(t, "conflict0"), vip4, vip6))
	select {
	case <-d.Changed():
	case <-time.After(5 * time.Second):
		t.Error("no signal")
	}
	s := awaitState(t, d, func(s l2.State) bool { return len(s.Conflicts) == 2 })
	mac := l2.MAC(far.Link(t, "eth0").Attrs().HardwareAddr)
	for i, ip := range []netip.Addr{vip4, vip6} {
		if c := s.Conflicts[i]; c.Address != ip || c.Interface != "conflict0" || c.MAC != mac || time.Since(c.LastSeen) > time.Minute {
			t.Errorf("conflict: %+v", c)
		}
	}
}

// TestProbe: the far kernel has one address of each family and says so only when asked. Not a packet is sent that turns
// anybody to us, nor an answer; what nobody has is announced. Once the far kernel gives the others up, they are too.
func TestProbe(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "probe0")
	far.AddAddr(t, "lo", netip.PrefixFrom(vip4, 32))
	far.AddAddr(t, "eth0", netip.PrefixFrom(vip6, 64))
	free4, free6 := vip4.Next(), vip6.Next()
	cfg := l2.DefaultConfig()
	cfg.ProbeAgain = time.Second
	d, l := running(t, cfg), link(t, "probe0")
	wanted := own(l, vip4, free4, vip6, free6)
	for i := range wanted.Addresses {
		wanted.Addresses[i].Probe = true
	}
	d.Set(wanted)
	s := awaitState(t, d, func(s l2.State) bool {
		return s.Addresses[1].Phase == l2.PhaseAnnouncing && s.Addresses[3].Phase == l2.PhaseAnnouncing
	})
	mac := l2.MAC(far.Link(t, "eth0").Attrs().HardwareAddr)
	for i, a := range []l2.AddressState{s.Addresses[0], s.Addresses[2]} {
		if a.Phase != l2.PhaseContested || a.GratuitousSent+a.ResponsesSent > 0 || len(a.Interfaces) > 0 {
			t.Errorf("address that the far end has: %+v", a)
		}
		if len(s.Conflicts) != 2 || s.Conflicts[i].Address != a.IP || s.Conflicts[i].MAC != mac || s.Conflicts[i].Interface != "probe0" {
			t.Errorf("conflicts: %+v", s.Conflicts)
		}
	}
	select {
	case <-d.Changed():
	default:
		t.Error("no signal")
	}
	far.DelAddr(t, "lo", netip.PrefixFrom(vip4, 32))
	far.DelAddr(t, "eth0", netip.PrefixFrom(vip6, 64))
	s = awaitState(t, d, func(s l2.State) bool {
		return s.Addresses[0].Phase == l2.PhaseAnnouncing && s.Addresses[2].Phase == l2.PhaseAnnouncing
	})
	if len(s.Conflicts) > 0 {
		t.Errorf("conflicts with nobody: %+v", s.Conflicts)
	}
	for _, ip := range []netip.Addr{vip4, free4, vip6, free6} {
		ask(t, far, ip)
		awaitNeighbor(t, far, ip, l.MAC)
	}
}

// TestProbeMany: somebody has all of a thousand addresses, and all his answers are heard.
func TestProbeMany(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "probes0")
	far.AddLocal(t, "lo", netip.MustParsePrefix("198.51.0.0/16"))
	d := running(t, l2.DefaultConfig())
	ips := make([]netip.Addr, 1000)
	for i := range ips {
		ips[i] = netip.AddrFrom4([4]byte{198, 51, byte(i / 250), byte(i%250 + 1)})
	}
	wanted := own(link(t, "probes0"), ips...)
	for i := range wanted.Addresses {
		wanted.Addresses[i].Probe = true
	}
	d.Set(wanted)
	awaitState(t, d, func(s l2.State) bool {
		return !slices.ContainsFunc(s.Addresses, func(a l2.AddressState) bool { return a.Phase == l2.PhaseProbing })
	})
	s := d.State()
	for _, a := range s.Addresses {
		if a.Phase != l2.PhaseContested || a.GratuitousSent > 0 {
			t.Errorf("address that the far end has: %+v", a)
		}
	}
	if len(s.Conflicts) != len(ips) {
		t.Errorf("%d conflicts", len(s.Conflicts))
	}
}

// TestProbeDAD: a host that configures the address at the same moment keeps us from it, or we it. Never have both it.
func TestProbeDAD(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "rival0")
	cfg := l2.DefaultConfig()
	cfg.ProbeAgain = time.Second
	d := running(t, cfg)
	wanted := own(link(t, "rival0"), vip6)
	wanted.Addresses[0].Probe = true
	d.Set(wanted)
	far.AddAddrDAD(t, "eth0", netip.PrefixFrom(vip6, 64))
	netnstest.Eventually(t, func() error {
		ours := d.State().Addresses[0].Phase == l2.PhaseAnnouncing
		theirs := far.DADDone(t, "eth0", vip6)
		if ours == theirs {
			return fmt.Errorf("announced here: %v, there: %v", ours, theirs)
		}
		return nil
	})
}

// TestDefend: somebody announces an address of ours to all. Those who believe him come back at once.
func TestDefend(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "defend0")
	cfg := silent()
	cfg.Defend = time.Hour
	d, l := running(t, cfg), link(t, "defend0")
	d.Set(own(l, vip4, vip6))
	w4, w6 := newWire(t, far, arp), newWire(t, far, ip6)
	w4.ready(t, vip4)
	w6.ready(t, vip6)
	claim := w4.request(vip4)
	claim.SenderIP, claim.SenderMAC = vip4, otherMAC
	w4.send(t, claim)
	for _, kind := range []l2.Kind{l2.ARPRequest, l2.ARPReply} {
		if p := w4.unasked(t, kind); p.SenderIP != vip4 || p.TargetIP != vip4 || p.SenderMAC != l.MAC || p.Dst != broadcast() {
			t.Errorf("defended by %+v", p)
		}
	}
	all := netip.IPv6LinkLocalAllNodes()
	advertised := w6.solicitation(vip6)
	advertised.Kind, advertised.SenderIP, advertised.SenderMAC, advertised.Override = l2.Advertisement, vip6, otherMAC, true
	advertised.Dst, advertised.DestIP = l2.MAC{0x33, 0x33, 0, 0, 0, 1}, all
	w6.send(t, advertised)
	if p := w6.unasked(t, l2.Advertisement); p.TargetIP != vip6 || p.SenderMAC != l.MAC || p.DestIP != all || !p.Override {
		t.Errorf("defended by %+v", p)
	}
}

// TestTwoOfOurLinks on one network hear each other's announcements and questions. That is no conflict.
func TestTwoOfOurLinks(t *testing.T) {
	t.Parallel()
	host, far := netnstest.Host(t), netnstest.New(t)
	netnstest.Veth(t, host, "two0", far, "a")
	netnstest.Veth(t, host, "two1", far, "b")
	netnstest.Veth(t, far, "c", far, "eth0")
	far.Bridge(t, "br0", "a", "b", "c")
	cfg := l2.DefaultConfig()
	cfg.Check = 0
	d := running(t, cfg)
	l0, l1 := link(t, "two0"), link(t, "two1")
	d.Set(l2.Wanted{
		Links:     []l2.Link{l0, l1},
		Addresses: []l2.Address{{IP: vip4, Interfaces: []string{"two0", "two1"}}},
	})
	// Each link asks the network and the other one answers.
	s := awaitState(t, d, func(s l2.State) bool { return s.Addresses[0].ResponsesSent >= 2 && s.Addresses[0].GratuitousSent >= 8 })
	if len(s.Conflicts) > 0 {
		t.Errorf("conflicts: %+v", s.Conflicts)
	}
}
