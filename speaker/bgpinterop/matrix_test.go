// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// variant is one way to hold a session: what differs from a plain external
// session, on both ends.
type variant struct {
	name    string
	n       int // number of the network
	session func(s *bgp.Session, w *world, n int)
	frr     string // lines of FRR's configuration, with %[1]d for n; empty: not run with FRR
	bird    string // the same for BIRD
	// seen is what the router's view of the routes has to contain.
	seen []string
}

const (
	prefix4, prefix6 = "198.51.100.1/32", "2001:db8:ff::1/128"
	frrGlobal        = "router bgp 64600\n bgp router-id 10.9.9.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n"
	birdGlobal       = "router id 10.9.9.1;\nprotocol device {}\nprotocol direct { ipv4; ipv6; }\n"
)

func variants() []variant {
	return []variant{
		{
			name: "external IPv4", n: 10,
			frr:  frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; }\n",
			seen: []string{"198.51.100.1"},
		},
		{
			name: "external IPv6", n: 12,
			session: func(s *bgp.Session, w *world, n int) {
				s.Key.Address, s.Key.V4, s.Key.V6 = w.router6(n), false, true
			},
			frr:  frrGlobal + " neighbor 2001:db8:%[1]d::1 remote-as 64512\n address-family ipv6 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 2001:db8:%[1]d::1 as 64512; ipv6 { import all; export none; }; }\n",
			seen: []string{"2001:db8:ff::1"},
		},
		{
			name: "internal with localPref", n: 14,
			session: func(s *bgp.Session, _ *world, _ int) {
				s.Key.LocalAS = 64600
				for i := range s.Routes {
					s.Routes[i].LocalPref = 321
				}
			},
			frr:  frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64600\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64600; ipv4 { import all; export none; }; }\n",
			seen: []string{"198.51.100.1", "321"},
		},
		{
			name: "TCP-MD5", n: 16,
			session: func(s *bgp.Session, _ *world, _ int) { s.Key.Password = "secretword" },
			frr:     frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n neighbor 10.0.%[1]d.1 password secretword\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird:    birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; password \"secretword\"; ipv4 { import all; export none; }; }\n",
			seen:    []string{"198.51.100.1"},
		},
		{
			name: "TCP-MD5 over IPv6", n: 18,
			session: func(s *bgp.Session, w *world, n int) {
				s.Key.Address, s.Key.V4, s.Key.V6, s.Key.Password = w.router6(n), false, true, "secretword"
			},
			frr:  frrGlobal + " neighbor 2001:db8:%[1]d::1 remote-as 64512\n neighbor 2001:db8:%[1]d::1 password secretword\n address-family ipv6 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 2001:db8:%[1]d::1 as 64512; password \"secretword\"; ipv6 { import all; export none; }; }\n",
			seen: []string{"2001:db8:ff::1"},
		},
		{
			name: "GTSM", n: 20,
			frr:  frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n neighbor 10.0.%[1]d.1 ttl-security hops 1\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ttl security on; ipv4 { import all; export none; }; }\n",
			seen: []string{"198.51.100.1"},
		},
		{
			name: "both families on one session", n: 22,
			session: func(s *bgp.Session, _ *world, _ int) { s.Key.V6 = true },
			frr:     frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n address-family ipv6 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird:    birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; ipv6 { import all; export none; }; }\n",
			seen:    []string{"198.51.100.1", "2001:db8:ff::1", "2001:db8:22::1"},
		},
		{
			name: "IPv4 routes over IPv6, RFC 8950", n: 24,
			session: func(s *bgp.Session, w *world, n int) { s.Key.Address, s.Key.V4, s.Key.V6 = w.router6(n), true, true },
			frr:     frrGlobal + " neighbor 2001:db8:%[1]d::1 remote-as 64512\n neighbor 2001:db8:%[1]d::1 capability extended-nexthop\n address-family ipv4 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n address-family ipv6 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n",
			bird:    birdGlobal + "protocol bgp node { local as 64600; neighbor 2001:db8:%[1]d::1 as 64512; ipv4 { import all; export none; extended next hop on; }; ipv6 { import all; export none; }; }\n",
			seen:    []string{"198.51.100.1", "2001:db8:24::1", "2001:db8:ff::1"},
		},
		{
			name: "IPv4 routes over IPv6, with an IPv4 next hop", n: 26,
			session: func(s *bgp.Session, w *world, n int) { s.Key.Address, s.Key.V4, s.Key.V6 = w.router6(n), true, true },
			frr:     frrGlobal + " neighbor 2001:db8:%[1]d::1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n address-family ipv6 unicast\n  neighbor 2001:db8:%[1]d::1 activate\n",
			seen:    []string{"198.51.100.1", "10.0.26.1", "2001:db8:ff::1"},
		},
		{
			name: "unnumbered", n: 28,
			session: func(s *bgp.Session, w *world, _ int) {
				s.Key.Address, s.Key.Interface, s.Key.V4, s.Key.V6 = netip.Addr{}, w.nic, true, true
			},
			frr:  frrGlobal + " neighbor eth0 interface remote-as external\n address-family ipv4 unicast\n  neighbor eth0 activate\n address-family ipv6 unicast\n  neighbor eth0 activate\n",
			seen: []string{"198.51.100.1", "fe80::", "2001:db8:ff::1"},
		},
		{
			name: "link-local address with MD5", n: 30,
			session: func(s *bgp.Session, w *world, _ int) {
				s.Key.Address = netip.MustParseAddr("fe80::254").WithZone(w.nic)
				s.Key.V4, s.Key.V6, s.Key.Password = false, true, "secretword"
			},
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor fe80::1%eth0 as 64512; password \"secretword\"; ipv6 { import all; export none; }; }\n",
			seen: []string{"2001:db8:ff::1"},
		},
		{
			name: "four-byte AS", n: 32,
			session: func(s *bgp.Session, _ *world, _ int) { s.Key.LocalAS = 4200000001 },
			frr:     frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 4200000001\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird:    birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 4200000001; ipv4 { import all; export none; }; }\n",
			seen:    []string{"198.51.100.1", "4200000001"},
		},
		{
			name: "dynamic AS, no hold time", n: 36,
			session: func(s *bgp.Session, _ *world, _ int) {
				s.Key.PeerAS, s.Key.Dynamic, s.Timers.Hold = 0, "external", 0
			},
			frr:  frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			bird: birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; }\n",
			seen: []string{"198.51.100.1"},
		},
		{
			name: "source address", n: 38,
			session: func(s *bgp.Session, _ *world, n int) { s.Key.Source = netip.AddrFrom4([4]byte{10, 0, byte(n), 7}) },
			frr:     frrGlobal + " neighbor 10.0.%[1]d.7 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.7 activate\n",
			bird:    birdGlobal + "protocol bgp node { local as 64600; neighbor 10.0.%[1]d.7 as 64512; ipv4 { import all; export none; }; }\n",
			seen:    []string{"198.51.100.1", "10.0.38.7"},
		},
		{
			name: "bound to a device", n: 40, // as to a VRF device, which this kernel may not have
			session: func(s *bgp.Session, w *world, _ int) { s.Key.Device = w.nic },
			frr:     frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n",
			seen:    []string{"198.51.100.1"},
		},
	}
}

