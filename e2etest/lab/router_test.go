// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

const birdConfig = `router id 192.168.2.200;
protocol device {}
protocol bgp frr { local as 65001; neighbor 192.168.2.201 as 65002; ipv4 { import all; export all; }; }
`

const frrConfig = `router bgp 65002
 bgp router-id 192.168.2.201
 no bgp ebgp-requires-policy
 neighbor 192.168.2.200 remote-as 65001
`

// TestRouters has BIRD and FRR, each from the configuration it was given, hold a BGP session with each other.
func TestRouters(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{
		Name: "test-routers", Nodes: 1, NoInstall: true,
		Routers: []lab.Router{{Daemon: "bird", Config: birdConfig}, {Daemon: "frr", Config: frrConfig}},
	})
	eventually(t, 30*time.Second, func() (bool, string) {
		bird, err := l.Exec(ctx, "router1", "birdc", "-s", lab.RouterDir+"/router1/bird.ctl", "show", "protocols")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(bird), "Established"), string(bird)
	})
	frr, err := l.Exec(ctx, "router2", "vtysh", "-N", "router2", "-c", "show bgp neighbors 192.168.2.200")
	if err != nil || !strings.Contains(string(frr), "BGP state = Established") {
		t.Errorf("FRR's side of the session: %v\n%s", err, frr)
	}
}

// TestCables: a client behind a router that is behind another, and a cable between a node and a router, which a reboot lays anew.
func TestCables(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{
		Name: "test-cables", Nodes: 1, NoInstall: true, Families: "dual",
		Routers: []lab.Router{{Name: "tor", Daemon: "bird", Config: "protocol device {}\n"}, {Name: "far", Daemon: "bird", Config: "protocol device {}\n"}},
		Behind:  map[string]string{"far": "tor", "client1": "far"}, Links: []lab.Link{{Node: "node1", Router: "tor"}},
	})
	ping := func(from string, args ...string) {
		t.Helper()
		eventually(t, 10*time.Second, func() (bool, string) {
			out, err := l.Exec(ctx, from, append([]string{"ping", "-c1", "-W1"}, args...)...)
			return err == nil, string(out)
		})
	}
	for range 2 {
		ping("client1", "192.168.2.11")
		ping("client1", "fd00:2::b")
		ping("node1", "10.99.201.2")
		out, err := l.Exec(ctx, "tor", "ip", "link", "show", "node1")
		if err != nil || !strings.Contains(string(out), "LOWER_UP") {
			t.Fatalf("the cable between tor and node1: %v\n%s", err, out)
		}
		ping("node1", "ff02::1%tor")
		if err := l.Reboot(ctx, "node1"); err != nil {
			t.Fatal(err)
		}
	}
}
