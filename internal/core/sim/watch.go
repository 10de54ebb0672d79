// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
)

// watch looks at the whole cluster after every event and measures what no node
// can see: two answers for one address, and addresses without an answer.
type watch struct {
	addresses []netip.Addr
	groups    map[netip.Addr]*announce.Group
	stale     bool                // everything is to be looked at
	touched   map[netip.Addr]bool // these are
	calm      time.Time           // the last disturbance
	sides     [MaxSides]bool      // reused

	overlapSince map[overlap]time.Time
	darkSince    map[netip.Addr]time.Time
	neglected    map[place]time.Time
	owner        map[netip.Addr]*node

	longestOverlap time.Duration
	longestDark    time.Duration
	longestNeglect neglect
	moves          int
}

// MaxSides is how many sides a partition may have.
const MaxSides = 8

type overlap struct {
	ip   netip.Addr
	a, b *node
}

// place is an address on one side of a partition.
type place struct {
	ip   netip.Addr
	side int
}

type neglect struct {
	place
	at   time.Time
	took time.Duration
}

func newWatch() watch {
	return watch{
		touched:      map[netip.Addr]bool{},
		overlapSince: map[overlap]time.Time{},
		darkSince:    map[netip.Addr]time.Time{},
		neglected:    map[place]time.Time{},
		owner:        map[netip.Addr]*node{},
	}
}

// changed notes whose answers have changed.
func (w *watch) changed(ips []netip.Addr) {
	for _, ip := range ips {
		w.touched[ip] = true
	}
}

// disturbed notes that something has changed in the world.
func (w *watch) disturbed(c *Cluster) {
	for p, since := range w.neglected { // the longest of all, whatever the order
		w.measure(c, p, since)
	}
	w.stale = true
	w.calm = c.now
	w.addresses = nil
}

func (w *watch) look(c *Cluster) {
	if w.addresses == nil {
		w.addresses = c.Addresses()
		w.groups = make(map[netip.Addr]*announce.Group, len(w.addresses))
		for i := range c.groups {
			for _, ip := range c.groups[i].Addresses {
				w.groups[ip] = &c.groups[i]
			}
		}
	}
	if w.stale {
		for _, ip := range w.addresses {
			w.lookAt(c, ip)
		}
		w.stale = false
		clear(w.touched)
	}
	if len(w.touched) == 0 {
		return
	}
	for _, ip := range w.addresses {
		if w.touched[ip] {
			w.lookAt(c, ip)
		}
	}
	clear(w.touched)
}

func (w *watch) lookAt(c *Cluster, ip netip.Addr) {
	var first *node
	sides := w.sides[:c.sides]
	clear(sides)
	for i, a := range c.nodes {
		if !a.answering(ip) {
			w.end(c, ip, a, c.nodes[i+1:])
			continue
		}
		sides[a.side] = true
		if first == nil {
			first = a
		}
		for _, b := range c.nodes[i+1:] {
			o := overlap{ip, a, b}
			if !b.answering(ip) || !c.connected(a, b) {
				w.endOne(c, o)
			} else if _, is := w.overlapSince[o]; !is {
				w.overlapSince[o] = c.now
			}
		}
	}
	w.lookDark(c, ip, first)
	if c.cfg.Bound > 0 {
		for side, answered := range sides {
			w.lookNeglect(c, place{ip, side}, answered)
		}
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

// lookNeglect measures for how long nobody on a side answers although somebody
// could, and nothing has happened meanwhile that would explain it.
func (w *watch) lookNeglect(c *Cluster, p place, answered bool) {
	since, is := w.neglected[p]
	if is {
		w.measure(c, p, since)
	}
	switch {
	case answered || !w.could(c, p):
		delete(w.neglected, p)
	case !is:
		w.neglected[p] = c.now
	}
}

func (w *watch) measure(c *Cluster, p place, since time.Time) {
	if since.Before(w.calm) {
		since = w.calm
	}
	if took := c.now.Sub(since); took > w.longestNeglect.took {
		w.longestNeglect = neglect{p, c.now, took}
	}
}

// could reports whether a node on that side could answer.
func (w *watch) could(c *Cluster, p place) bool {
	g := w.groups[p.ip]
	for _, n := range c.nodes {
		if n.side != p.side || n.machine == nil || n.leaving || n.frozen || len(n.interfaces) == 0 {
			continue
		}
		if _, ok := g.Candidate(n.name); ok && n.machine.Settled() {
			return true
		}
	}
	return false
}

func (w *watch) end(c *Cluster, ip netip.Addr, a *node, others []*node) {
	if len(w.overlapSince) == 0 {
		return
	}
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
	// Neglect is the longest time that nobody answered for an address on one
	// side of a partition although a node there could, counted from the last
	// disturbance. Measured if Config.Bound is set.
	Neglect time.Duration
	// Neglected says which address that was, and when it ended.
	Neglected string
	// Moves counts changes of owner.
	Moves int
}

// Report tells what was seen since the last call, and forgets it.
func (c *Cluster) Report() Report {
	w := &c.watch
	w.stale = true // what goes on still counts
	w.look(c)
	n := w.longestNeglect
	r := Report{
		Overlap: w.longestOverlap, Dark: w.longestDark, Neglect: n.took, Moves: w.moves,
		Neglected: fmt.Sprintf("%v until %v", n.ip, n.at.Sub(c.start)),
	}
	for o, since := range w.overlapSince { // the longest of all, whatever the order
		r.Overlap = max(r.Overlap, c.now.Sub(since))
		w.overlapSince[o] = c.now
	}
	for ip, since := range w.darkSince {
		if w.groups[ip] == nil {
			delete(w.darkSince, ip)
			continue
		}
		r.Dark = max(r.Dark, c.now.Sub(since))
		w.darkSince[ip] = c.now
	}
	w.longestOverlap, w.longestDark, w.longestNeglect, w.moves = 0, 0, neglect{}, 0
	return r
}
