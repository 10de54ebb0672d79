// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/heartbeat"
)

// gossiper is a messenger that nodes can be met with (internal/driver/gossip).
type gossiper interface {
	messenger
	// Meet exchanges full states with the speaker at an address soon.
	Meet(netip.AddrPort)
}

// watcher finds dead nodes sooner than gossip does (internal/driver/heartbeat).
// None of its methods blocks.
type watcher interface {
	// Join and Leave pass on what gossip says.
	Join(heartbeat.Member)
	Leave(node lb.NodeName, goodbye bool)
	// Keep tells at which addresses lost nodes may come back.
	Keep([]netip.AddrPort)
	// Publish tells the version of this node's own record.
	Publish(version uint64)
	// Events is closed when the watcher ends.
	Events() <-chan heartbeat.Event
}

// detector is a messenger whose members come and go as the heartbeats say, not
// as gossip does.
//
//	          Join, Leave          Up, Down, Record
//	gossip -----------------> heartbeat ----+
//	  |   messages, states                  v
//	  +-------------------------------> detector --Events--> engine
type detector struct {
	gossiper
	watcher watcher
	events  chan gossip.Event

	members int // alive; belongs to the goroutine that hears the watcher
}

// meetings is with how many others, on average, a node exchanges states that
// returns from the dead, and with how many of those that return at once. What
// they know gets to all by gossip.
const meetings = 32

func newDetector(g gossiper, w watcher) *detector {
	return &detector{gossiper: g, watcher: w, events: make(chan gossip.Event, 64)}
}

// Set implements messenger.
func (d *detector) Set(w gossip.Wanted) {
	d.watcher.Keep(w.Peers)
	d.watcher.Publish(w.Record)
	d.gossiper.Set(w)
}

// Events implements messenger.
func (d *detector) Events() <-chan gossip.Event { return d.events }

// Run passes events on until both sources have ended, or ctx ends and nobody
// takes them any more.
func (d *detector) Run(ctx context.Context) error {
	defer close(d.events)
	var g errgroup.Group
	g.Go(func() error {
		for e := range d.gossiper.Events() {
			d.hearGossip(ctx, e)
		}
		return nil
	})
	g.Go(func() error {
		for e := range d.watcher.Events() {
			d.hearWatcher(ctx, e)
		}
		return nil
	})
	return g.Wait()
}

func (d *detector) hearGossip(ctx context.Context, e gossip.Event) {
	switch e.Kind {
	case gossip.MemberUp:
		d.watcher.Join(heartbeat.Member{Node: e.Node, Addr: e.Addr, Heartbeats: e.Heartbeats})
	case gossip.MemberDown:
		d.watcher.Leave(e.Node, e.Left)
	case gossip.Message, gossip.FullState:
		d.pass(ctx, e)
	}
}

func (d *detector) hearWatcher(ctx context.Context, e heartbeat.Event) {
	switch e.Kind {
	case heartbeat.Up:
		d.pass(ctx, gossip.Event{Kind: gossip.MemberUp, Node: e.Node, Addr: e.Addr})
		d.members++
		if e.Returned && rand.IntN(d.members) < meetings {
			d.Meet(e.Addr)
		}
	case heartbeat.Down:
		d.members--
		d.pass(ctx, gossip.Event{Kind: gossip.MemberDown, Node: e.Node, Addr: e.Addr, Left: e.Left})
	case heartbeat.Found:
		d.Meet(e.Addr)
	case heartbeat.Record:
		d.pass(ctx, gossip.Event{Kind: gossip.MemberRecord, Node: e.Node, Addr: e.Addr, Version: e.Version})
	}
}

func (d *detector) pass(ctx context.Context, e gossip.Event) {
	select {
	case d.events <- e:
	case <-ctx.Done():
	}
}
