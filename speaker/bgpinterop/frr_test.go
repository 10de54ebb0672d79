// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestFRR announces, changes and withdraws routes of both families.
func TestFRR(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := startFRR(t, w.router, `
router bgp 64600
 bgp router-id 10.9.9.1
 no bgp ebgp-requires-policy
 neighbor 10.0.1.1 remote-as 64512
 address-family ipv6 unicast
  neighbor 10.0.1.1 activate
 exit-address-family
`)
	d, stop := speakUntil(t, false)
	s := session(w.router4(1), route("198.51.100.1/32"), route("2001:db8:ff::1/128"))
	s.Key.V6 = true
	s.Routes[0].Communities = []uint32{64512<<16 | 7, bgp.GracefulShutdown}
	s.Routes[0].Large = []lb.LargeCommunity{{Global: 64512, Local1: 1, Local2: 2}}
	s.Routes[0].Bandwidth = 125000
	d.Set(wanted(s))
	awaitState(t, d, "tor", 15*time.Second, established)
	await(t, "route in FRR", 5*time.Second, func() bool {
		return strings.Contains(f.Show("show bgp ipv4 unicast 198.51.100.1/32"), "best") &&
			strings.Contains(f.Show("show bgp ipv6 unicast 2001:db8:ff::1/128"), "best")
	})
	text := f.Show("show bgp ipv4 unicast 198.51.100.1/32")
	for _, want := range []string{"10.0.1.1 from 10.0.1.1", "64512:7", "graceful-shutdown", "64512:1:2", "LB:64512:125000"} {
		if !strings.Contains(text, want) {
			t.Errorf("FRR does not show %q:\n%s", want, text)
		}
	}
	if text := f.Show("show bgp ipv6 unicast 2001:db8:ff::1/128"); !strings.Contains(text, "2001:db8:1::1 from 10.0.1.1") {
		t.Errorf("FRR shows another next hop than 2001:db8:1::1:\n%s", text)
	}

	since := stateOf(d, "tor").Since
	s.Routes = []bgp.Route{route("198.51.100.2/32")}
	d.Set(wanted(s))
	await(t, "change in FRR", 5*time.Second, func() bool {
		return strings.Contains(f.Show("show bgp ipv4 unicast 198.51.100.2/32"), "best") &&
			!strings.Contains(f.Show("show bgp ipv4 unicast 198.51.100.1/32"), "best") &&
			!strings.Contains(f.Show("show bgp ipv6 unicast 2001:db8:ff::1/128"), "best")
	})
	if got := stateOf(d, "tor"); got.Since != since || got.Prefixes != 1 {
		t.Errorf("after a change of routes the session is %+v, want one prefix and no reset", got)
	}
	f.Show("clear bgp 10.0.1.1 soft in")
	awaitState(t, d, "tor", 5*time.Second, func(s bgp.SessionState) bool { return s.Counters.RefreshesReceived > 0 })
	stop()
	await(t, "FRR hears why", 5*time.Second, func() bool {
		return strings.Contains(f.Show("show bgp neighbors 10.0.1.1"), "Notification received (Cease/Administrative Shutdown)")
	})
}

// TestGoodbye: the router's operator reads why the session ended (RFC 9003).
func TestGoodbye(t *testing.T) {
	t.Parallel()
	const n = 60
	w := newWorld(t, n)
	b := startBIRD(t, w.router, numbered(birdGlobal+"protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; }\n", n))
	d, stop := speakUntil(t, false)
	d.Set(wanted(session(w.router4(n), route(prefix4))))
	awaitState(t, d, "tor", 15*time.Second, established)
	stop()
	var text string
	await(t, "BIRD says why", 5*time.Second, func() bool {
		text = b.Show("show", "protocols", "all", "node")
		return strings.Contains(text, "Administrative shutdown")
	})
	if !strings.Contains(text, "the speaker of this node ends") {
		t.Errorf("BIRD does not show the sentence:\n%s", text)
	}
}
