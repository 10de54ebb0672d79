// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

const self = lb.NodeName("n1")

func cluster() lb.Snapshot {
	return lb.Snapshot{
		Nodes: []lb.Node{
			{Name: "n1", Labels: map[string]string{"rack": "a"}, Addresses: []netip.Addr{addr("2001:db8::1"), addr("192.0.2.1")}},
			{Name: "n2", Labels: map[string]string{"rack": "b"}},
		},
		Pools:             []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: addr("198.51.100.0"), To: addr("198.51.100.255")}, {From: addr("2001:db8:ff::"), To: addr("2001:db8:ff::ffff")}}}},
		BGPAdvertisements: []lb.BGPAdvertisement{advertisement("all")},
		Peers:             []lb.Peer{peer("tor")},
		Services:          []lb.Service{service("a", "198.51.100.1")},
	}
}

func advertisement(name string) lb.BGPAdvertisement {
	return lb.BGPAdvertisement{Name: name, Scope: lb.Scope{AllPools: true}, AggregationLength: 32, AggregationLengthV6: 128, LocalPref: 100}
}

func peer(name string) lb.Peer {
	return lb.Peer{Name: name, MyASN: 64512, PeerASN: 64600, Address: addr("192.0.2.254"), Port: 179, HoldTime: 90 * time.Second}
}

func service(name string, addresses ...string) lb.Service {
	s := lb.Service{Key: lb.ServiceKey{Namespace: "d", Name: name}, Labels: map[string]string{"name": name}, AssignedPools: []string{"p"}}
	for _, a := range addresses {
		s.Assigned = append(s.Assigned, addr(a))
	}
	s.Endpoints = []lb.NodeEndpoints{{Node: "n1", Count: 2}}
	return s
}

func noSecret(string) (bgp.Password, error) { return "", errors.New("no Secret") }

func plan(s *lb.Snapshot) bgp.Wanted {
	r := announce.Plan(s, self)
	return bgp.Plan(s, self, r.BGP, bgp.Inputs{Secret: noSecret})
}

// lines writes the routes of a plan, one per line: peer prefix attributes.
func lines(w bgp.Wanted) []string {
	var out []string
	for _, s := range w.Sessions {
		for _, r := range s.Routes {
			line := fmt.Sprintf("%s %s pref=%d", s.Peer, r.Prefix, r.LocalPref)
			for _, c := range r.Communities {
				line += fmt.Sprintf(" %d:%d", c>>16, c&0xffff)
			}
			for _, c := range r.Large {
				line += fmt.Sprintf(" %d:%d:%d", c.Global, c.Local1, c.Local2)
			}
			if r.Bandwidth > 0 {
				line += fmt.Sprintf(" bw=%.0f", r.Bandwidth)
			}
			out = append(out, line)
		}
	}
	return out
}