// TestMatrix holds each kind of session with FRR and with BIRD, and looks at the
// routes as these see them.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		if v.frr != "" {
			t.Run("FRR/"+v.name, func(t *testing.T) {
				t.Parallel()
				v.run(t, v.n, func(w *world, config string) func() string {
					w.addresses(t, v.n)
					f := startFRR(t, w.router, numbered(config, v.n))
					return func() string {
						return f.Show("show bgp ipv4 unicast "+prefix4) + f.Show("show bgp ipv6 unicast "+prefix6)
					}
				}, v.frr)
			})
		}
		if v.bird != "" {
			t.Run("BIRD/"+v.name, func(t *testing.T) {
				t.Parallel()
				v.run(t, v.n+1, func(w *world, config string) func() string {
					w.addresses(t, v.n+1)
					b := startBIRD(t, w.router, numbered(config, v.n+1))
					return func() string { return b.Show("show", "route", "all", "protocol", "node") }
				}, v.bird)
			})
		}
	}
}

// numbered puts the number of the network into a configuration.
func numbered(config string, n int) string {
	return strings.ReplaceAll(config, "%[1]d", strconv.Itoa(n))
}

// addresses adds those that only some variants use.
func (w *world) addresses(t *testing.T, n int) {
	t.Helper()
	w.node.AddAddr(t, w.nic, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n), 7}), 24))
	w.node.AddAddr(t, w.nic, netip.MustParsePrefix("fe80::1/64"))
	w.router.AddAddr(t, "eth0", netip.MustParsePrefix("fe80::254/64"))
}

func (v variant) run(t *testing.T, n int, router func(*world, string) func() string, config string) {
	t.Helper()
	w := newWorld(t, n)
	view := router(w, config)
	s := session(w.router4(n))
	s.Routes = []bgp.Route{route(prefix4), route(prefix6)}
	if v.session != nil {
		v.session(&s, w, n)
	}
	d := speak(t)
	d.Set(wanted(s))
	awaitState(t, d, "tor", 15*time.Second, established)
	var text string
	defer func() {
		if t.Failed() {
			t.Log(text)
		}
	}()
	await(t, fmt.Sprintf("the router sees %q", v.seen), 10*time.Second, func() bool {
		text = view()
		for _, want := range v.seen {
			want = strings.ReplaceAll(want, fmt.Sprintf(":%d:", v.n), fmt.Sprintf(":%d:", n))
			want = strings.ReplaceAll(want, fmt.Sprintf("10.0.%d.", v.n), fmt.Sprintf("10.0.%d.", n))
			if !strings.Contains(text, want) {
				return false
			}
		}
		return true
	})
	if got := stateOf(d, "tor"); got.Notice != "" {
		t.Errorf("notice %q", got.Notice)
	}
}
