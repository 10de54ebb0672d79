// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"time"
)

// watch looks at the whole cluster after every event and measures what no node
// can see: two answers for one address, and addresses without an answer.
type watch struct {
	overlapSince map[overlap]time.Time
	darkSince    map[netip.Addr]time.Time
	owner        map[netip.Addr]*node

	longestOverlap time.Duration
	longestDark    time.Duration
	moves          int
}

type overlap struct {
	ip   netip.Addr
	a, b *node
}

func newWatch() watch {
	return watch{
		overlapSince: map[overlap]time.Time{},
		darkSince:    map[netip.Addr]time.Time{},
		owner:        map[netip.Addr]*node{},
	}
}

func (w *watch) look(c *Cluster) {
	for _, ip := range c.Addresses() {
		var first *node
		for i, a := range c.nodes {
			if a.machine == nil || a.frozen || !a.answers[ip] {
				w.end(c, ip, a, c.nodes[i+1:])
				continue
			}
			if first == nil {
				first = a
			}
			for _, b := range c.nodes[i+1:] {
				o := overlap{ip, a, b}
				if !c.connected(a, b) || !b.answers[ip] {
					w.endOne(c, o)
				} else if _, is := w.overlapSince[o]; !is {
					w.overlapSince[o] = c.now
				}
			}
		}
		w.lookDark(c, ip, first)
	}
}

func (w *watch) lookDark(c *Cluster, ip netip.Addr, owner *node) {
	if owner == nil {
		if _, is := w.darkSince[ip]; !is {
			w.darkSince[ip] = c.now
		}
		return
	}
	if since, is := w.darkSince[ip]; is {
		w.longestDark = max(w.longestDark, c.now.Sub(since))
		delete(w.darkSince, ip)
	}
	if last := w.owner[ip]; last != owner {
		if last != nil {
			w.moves++
		}
		w.owner[ip] = owner
	}
}

func (w *watch) end(c *Cluster, ip netip.Addr, a *node, others []*node) {
	for _, b := range others {
		w.endOne(c, overlap{ip, a, b})
	}
}

func (w *watch) endOne(c *Cluster, o overlap) {
	if since, is := w.overlapSince[o]; is {
		w.longestOverlap = max(w.longestOverlap, c.now.Sub(since))
		delete(w.overlapSince, o)
	}
}

// Report is what was seen since the last report.
type Report struct {
	// Overlap is the longest time that two connected nodes answered for one
	// address.
	Overlap time.Duration
	// Dark is the longest time that nobody answered for an address.
	Dark time.Duration
	// Moves counts changes of owner.
	Moves int
}

// Report tells what was seen since the last call, and forgets it.
func (c *Cluster) Report() Report {
	w := &c.watch
	r := Report{Overlap: w.longestOverlap, Dark: w.longestDark, Moves: w.moves}
	for o, since := range w.overlapSince { // the longest of all, whatever the order
		r.Overlap = max(r.Overlap, c.now.Sub(since))
		w.overlapSince[o] = c.now
	}
	for ip, since := range w.darkSince {
		r.Dark = max(r.Dark, c.now.Sub(since))
		w.darkSince[ip] = c.now
	}
	w.longestOverlap, w.longestDark, w.moves = 0, 0, 0
	return r
}
