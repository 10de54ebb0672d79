// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/heartbeat"
)

// fakeGossip and fakeWatcher are what the test makes them say, and remember what
// they were told.
type fakeGossip struct {
	messenger
	events chan gossip.Event
	met    []netip.AddrPort
}

func (g *fakeGossip) Events() <-chan gossip.Event { return g.events }
func (g *fakeGossip) Meet(a netip.AddrPort)       { g.met = append(g.met, a) }
func (g *fakeGossip) Set(gossip.Wanted)           {}

type fakeWatcher struct {
	events chan heartbeat.Event
	joined []heartbeat.Member
	left   map[lb.NodeName]bool
	kept   []netip.AddrPort
	record uint64
}

func (w *fakeWatcher) Join(m heartbeat.Member)              { w.joined = append(w.joined, m) }
func (w *fakeWatcher) Leave(node lb.NodeName, goodbye bool) { w.left[node] = goodbye }
func (w *fakeWatcher) Keep(a []netip.AddrPort)              { w.kept = a }
func (w *fakeWatcher) Publish(version uint64)               { w.record = version }
func (w *fakeWatcher) Events() <-chan heartbeat.Event       { return w.events }

// TestDetector lets gossip and heartbeats speak: members come and go as the
// heartbeats say, messages pass, and nodes are met where that is needed.
func TestDetector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGossip{events: make(chan gossip.Event)}
		w := &fakeWatcher{events: make(chan heartbeat.Event), left: map[lb.NodeName]bool{}}
		d := newDetector(g, w)
		ended := make(chan error, 1)
		go func() { ended <- d.Run(t.Context()) }()
		var got []gossip.Event
		collected := make(chan struct{})
		go func() {
			defer close(collected)
			for e := range d.Events() {
				got = append(got, e)
			}
		}()
		a, b := netip.MustParseAddrPort("192.0.2.1:7946"), netip.MustParseAddrPort("192.0.2.2:7946")

		d.Set(gossip.Wanted{Peers: []netip.AddrPort{a}, Record: 7})
		g.events <- gossip.Event{Kind: gossip.MemberUp, Node: "a", Addr: a, Heartbeats: true}
		g.events <- gossip.Event{Kind: gossip.Message, Data: []byte("m")}
		g.events <- gossip.Event{Kind: gossip.FullState, Data: []byte("s")}
		g.events <- gossip.Event{Kind: gossip.MemberDown, Node: "b", Left: true}
		synctest.Wait()
		w.events <- heartbeat.Event{Kind: heartbeat.Up, Node: "a", Addr: a}
		w.events <- heartbeat.Event{Kind: heartbeat.Down, Node: "a", Addr: a}
		w.events <- heartbeat.Event{Kind: heartbeat.Up, Node: "a", Addr: a, Returned: true}
		w.events <- heartbeat.Event{Kind: heartbeat.Down, Node: "b", Addr: b, Left: true}
		w.events <- heartbeat.Event{Kind: heartbeat.Found, Node: "b", Addr: b}
		w.events <- heartbeat.Event{Kind: heartbeat.Record, Node: "a", Addr: a, Version: 3}
		close(g.events)
		close(w.events)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		<-collected

		want := []gossip.Event{
			{Kind: gossip.Message, Data: []byte("m")},
			{Kind: gossip.FullState, Data: []byte("s")},
			{Kind: gossip.MemberUp, Node: "a", Addr: a},
			{Kind: gossip.MemberDown, Node: "a", Addr: a},
			{Kind: gossip.MemberUp, Node: "a", Addr: a},
			{Kind: gossip.MemberDown, Node: "b", Addr: b, Left: true},
			{Kind: gossip.MemberRecord, Node: "a", Addr: a, Version: 3},
		}
		addrs := cmpopts.EquateComparable(netip.AddrPort{})
		if diff := cmp.Diff(want, got, addrs); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]netip.AddrPort{a, b}, g.met, addrs); diff != "" {
			t.Errorf("met (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]heartbeat.Member{{Node: "a", Addr: a, Heartbeats: true}}, w.joined, addrs); diff != "" {
			t.Errorf("joined (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[lb.NodeName]bool{"b": true}, w.left); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]netip.AddrPort{a}, w.kept, addrs); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if w.record != 7 {
			t.Errorf("published record %d, want 7", w.record)
		}
	})
}
