// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

const frrPlain = frrGlobal + " neighbor 10.0.%[1]d.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.0.%[1]d.1 activate\n"

// TestRouterReboots: a router that was up before is back within a second of
// opening its port, and the first attempt after it is gone is not the last.
func TestRouterReboots(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		name   string
		silent bool // nothing answers meanwhile; else the port is closed
	}{{"port is closed", false}, {"nothing answers", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := 50 + i
			w := newWorld(t, n)
			config := numbered(birdGlobal+"protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; }\n", n)
			b := startBIRD(t, w.router, config)
			d := speak(t)
			d.Set(wanted(session(w.router4(n), route(prefix4))))
			awaitState(t, d, "tor", 15*time.Second, established)
			time.Sleep(200 * time.Millisecond)
			b.Stop()
			awaitState(t, d, "tor", 2*time.Second, func(s bgp.SessionState) bool { return s.State != bgp.Established })
			if tt.silent {
				w.router.Down(t, "eth0")
			}
			time.Sleep(3 * time.Second)
			b.Start()
			if tt.silent {
				w.router.Up(t, "eth0")
			}
			back := time.Now()
			awaitState(t, d, "tor", 15*time.Second, established)
			took := time.Since(back)
			t.Logf("back after %v", took.Round(time.Millisecond))
			if took > 1500*time.Millisecond { // half a second for a busy machine
				t.Errorf("the session was back %s after the port was open, want at most 1 s", took)
			}
		})
	}
}

// TestSpeakerRestarts: with graceful restart the router keeps the routes while
// the speaker is away, and has the right ones afterwards; without, it drops
// them.
func TestSpeakerRestarts(t *testing.T) {
	t.Parallel()
	for i, router := range []string{"FRR", "BIRD"} {
		t.Run(router, func(t *testing.T) {
			t.Parallel()
			n := 52 + i
			w := newWorld(t, n)
			var view func() string
			if router == "FRR" {
				f := startFRR(t, w.router, numbered(strings.Replace(frrPlain, " neighbor", " bgp graceful-restart\n neighbor", 1), n))
				view = func() string { return f.Show("show bgp ipv4 unicast") }
			} else {
				b := startBIRD(t, w.router, numbered(birdGlobal+"protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; graceful restart on; ipv4 { import all; export none; }; }\n", n))
				view = func() string { return b.Show("show", "route", "all", "protocol", "node") }
			}
			has := func(p string) bool { return strings.Contains(view(), p) }
			s := session(w.router4(n), route("198.51.100.1/32"), route("198.51.100.2/32"))
			s.Key.GracefulRestart = true
			first, stop := speakUntil(t, true)
			first.Set(wanted(s))
			awaitState(t, first, "tor", 15*time.Second, established)
			await(t, "routes at the router", 5*time.Second, func() bool { return has("198.51.100.2") })
			time.Sleep(100 * time.Millisecond) // End-of-RIB has arrived
			stop()
			for range 20 {
				if !has("198.51.100.1") || !has("198.51.100.2") {
					t.Fatalf("the router lost a route while the speaker was away:\n%s", view())
				}
				time.Sleep(50 * time.Millisecond)
			}
			s.Routes = s.Routes[:1] // one is gone meanwhile
			second := speak(t)
			second.Set(wanted(s))
			awaitState(t, second, "tor", 15*time.Second, established)
			await(t, "the router drops the route that is gone", 5*time.Second, func() bool {
				text := view()
				if !strings.Contains(text, "198.51.100.1") {
					t.Fatalf("the router lost the route that stays:\n%s", text)
				}
				return !strings.Contains(text, "198.51.100.2")
			})
		})
	}
}

// TestNoResets: whatever happens to routes, timers and other peers, a session
// stays; only a change of its own key ends it.
func TestNoResets(t *testing.T) {
	t.Parallel()
	const n, events = 56, 10_000
	w := newWorld(t, n)
	f := startFRR(t, w.router, numbered(frrPlain, n))
	wb := newWorld(t, n+1)
	b := startBIRD(t, wb.router, numbered(birdGlobal+"protocol bgp node { local as 64600; neighbor 10.0.%[1]d.1 as 64512; ipv4 { import all; export none; }; }\n", n+1))
	d := speak(t)
	one, two, three := session(w.router4(n)), session(wb.router4(n+1)), session(netip.MustParseAddr("127.0.0.77"))
	one.Peer, two.Peer, three.Peer = "frr", "bird", "other"
	d.Set(wanted(two, one, three))
	awaitState(t, d, "frr", 10*time.Second, established)
	awaitState(t, d, "bird", 10*time.Second, established)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range events {
		for _, s := range []*bgp.Session{&one, &two} {
			at := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(r.IntN(40))}), 32)
			i, have := slices.BinarySearchFunc(s.Routes, at, func(x bgp.Route, p netip.Prefix) int { return x.Prefix.Addr().Compare(p.Addr()) })
			s.Routes = slices.Clone(s.Routes)
			switch {
			case !have:
				s.Routes = slices.Insert(s.Routes, i, bgp.Route{Prefix: at, Attributes: bgp.Attributes{LocalPref: 100}})
			case r.IntN(2) == 0:
				s.Routes = slices.Delete(s.Routes, i, i+1)
			default:
				s.Routes[i].Communities = []uint32{r.Uint32N(1 << 20)}
			}
		}
		switch r.IntN(10) {
		case 0:
			one.Timers.Hold = time.Duration(3+r.IntN(200)) * time.Second
			two.Timers.Connect = time.Duration(r.IntN(100)) * time.Second
		case 1:
			three.Key.RouterID = netip.AddrFrom4([4]byte{1, 1, 1, byte(r.IntN(256))})
		}
		list := []bgp.Session{two, one}
		if r.IntN(5) > 0 {
			list = append(list, three)
		}
		d.Set(wanted(list...))
		if r.IntN(20) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	want := len(one.Routes)
	await(t, "FRR has what is wanted", 10*time.Second, func() bool {
		return strings.Contains(f.Show("show bgp ipv4 unicast"), fmt.Sprintf("Displayed  %d routes", want))
	})
	await(t, "BIRD has what is wanted", 10*time.Second, func() bool {
		return strings.Contains(b.Show("show", "route", "count"), fmt.Sprintf("%d of ", len(two.Routes))) ||
			strings.Count(b.Show("show", "route", "protocol", "node"), "unicast") == len(two.Routes)
	})
	for _, peer := range []string{"frr", "bird"} {
		if s := stateOf(d, peer); s.Counters.NotificationsSent != 0 || !established(s) {
			t.Errorf("session %+v: want it established and never closed", s)
		}
	}
	if text := f.Show("show bgp neighbors 10.0.56.1"); !strings.Contains(text, "dropped 0") {
		t.Errorf("FRR lost the session:\n%s", text)
	}

	one.Key.RouterID = netip.MustParseAddr("10.9.9.77") // its own key
	d.Set(wanted(two, one))
	await(t, "the session is made anew", 5*time.Second, func() bool {
		return strings.Contains(f.Show("show bgp neighbors 10.0.56.1"), "remote router ID 10.9.9.77")
	})
	awaitState(t, d, "frr", 15*time.Second, established)
	if s := stateOf(d, "bird"); s.Counters.OpensSent > 2 || !established(s) {
		t.Errorf("the other session was made anew too: %+v", s)
	}
}