func TestPlanRoutes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(s *lb.Snapshot)
		want   []string
	}{
		{"plain", func(*lb.Snapshot) {}, []string{"tor 198.51.100.1/32 pref=100"}},
		{"peer of another node", func(s *lb.Snapshot) { s.Peers[0].NodeSelectors = rack("b") }, nil},
		{"advertisement for another node", func(s *lb.Snapshot) { s.BGPAdvertisements[0].NodeSelectors = rack("b") }, nil},
		{"advertisement for another pool", func(s *lb.Snapshot) {
			s.BGPAdvertisements[0].AllPools, s.BGPAdvertisements[0].Pools = false, []string{"q"}
		}, nil},
		{"advertisement for another peer", func(s *lb.Snapshot) { s.BGPAdvertisements[0].Peers = []string{"x"} }, nil},
		{"advertisement for another Service", func(s *lb.Snapshot) { s.BGPAdvertisements[0].ServiceSelectors = named("b") }, nil},
		{"node not available", func(s *lb.Snapshot) { s.Nodes[0].NetworkUnavailable = true }, nil},
		{"node excluded", func(s *lb.Snapshot) { s.Nodes[0].Excluded = true }, nil},
		{"no endpoints", func(s *lb.Snapshot) { s.Services[0].Endpoints = nil }, nil},
		{"Cluster, endpoints elsewhere", func(s *lb.Snapshot) { s.Services[0].Endpoints[0].Node = "n2" }, []string{"tor 198.51.100.1/32 pref=100"}},
		{"Local, endpoints elsewhere", func(s *lb.Snapshot) { s.Services[0].Local = true; s.Services[0].Endpoints[0].Node = "n2" }, nil},
		{"Local, endpoints here", func(s *lb.Snapshot) { s.Services[0].Local = true }, []string{"tor 198.51.100.1/32 pref=100"}},
		{"weighted", func(s *lb.Snapshot) { s.Services[0].Local = true; s.BGPAdvertisements[0].WeightByEndpoints = true }, []string{"tor 198.51.100.1/32 pref=100 bw=250000"}},
		{"weighted, but Cluster", func(s *lb.Snapshot) { s.BGPAdvertisements[0].WeightByEndpoints = true }, []string{"tor 198.51.100.1/32 pref=100"}},
		{"only the family of the session", func(s *lb.Snapshot) {
			s.Services[0].Assigned = append(s.Services[0].Assigned, addr("2001:db8:ff::1"))
		}, []string{"tor 198.51.100.1/32 pref=100"}},
		{"both families", func(s *lb.Snapshot) {
			s.Services[0].Assigned = append(s.Services[0].Assigned, addr("2001:db8:ff::1"))
			s.Peers[0].DualStack = true
		}, []string{"tor 198.51.100.1/32 pref=100", "tor 2001:db8:ff::1/128 pref=100"}},
		{"IPv6 session", func(s *lb.Snapshot) {
			s.Services[0].Assigned = append(s.Services[0].Assigned, addr("2001:db8:ff::1"))
			s.Peers[0].Address = addr("2001:db8::254")
		}, []string{"tor 2001:db8:ff::1/128 pref=100"}},
		{"aggregate of two Services", func(s *lb.Snapshot) {
			s.Services = append(s.Services, service("b", "198.51.100.7"))
			s.BGPAdvertisements[0].AggregationLength = 28
		}, []string{"tor 198.51.100.0/28 pref=100"}},
		{"aggregate and single addresses", func(s *lb.Snapshot) {
			more := advertisement("more")
			more.AggregationLength, more.LocalPref = 24, 50
			s.BGPAdvertisements = append(s.BGPAdvertisements, more)
		}, []string{"tor 198.51.100.0/24 pref=50", "tor 198.51.100.1/32 pref=100"}},
		{"communities of two advertisements are united", func(s *lb.Snapshot) {
			more := advertisement("more")
			more.Communities, more.LargeCommunities = []uint32{1<<16 | 2, 65535<<16 | 65281}, []lb.LargeCommunity{{Global: 1, Local1: 2, Local2: 3}}
			s.BGPAdvertisements[0].Communities = []uint32{1<<16 | 1, 1<<16 | 2}
			s.BGPAdvertisements = append(s.BGPAdvertisements, more)
		}, []string{"tor 198.51.100.1/32 pref=100 1:1 1:2 65535:65281 1:2:3"}},
		{"peers filter", func(s *lb.Snapshot) {
			s.Peers = append(s.Peers, peer("tor2"))
			more := advertisement("more")
			more.Communities, more.Peers = []uint32{1<<16 | 1}, []string{"tor2"}
			s.BGPAdvertisements = append(s.BGPAdvertisements, more)
		}, []string{"tor 198.51.100.1/32 pref=100", "tor2 198.51.100.1/32 pref=100 1:1"}},
		{"shared address", func(s *lb.Snapshot) { s.Services = append(s.Services, service("b", "198.51.100.1")) }, []string{"tor 198.51.100.1/32 pref=100"}},
		{"shared address, one not selected", func(s *lb.Snapshot) {
			s.Services = append(s.Services, service("b", "198.51.100.1"))
			s.BGPAdvertisements[0].ServiceSelectors = named("a")
		}, nil},
		{"shared address, each selected by one", func(s *lb.Snapshot) {
			s.Services = append(s.Services, service("b", "198.51.100.1"))
			s.BGPAdvertisements[0].ServiceSelectors = named("a")
			more := advertisement("more")
			more.ServiceSelectors = named("b")
			s.BGPAdvertisements = append(s.BGPAdvertisements, more)
		}, []string{"tor 198.51.100.1/32 pref=100"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := cluster()
			tt.change(&s)
			if diff := cmp.Diff(tt.want, lines(plan(&s))); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
		})
	}
}

