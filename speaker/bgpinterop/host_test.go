// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/netnstest"
	"github.com/heraldlb/herald/internal/routertest"
)

// TestSameHost: FRR and BIRD run on the node itself, on one address and two
// ports, one of another AS and one of the node's. Each knows the node under
// another AS and router ID, and gets routes with an address of the node, not
// with a loopback address, as next hop.
func TestSameHost(t *testing.T) {
	t.Parallel()
	host := netnstest.Host(t)
	f := routertest.StartBGPD(t, host, 1791, frrGlobal+` neighbor 127.0.0.2 remote-as 64512
 neighbor 127.0.0.2 ebgp-multihop 2
 neighbor 127.0.0.2 passive
 address-family ipv4 unicast
  neighbor 127.0.0.2 activate
`)
	b := startBIRD(t, host, strings.Replace(birdGlobal, "10.9.9.1", "10.9.9.2", 1)+
		"protocol bgp node { local 127.0.0.1 port 1790 as 64513; neighbor 127.0.0.3 as 64513; multihop; passive; ipv4 { import all; export none; }; }\n")

	outer, inner := session(netip.MustParseAddr("127.0.0.1"), route(prefix4)), session(netip.MustParseAddr("127.0.0.1"), route(prefix4))
	outer.Peer, outer.Key.Port, outer.Key.Source = "frr", 1791, netip.MustParseAddr("127.0.0.2")
	inner.Peer, inner.Key.Port, inner.Key.Source = "bird", 1790, netip.MustParseAddr("127.0.0.3")
	inner.Key.LocalAS, inner.Key.PeerAS, inner.Key.Dynamic = 64513, 0, "internal"
	inner.Key.RouterID = netip.MustParseAddr("10.9.9.8")
	outer.NextHop4 = netip.MustParseAddr("192.0.2.99")
	inner.NextHop4 = outer.NextHop4
	d := speak(t)
	d.Set(wanted(outer, inner))
	awaitState(t, d, "frr", 15*time.Second, established)
	awaitState(t, d, "bird", 15*time.Second, established)
	for name, want := range map[string]struct {
		view func() string
		seen []string
	}{
		"FRR": {
			func() string {
				return f.Show("show bgp ipv4 unicast "+prefix4) + f.Show("show bgp neighbors 127.0.0.2")
			},
			[]string{"  64512\n", "192.0.2.99", "remote AS 64512", "remote router ID 10.9.9.9"},
		},
		"BIRD": {
			func() string { return b.Show("show", "route", "all") + b.Show("show", "protocols", "all", "node") },
			[]string{"BGP.as_path: \n", "BGP.next_hop: 192.0.2.99", "Neighbor AS:      64513", "Neighbor ID:      10.9.9.8", "internal"},
		},
	} {
		var text string
		await(t, name+" has the route", 10*time.Second, func() bool { text = want.view(); return strings.Contains(text, "198.51.100.1") })
		for _, s := range want.seen {
			if !strings.Contains(text, s) {
				t.Errorf("%s does not show %q:\n%s", name, s, text)
			}
		}
	}
	if s := stateOf(d, "bird"); s.Router == stateOf(d, "frr").Router {
		t.Errorf("both routers are called %q: metrics would mix them up", s.Router)
	}
	// One of them changes, and the other does not notice.
	since := stateOf(d, "frr").Since
	inner.Key.RouterID = netip.MustParseAddr("10.9.9.7")
	d.Set(wanted(outer, inner))
	await(t, "BIRD sees the other router ID", 15*time.Second, func() bool {
		return strings.Contains(b.Show("show", "protocols", "all", "node"), "Neighbor ID:      10.9.9.7")
	})
	if s := stateOf(d, "frr"); s.Since != since || s.State != bgp.Established {
		t.Errorf("the session with FRR was made anew: %+v", s)
	}
}

// TestExampleConfigs: FRR understands the configurations that the examples give it.
func TestExampleConfigs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*/frr/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.conf")
	if err := os.WriteFile(wrong, []byte("router bgp 1\n neighbour 192.0.2.1 remote-as 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, wrong) {
		if err := routertest.CheckFRR(t, file); (err == nil) != (file != wrong) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
