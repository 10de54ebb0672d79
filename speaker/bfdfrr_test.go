// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/netnstest"
	"github.com/heraldlb/herald/internal/routertest"
)

// TestRoutersBFD: the first session is not lost when BFD comes up, a cut cable
// is noticed at once and healed, and BFD that the router's operator shuts down
// takes nothing along.
func TestRoutersBFD(t *testing.T) { //nolint:paralleltest // its interfaces have the names of another test's
	node, far := netnstest.Host(t), netnstest.New(t)
	netnstest.Veth(t, node, "bfd0", far, "eth0")
	node.AddAddr(t, "bfd0", netip.MustParsePrefix("10.0.95.1/24"))
	far.AddAddr(t, "eth0", netip.MustParsePrefix("10.0.95.254/24"))
	const config = "router bgp 64600\n bgp router-id 10.9.9.1\n no bgp ebgp-requires-policy\n neighbor 10.0.95.1 remote-as 64512\n neighbor 10.0.95.1 bfd 5 100 100\n"
	f := routertest.StartFRR(t, far, config, "bfdd")
	o := newObjects(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1))
	clear(o.peers)
	o.peers["frr"] = churnPeer("frr", "10.0.95.254", 179)
	o.peers["frr"].Spec.BFDProfile = "fast"
	o.profiles["fast"] = &v1beta1.BFDProfile{ObjectMeta: churnMeta("fast"), Spec: v1beta1.BFDProfileSpec{
		TransmitInterval: of(int32(100)), ReceiveInterval: of(int32(100)), DetectMultiplier: of(int32(5)),
	}}
	s := runSide(t, o)
	s.plan()
	bfdUp := func(what string) {
		t.Helper()
		routertest.Await(t, what, 20*time.Second, func() bool { return s.router.bfd.state()["frr"].State == "Up" })
	}
	firstStays := func(what string) {
		t.Helper()
		s.awaitUp(t, "frr")
		bfdUp(what)
		time.Sleep(time.Second) // FRR would have dropped the session by now
		if text := f.Show("show bgp neighbors 10.0.95.1"); !strings.Contains(text, "Connections established 1; dropped 0") {
			t.Errorf("%s: FRR lost the first session:\n%s", what, text)
		}
	}
	firstStays("BFD comes up")

	far.Down(t, "eth0")
	// Far below the hold time; how far is for the bench to say.
	routertest.Await(t, "the cut cable is noticed", 5*time.Second, func() bool { return s.state("frr").State != bgp.Established })
	far.Up(t, "eth0")
	s.awaitUp(t, "frr")
	bfdUp("BFD is back")

	f.StopBGP()
	routertest.Await(t, "the end of bgpd is noticed", 5*time.Second, func() bool { return s.state("frr").State != bgp.Established })
	f.StartBGP(config)
	firstStays("BFD comes up with another bgpd")

	opens := s.state("frr").Counters.OpensSent
	f.Configure("bfd\n peer 10.0.95.1 local-address 10.0.95.254 interface eth0\n  shutdown\n")
	routertest.Await(t, "BFD is shut down", 5*time.Second, func() bool { return s.router.bfd.state()["frr"].State != "Up" })
	time.Sleep(time.Second)
	if st := s.state("frr"); st.State != bgp.Established || st.Counters.OpensSent != opens {
		t.Errorf("BGP did not outlive BFD that was shut down on purpose: %+v\n%s", st, f.Show("show bfd peers"))
	}
}