func rack(name string) []lb.Selector { return label("rack", name) }

func named(name string) []lb.Selector { return label("name", name) }

func label(key, value string) []lb.Selector {
	return []lb.Selector{{Requirements: []lb.Requirement{{Key: key, Op: lb.In, Values: []string{value}}}}}
}

func TestPlanSessions(t *testing.T) {
	t.Parallel()
	s := cluster()
	p := peer("full")
	p.LocalASN, p.PasswordSecret, p.BFDProfile, p.Interface, p.Address = 65000, "tor-password", "fast", "eth1", netip.Addr{}
	p.RouterID, p.GracefulRestart = addr("9.9.9.9"), true
	p.Port, p.SourceAddress, p.VRF = 1179, addr("192.0.2.7"), "red"
	s.Peers = append([]lb.Peer{p}, s.Peers...)
	s.BFDProfiles = []lb.BFDProfile{{Name: "fast", DetectMultiplier: 3}}
	w := plan(&s)
	if len(w.Sessions) != 2 {
		t.Fatalf("%d sessions, want 2", len(w.Sessions))
	}
	full, plain := w.Sessions[0], w.Sessions[1]
	want := bgp.Key{
		Endpoint: bgp.Endpoint{Interface: "eth1", Port: 1179, Source: addr("192.0.2.7"), Device: "red"},
		LocalAS:  65000, PeerAS: 64600, RouterID: addr("9.9.9.9"), V4: true, V6: true, GracefulRestart: true,
	}
	if full.Key != want || full.Problem != "no Secret" || full.BFD == nil || full.BFD.DetectMultiplier != 3 {
		t.Errorf("session %+v, want the key %+v", full, want)
	}
	if plain.Key.RouterID != addr("192.0.2.1") || plain.NextHop4 != addr("192.0.2.1") || plain.NextHop6 != addr("2001:db8::1") || !plain.Key.V4 || plain.Key.V6 {
		t.Errorf("session %+v", plain)
	}
	s.Nodes[0].Addresses = s.Nodes[0].Addresses[:1]
	if id := plan(&s).Sessions[1].Key.RouterID; !id.Is4() || id.IsUnspecified() || id != plan(&s).Sessions[1].Key.RouterID {
		t.Errorf("router ID of a node without IPv4: %s", id)
	}
	if got := bgp.Plan(&s, "unknown", nil, bgp.Inputs{Secret: noSecret}); len(got.Sessions) != 0 {
		t.Errorf("an unknown node wants %+v", got)
	}
	wantServices := []bgp.ServicePeers{{Service: lb.ServiceKey{Namespace: "d", Name: "a"}, Addresses: []netip.Addr{addr("198.51.100.1")}, Peers: []string{"full", "tor"}}}
	if diff := cmp.Diff(wantServices, w.Services, compare); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

func TestDraining(t *testing.T) {
	t.Parallel()
	s := cluster()
	s.BGPAdvertisements[0].Communities = []uint32{7}
	r := announce.Plan(&s, self)
	got := lines(bgp.Plan(&s, self, r.BGP, bgp.Inputs{Secret: noSecret, Draining: true}))
	if diff := cmp.Diff([]string{"tor 198.51.100.1/32 pref=0 0:7 65535:0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint32{7}, s.BGPAdvertisements[0].Communities); diff != "" {
		t.Errorf("the snapshot was changed (-want +got):\n%s", diff)
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	s := bgp.Session{Key: bgp.Key{Endpoint: bgp.Endpoint{Password: "hunter2"}}}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %q", s, s, s.Key.Password, s.Key.Password), string(b)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %s", text)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	one := announce.Announcement{Service: lb.ServiceKey{Name: "a"}, Address: addr("198.51.100.1")}
	two := announce.Announcement{Service: lb.ServiceKey{Name: "b"}, Address: addr("198.51.100.2")}
	s := bgp.Settle{Delay: 50 * time.Millisecond}
	step := func(after time.Duration, wanted []announce.Announcement, due int, again time.Duration) {
		t.Helper()
		got, next := s.Step(wanted, begin.Add(after))
		if len(got) != due || next != again {
			t.Errorf("at %v: %d due, again in %v; want %d, %v", after, len(got), next, due, again)
		}
	}
	step(0, []announce.Announcement{one}, 1, 0) // known before the speaker started
	step(10*time.Millisecond, []announce.Announcement{one, two}, 1, 50*time.Millisecond)
	step(40*time.Millisecond, []announce.Announcement{one, two}, 1, 20*time.Millisecond)
	step(60*time.Millisecond, []announce.Announcement{one, two}, 2, 0)
	step(70*time.Millisecond, []announce.Announcement{one}, 1, 0)
	step(80*time.Millisecond, []announce.Announcement{one, two}, 1, 50*time.Millisecond) // new again
}

// TestPlanRandom compares with the dumbest way to say the same, and asks for
// the same bytes twice.
func TestPlanRandom(t *testing.T) {
	t.Parallel()
	for range 2000 {
		seed := rand.Uint64()
		s := randomCluster(rand.New(rand.NewPCG(seed, 0)))
		w := plan(&s)
		if diff := cmp.Diff(dumb(&s), lines(w)); diff != "" {
			t.Fatalf("seed %d (-dumb +plan):\n%s", seed, diff)
		}
		if diff := cmp.Diff(lines(plan(&s)), lines(w)); diff != "" {
			t.Fatalf("seed %d: another plan the second time:\n%s", seed, diff)
		}
	}
}

func randomCluster(r *rand.Rand) lb.Snapshot {
	s := cluster()
	s.Peers, s.BGPAdvertisements, s.Services = nil, nil, nil
	for i := range r.IntN(4) {
		p := peer(fmt.Sprintf("p%d", i))
		p.DualStack = r.IntN(2) == 0
		if r.IntN(3) == 0 {
			p.NodeSelectors = rack(string('a' + rune(r.IntN(2))))
		}
		s.Peers = append(s.Peers, p)
	}
	for i := range r.IntN(4) {
		a := advertisement(fmt.Sprintf("a%d", i))
		a.Communities = []uint32{uint32(r.IntN(3))}
		a.AggregationLength = 32 - 4*r.IntN(2)
		a.WeightByEndpoints = r.IntN(2) == 0
		if r.IntN(3) == 0 {
			a.Peers = []string{"p0"}
		}
		if r.IntN(3) == 0 {
			a.NodeSelectors = rack(string('a' + rune(r.IntN(2))))
		}
		if r.IntN(3) == 0 && a.AggregationLength == 32 {
			a.ServiceSelectors = named(fmt.Sprintf("s%d", r.IntN(3)))
		}
		s.BGPAdvertisements = append(s.BGPAdvertisements, a)
	}
	for i := range r.IntN(6) {
		v := service(fmt.Sprintf("s%d", i), fmt.Sprintf("198.51.100.%d", r.IntN(8)))
		if r.IntN(2) == 0 {
			v.Assigned = append(v.Assigned, addr(fmt.Sprintf("2001:db8:ff::%d", r.IntN(4))))
		}
		v.Local = r.IntN(2) == 0
		v.Endpoints = nil
		for _, n := range []lb.NodeName{"n1", "n2"} {
			if r.IntN(2) == 0 {
				v.Endpoints = append(v.Endpoints, lb.NodeEndpoints{Node: n, Count: 1 + r.IntN(3)})
			}
		}
		s.Services = append(s.Services, v)
	}
	return s
}

// covers is whether an advertisement of this node covers an address.
func covers(s *lb.Snapshot, a *lb.BGPAdvertisement, v *lb.Service) bool {
	return a.SelectsNode(s.Nodes[0].Labels) && a.SelectsService(v.Labels)
}

// dumb tries every peer, every possible prefix, every Service and address.
func dumb(s *lb.Snapshot) []string {
	var w bgp.Wanted
	for _, p := range s.Peers {
		if len(p.NodeSelectors) > 0 && !lb.MatchesAny(p.NodeSelectors, s.Nodes[0].Labels) {
			continue
		}
		session := bgp.Session{Peer: p.Name}
		var all []netip.Prefix
		for last := range 8 {
			a := addr(fmt.Sprintf("198.51.100.%d", last))
			all = append(all, netip.PrefixFrom(a, 28).Masked(), netip.PrefixFrom(a, 32))
		}
		for last := range 4 {
			if p.DualStack {
				all = append(all, netip.PrefixFrom(addr(fmt.Sprintf("2001:db8:ff::%d", last)), 128))
			}
		}
		slices.SortFunc(all, func(a, b netip.Prefix) int {
			if c := a.Addr().Compare(b.Addr()); c != 0 {
				return c
			}
			return a.Bits() - b.Bits()
		})
		for _, prefix := range slices.Compact(all) {
			if r, ok := dumbRoute(s, p.Name, prefix); ok {
				session.Routes = append(session.Routes, r)
			}
		}
		w.Sessions = append(w.Sessions, session)
	}
	return lines(w)
}

func dumbRoute(s *lb.Snapshot, peer string, prefix netip.Prefix) (bgp.Route, bool) {
	found := false
	communities := map[uint32]bool{}
	weights := map[netip.Addr]int{}
	for i := range s.BGPAdvertisements {
		a := &s.BGPAdvertisements[i]
		bits := a.AggregationLength
		if prefix.Addr().Is6() {
			bits = a.AggregationLengthV6
		}
		if bits != prefix.Bits() || len(a.Peers) > 0 && !slices.Contains(a.Peers, peer) {
			continue
		}
		for j := range s.Services {
			v := &s.Services[j]
			here, anywhere := 0, 0
			for _, e := range v.Endpoints {
				anywhere += e.Count
				if e.Node == self {
					here = e.Count
				}
			}
			if !covers(s, a, v) || anywhere == 0 || v.Local && here == 0 {
				continue
			}
			for _, ip := range v.Assigned {
				if !prefix.Contains(ip) || !everyoneCovered(s, ip) {
					continue
				}
				found = true
				communities[a.Communities[0]] = true
				if v.Local && a.WeightByEndpoints {
					weights[ip] = max(weights[ip], here)
				}
			}
		}
	}
	r := bgp.Route{Prefix: prefix, Attributes: bgp.Attributes{LocalPref: 100}}
	for c := range uint32(3) {
		if communities[c] {
			r.Communities = append(r.Communities, c)
		}
	}
	for _, n := range weights {
		r.Bandwidth += float32(n) * 125_000
	}
	return r, found
}

func everyoneCovered(s *lb.Snapshot, ip netip.Addr) bool {
	for j := range s.Services {
		v := &s.Services[j]
		if slices.Contains(v.Assigned, ip) && !slices.ContainsFunc(s.BGPAdvertisements, func(a lb.BGPAdvertisement) bool { return covers(s, &a, v) }) {
			return false
		}
	}
	return true
}

// TestUncarried: an address of a family that no session carries is announced to
// nobody.
func TestUncarried(t *testing.T) {
	t.Parallel()
	s := cluster()
	s.Services = []lb.Service{service("a", "198.51.100.1", "2001:db8:ff::1")}
	for _, tt := range []struct {
		six, limited         bool // a second peer has an IPv6 address; an advertisement is for it alone
		addresses, uncarried []netip.Addr
	}{
		{addresses: []netip.Addr{addr("198.51.100.1")}, uncarried: []netip.Addr{addr("2001:db8:ff::1")}},
		{six: true, addresses: s.Services[0].Assigned},
		{six: true, limited: true, addresses: s.Services[0].Assigned},
	} {
		if tt.six {
			six := peer("six")
			six.Address = addr("2001:db8::254")
			s.Peers = []lb.Peer{six, peer("tor")}
		}
		if tt.limited {
			ads := []lb.BGPAdvertisement{advertisement("four"), advertisement("six")}
			ads[0].Peers, ads[1].Peers = []string{"tor"}, []string{"six"}
			s.BGPAdvertisements = ads
		}
		w := plan(&s)
		if diff := cmp.Diff(fmt.Sprint(tt.addresses, tt.uncarried), fmt.Sprint(w.Services[0].Addresses, w.Services[0].Uncarried)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt, diff)
		}
	}
}
