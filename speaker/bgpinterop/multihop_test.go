// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/netnstest"
)

// TestMultihop: the router of the session is behind another one, which only
// forwards.
func TestMultihop(t *testing.T) {
	t.Parallel()
	for i, router := range []string{"FRR", "BIRD"} {
		t.Run(router, func(t *testing.T) {
			t.Parallel()
			n := 62 + i
			w := newWorld(t, n)
			far := netnstest.New(t)
			netnstest.Veth(t, w.router, "eth1", far, "eth0")
			w.router.Sysctl(t, "net/ipv4/ip_forward", "1")
			w.router.AddAddr(t, "eth1", netip.MustParsePrefix(fmt.Sprintf("10.1.%d.1/24", n)))
			far.AddAddr(t, "eth0", netip.MustParsePrefix(fmt.Sprintf("10.1.%d.254/24", n)))
			w.node.AddRoute(t, w.nic, netip.MustParsePrefix(fmt.Sprintf("10.1.%d.0/24", n)), w.router4(n))
			far.AddRoute(t, "eth0", netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", n)), netip.MustParseAddr(fmt.Sprintf("10.1.%d.1", n)))
			var view func() string
			if router == "FRR" {
				f := startFRR(t, far, numbered(strings.Replace(frrPlain, "remote-as 64512\n", "remote-as 64512\n neighbor 10.0.%[1]d.1 ebgp-multihop 3\n", 1), n))
				view = func() string { return f.Show("show bgp ipv4 unicast " + prefix4) }
			} else {
				b := startBIRD(t, far, numbered(birdGlobal+"protocol static { ipv4; route 10.0.%[1]d.0/24 via 10.1.%[1]d.1; }\nprotocol bgp node { local 10.1.%[1]d.254 as 64600; neighbor 10.0.%[1]d.1 as 64512; multihop 3; ipv4 { import all; export none; }; }\n", n))
				view = func() string { return b.Show("show", "route", "all", "protocol", "node") }
			}
			d := speak(t)
			d.Set(wanted(session(netip.MustParseAddr(fmt.Sprintf("10.1.%d.254", n)), route(prefix4))))
			awaitState(t, d, "tor", 15*time.Second, established)
			var text string
			defer func() {
				if t.Failed() {
					t.Log(text)
				}
			}()
			await(t, "route at the far router", 10*time.Second, func() bool {
				text = view()
				return strings.Contains(text, "198.51.100.1") && strings.Contains(text, fmt.Sprintf("10.0.%d.1", n))
			})
		})
	}
}

// TestRouteReflector: within one AS, a router passes the node's route on to
// another one, with the node as its next hop.
func TestRouteReflector(t *testing.T) {
	t.Parallel()
	const n = 66
	w := newWorld(t, n)
	far := netnstest.New(t)
	netnstest.Veth(t, w.router, "eth1", far, "eth0")
	w.router.Sysctl(t, "net/ipv4/ip_forward", "1")
	w.router.AddAddr(t, "eth1", netip.MustParsePrefix("10.1.66.1/24"))
	far.AddAddr(t, "eth0", netip.MustParsePrefix("10.1.66.254/24"))
	far.AddRoute(t, "eth0", netip.MustParsePrefix("10.0.66.0/24"), netip.MustParseAddr("10.1.66.1"))
	startFRR(t, w.router, frrGlobal+` neighbor 10.0.66.1 remote-as 64600
 neighbor 10.1.66.254 remote-as 64600
 address-family ipv4 unicast
  neighbor 10.0.66.1 activate
  neighbor 10.0.66.1 route-reflector-client
  neighbor 10.1.66.254 activate
  neighbor 10.1.66.254 route-reflector-client
`)
	b := startBIRD(t, far, strings.Replace(birdGlobal, "10.9.9.1", "10.9.9.2", 1)+
		"protocol static { ipv4; route 10.0.66.0/24 via 10.1.66.1; }\nprotocol bgp node { local as 64600; neighbor 10.1.66.1 as 64600; ipv4 { import all; }; }\n")
	s := session(w.router4(n), route(prefix4))
	s.Key.LocalAS = 64600
	s.Routes[0].LocalPref = 222
	d := speak(t)
	d.Set(wanted(s))
	awaitState(t, d, "tor", 15*time.Second, established)
	var text string
	defer func() {
		if t.Failed() {
			t.Log(text)
		}
	}()
	await(t, "route at the other router", 30*time.Second, func() bool {
		text = b.Show("show", "route", "all", "protocol", "node")
		return strings.Contains(text, "198.51.100.1") && strings.Contains(text, "BGP.next_hop: 10.0.66.1") && strings.Contains(text, "BGP.local_pref: 222")
	})
}
