// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

// TestBird: three sessions with one router, of both families and both kinds.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestBird(t *testing.T) {
	_, far := cable(t, "bird0")
	d := running(t)
	v4 := bfd.Key{Peer: far4.Addr()}
	v6 := bfd.Key{Peer: far6.Addr()}
	hops := bfd.Key{Peer: far4.Addr(), Source: host4.Addr(), Multihop: true}
	all := []bfd.Key{v4, v6, hops}
	var wanted []bfd.Session
	for _, key := range all {
		wanted = append(wanted, bfd.Session{Key: key, Settings: settings(50 * ms)})
	}
	wanted[2].Settings = settings(100 * ms)
	d.Set(wanted)
	b := newBird(t, far, `
protocol bfd {
	interface "eth0" { interval 50 ms; multiplier 3; };
	multihop { interval 100 ms; multiplier 3; };
	neighbor 192.0.2.1 dev "eth0";
	neighbor 2001:db8::1 dev "eth0";
	neighbor 192.0.2.1 local 192.0.2.2 multihop on;
}
`)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.sessions())
		}
	})
	// BIRD's packets to routers further away have a TTL of 64.
	s := d.await(t, hops, "dropping", func(s Session) bool { return s.Dropped > 0 })
	if want := "packet with TTL 64, at least 254 (minimumTtl) is wanted"; s.LastDrop != want {
		t.Errorf("last drop %q, want %q", s.LastDrop, want)
	}
	wanted[2].MinTTL = 60
	d.Set(wanted)
	for _, key := range all {
		d.awaitState(t, key, bfd.Up)
	}
	b.awaitPeer(host4.Addr(), "Up")
	b.awaitPeer(host6.Addr(), "Up")
	time.Sleep(time.Second)
	if e := d.seen(); len(e) != len(all) {
		t.Errorf("flapped: %v", e)
	}
	for i, key := range all {
		interval := wanted[i].Transmit
		s := d.awaitState(t, key, bfd.Up)
		if s.TransmitInterval != interval || s.DetectionTime != 3*interval {
			t.Errorf("%v: every %v, detection %v; want %v", key, s.TransmitInterval, s.DetectionTime, interval)
		}
	}

	down := wanted[0]
	down.AdminDown = true
	d.Set([]bfd.Session{down, wanted[1], wanted[2]})
	b.awaitPeer(host4.Addr(), "Down")
	d.Set(wanted)
	d.awaitState(t, v4, bfd.Up)

	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for _, key := range all {
		d.awaitState(t, key, bfd.Down)
	}
	failed := d.awaitEvents(t, len(all), bfd.Failed)
	for _, e := range failed {
		took, most := e.at.Sub(killed), 200*ms
		if e.Key == hops {
			most = 350 * ms
		}
		t.Logf("%v: noticed after %v", e.Key, took)
		if took > most {
			t.Errorf("%v: noticed after %v, want at most %v", e.Key, took, most)
		}
	}
	if len(failed) != len(all) {
		t.Errorf("%d sessions failed: %v", len(failed), d.seen())
	}
}
