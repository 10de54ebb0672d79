// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// join keeps this member joined with the wanted peers until ctx ends: each is
// contacted once, and again whenever it is no member.
func (d *Driver) join(ctx context.Context) {
	tries := map[netip.AddrPort]*attempt{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		peers, resync, all := d.due(tries, now)
		d.contact(ctx, tries, peers)
		if resync {
			d.exchange(ctx)
		}
		pause := joinTick
		if all {
			pause = joinRest // whatever changes that wakes it up
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.wake:
		}
	}
}

// attempt is the history of joining a peer.
type attempt struct {
	met  bool // states have been exchanged with it
	next time.Time
	wait time.Duration
	err  error
}

// due lists the peers to contact now, and forgets the unwanted ones. It also
// reports whether to exchange states with some, and whether all are met.
func (d *Driver) due(tries map[netip.AddrPort]*attempt, now time.Time) (peers []netip.AddrPort, resync, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	resync = d.resync || now.Before(d.restless)
	all = !resync
	d.resync = false
	for peer := range tries {
		if !slices.Contains(d.wanted.Peers, peer) {
			delete(tries, peer)
		}
	}
	living := map[netip.AddrPort]bool{}
	for _, addr := range d.members {
		living[addr] = true
	}
	var out []netip.AddrPort
	d.problem = ""
	for _, peer := range d.wanted.Peers {
		t, known := tries[peer]
		if !known {
			t = &attempt{}
			tries[peer] = t
		}
		if living[peer] && t.met {
			t.next, t.wait, t.err = time.Time{}, 0, nil
			continue
		}
		all = false
		if t.err != nil {
			d.problem = fmt.Sprintf("cannot join %s: %v", peer, t.err)
		}
		if !now.Before(t.next) {
			out = append(out, peer)
		}
	}
	for _, peer := range slices.SortedFunc(maps.Keys(d.meet), netip.AddrPort.Compare) {
		if !slices.Contains(out, peer) {
			out = append(out, peer)
		}
	}
	clear(d.meet)
	return out, resync, all
}

// contact joins peers, some at a time: one that is off costs a timeout.
func (d *Driver) contact(ctx context.Context, tries map[netip.AddrPort]*attempt, peers []netip.AddrPort) {
	errs := d.exchangeWith(ctx, peers)
	for i, peer := range peers {
		t := tries[peer]
		if t == nil {
			continue // met by chance
		}
		t.err = errs[i]
		t.met = t.met || t.err == nil
		t.wait = min(max(2*t.wait, joinBackoff), joinBackoffMax)
		// Up to a quarter more, so that restarted nodes do not march in step.
		t.next = time.Now().Add(t.wait + rand.N(t.wait/4))
	}
}

// exchange trades full states with a few members, or, without any, with the
// wanted peers.
func (d *Driver) exchange(ctx context.Context) {
	d.mu.Lock()
	var peers []netip.AddrPort
	for _, m := range d.sortedMembers() {
		peers = append(peers, m.Addr)
	}
	if len(peers) == 0 {
		peers = slices.Clone(d.wanted.Peers)
	}
	d.mu.Unlock()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	d.exchangeWith(ctx, peers[:min(len(peers), resyncPeers)])
}

func (d *Driver) exchangeWith(ctx context.Context, peers []netip.AddrPort) []error {
	d.mu.Lock()
	list := d.list
	d.mu.Unlock()
	errs := make([]error, len(peers))
	var g errgroup.Group
	g.SetLimit(joinParallel)
	for i, peer := range peers {
		g.Go(func() error {
			if ctx.Err() == nil {
				_, errs[i] = list.Join([]string{peer.String()})
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return errs
}
