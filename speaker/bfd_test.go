// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/bfdnet"
	"github.com/heraldlb/herald/internal/kube/status"
)

// fakeBFD keeps what it was told.
type fakeBFD struct {
	wanted []bfd.Session
	state  bfdnet.State
	events chan bfd.Event
}

func (f *fakeBFD) Set(s []bfd.Session)      { f.wanted = s }
func (f *fakeBFD) State() bfdnet.State      { return f.state }
func (f *fakeBFD) Events() <-chan bfd.Event { return f.events }

// TestBFDDue: BFD waits for BGP, but not for ever.
func TestBFDDue(t *testing.T) {
	t.Parallel()
	b := newBFDSide(nil, nil, nil, nil, nil)
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	for _, step := range []struct {
		name  string
		state bgp.State
		opens uint64
		at    time.Time
		want  bool
	}{
		{"begins", bgp.Connect, 0, at(0), false},
		{"two connections were closed", bgp.Idle, 2, at(1), false},
		{"three were", bgp.Idle, 3, at(2), true},
		{"up", bgp.Established, 4, at(3), true},
		{"lost", bgp.Idle, 4, at(4), false},
		{"refused for a while", bgp.Connect, 4, at(33), false},
		{"refused for too long", bgp.Connect, 4, at(34), true},
		{"up again", bgp.Established, 5, at(35), true},
		{"lost again", bgp.Idle, 5, at(60), false},
	} {
		states := []bgp.SessionState{{Peer: "tor", State: step.state, Counters: bgp.Counters{OpensSent: step.opens}}}
		if got := b.due(states, step.at)["tor"]; got != step.want {
			t.Errorf("%s: due %v, want %v", step.name, got, step.want)
		}
	}
}

func TestBFDSide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		detector := &fakeBFD{events: make(chan bfd.Event)}
		var lost []string
		changes := 0
		links := newFakeLinks(eth("eth0", true, "192.0.2.101/24"))
		b := newBFDSide(detector, links, func(p string) { lost = append(lost, p) }, func() { changes++ }, slog.New(slog.DiscardHandler))
		profile := &lb.BFDProfile{Name: "fast", ReceiveInterval: 100 * time.Millisecond, TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
		session := func(peer, address string, as uint32) bgp.Session {
			s := bgp.Session{Peer: peer, BFD: profile, Key: bgp.Key{LocalAS: 64512, PeerAS: as}}
			if address != "" {
				s.Key.Address = netip.MustParseAddr(address)
			} else {
				s.Key.Interface = "eth0"
			}
			return s
		}
		far := session("far", "203.0.113.1", 64600)
		far.MultiHop = true
		plain := session("plain", "192.0.2.9", 64600)
		plain.BFD = nil
		broken := session("broken", "192.0.2.8", 64600)
		broken.Problem = "no Secret"
		w := bgp.Wanted{Sessions: []bgp.Session{
			session("near", "192.0.2.1", 64600), session("again", "192.0.2.1", 64600), far, plain, broken,
			session("inside", "192.0.2.2", 64512), session("reflector", "203.0.113.2", 64512), session("link", "", 64600), session("unknown", "", 64600),
		}}
		b.set(w, []bgp.SessionState{{Peer: "link", Address: netip.MustParseAddr("fe80::1%eth0")}})

		want := map[string]bool{"192.0.2.1": false, "203.0.113.1": true, "192.0.2.2": false, "203.0.113.2": true, "fe80::1%eth0": false}
		got := map[string]bool{}
		for _, s := range detector.wanted {
			got[s.Key.Peer.String()] = s.Key.Multihop
			if s.Transmit != 100*time.Millisecond {
				t.Errorf("settings %+v", s.Settings)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("routers, and whether they are several hops away (-want +got):\n%s", diff)
		}

		for _, step := range []struct {
			what   string
			states []bgp.SessionState
			held   bool
		}{
			{"nothing was tried", nil, true},
			{"two connections that were closed", []bgp.SessionState{{Peer: "near", State: bgp.Active, Counters: bgp.Counters{OpensSent: 2}}}, true},
			{"BGP is up", []bgp.SessionState{{Peer: "near", State: bgp.Established, Counters: bgp.Counters{OpensSent: 3}}}, false},
			{"BGP is down", []bgp.SessionState{{Peer: "near", State: bgp.Active, Counters: bgp.Counters{OpensSent: 3}}}, true},
			{"that of another peer with the same router is up", []bgp.SessionState{{Peer: "near", Counters: bgp.Counters{OpensSent: 5}}, {Peer: "again", State: bgp.Established}}, false},
			{"three connections were closed since it was up", []bgp.SessionState{{Peer: "near", State: bgp.Active, Counters: bgp.Counters{OpensSent: 6}}}, false},
			{"the session is a new one", []bgp.SessionState{{Peer: "near", State: bgp.OpenSent, Counters: bgp.Counters{OpensSent: 1}}}, true},
			{"the new one is closed twice", []bgp.SessionState{{Peer: "near", State: bgp.OpenSent, Counters: bgp.Counters{OpensSent: 3}}}, true},
			{"the new one is closed three times", []bgp.SessionState{{Peer: "near", State: bgp.OpenSent, Counters: bgp.Counters{OpensSent: 4}}}, false},
		} {
			b.set(w, step.states)
			for _, s := range detector.wanted {
				if s.Key.Peer == netip.MustParseAddr("192.0.2.1") && s.AdminDown != step.held {
					t.Errorf("%s: BFD is held down: %t, want %t", step.what, s.AdminDown, step.held)
				}
			}
		}

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.run(ctx) }()
		near := bfd.Key{Peer: netip.MustParseAddr("192.0.2.1")}
		detector.events <- bfd.Event{Key: near, Kind: bfd.CameUp}
		detector.events <- bfd.Event{Key: near, Kind: bfd.Released} // RFC 5882, section 4.2: nothing is wrong
		detector.events <- bfd.Event{Key: near, Kind: bfd.Failed}
		synctest.Wait()
		if diff := cmp.Diff([]string{"near", "again"}, lost); diff != "" {
			t.Errorf("sessions ended (-want +got):\n%s", diff)
		}
		detector.state.Sessions = []bfdnet.Session{{Status: bfd.Status{Key: near, State: bfd.Up}}}
		if diff := cmp.Diff(map[string]status.BFD{"near": {State: v1alpha1.BFDUp}, "again": {State: v1alpha1.BFDUp}}, b.state()); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		before := changes
		detector.state.Sessions[0].State, detector.state.Sessions[0].LastDrop = bfd.Down, "packet with TTL 254"
		time.Sleep(problemsEvery)
		synctest.Wait()
		if got := b.state()["near"]; got != (status.BFD{State: v1alpha1.BFDDown, Problem: "packet with TTL 254"}) || changes <= before {
			t.Errorf("state %+v, told %d times; want what keeps BFD down to be told", got, changes-before)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
