// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/links"
)

// fakeNetwork connects fakeMessengers: what one sends, all others get after a
// millisecond. A node that is cut is declared dead by the others, and the
// others by it, after a detection time.
type fakeNetwork struct {
	mu      sync.Mutex // guards members
	members []*fakeMessenger
}

const (
	fakeDelay     = time.Millisecond
	fakeDetection = 700 * time.Millisecond
)

type fakeMessenger struct {
	network *fakeNetwork
	node    lb.NodeName
	events  chan gossip.Event

	cut   bool   // guarded by network.mu
	apart bool   // the same; see fakeNetwork.part
	parts int    // the same: how often that changed
	state []byte // guarded by network.mu
}

func (n *fakeNetwork) join(node lb.NodeName) *fakeMessenger {
	m := &fakeMessenger{network: n, node: node, events: make(chan gossip.Event, 10_000)}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.members {
		if o.cut {
			continue
		}
		o.events <- gossip.Event{Kind: gossip.MemberUp, Node: node}
		m.events <- gossip.Event{Kind: gossip.MemberUp, Node: o.node}
		m.events <- gossip.Event{Kind: gossip.FullState, Data: slices.Clone(o.state)}
	}
	n.members = append(n.members, m)
	return m
}

// remove takes a node out: left means that it said goodbye.
func (n *fakeNetwork) remove(node lb.NodeName, left bool) {
	after := fakeDetection
	if left {
		after = fakeDelay
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		if m.node == node {
			m.cut = true
		}
	}
	for _, m := range n.members {
		if !m.cut {
			time.AfterFunc(after, func() { m.events <- gossip.Event{Kind: gossip.MemberDown, Node: node, Left: left} })
		}
	}
}

// part takes the cable out of a node: it and the others find out by themselves.
func (n *fakeNetwork) part(node lb.NodeName) { n.setApart(node, true, fakeDetection) }

// rejoin puts it back. They meet again after a time.
func (n *fakeNetwork) rejoin(node lb.NodeName, after time.Duration) { n.setApart(node, false, after) }

func (n *fakeNetwork) setApart(node lb.NodeName, apart bool, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.members, func(m *fakeMessenger) bool { return m.node == node && !m.cut })
	a := n.members[i]
	a.apart = apart
	a.parts++
	parts := a.parts
	for _, b := range n.members {
		if b == a || b.cut {
			continue
		}
		time.AfterFunc(after, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if a.parts != parts || a.cut || b.cut {
				return // something else has happened meanwhile
			}
			for _, p := range [][2]*fakeMessenger{{a, b}, {b, a}} {
				if apart {
					p[0].events <- gossip.Event{Kind: gossip.MemberDown, Node: p[1].node}
					continue
				}
				p[0].events <- gossip.Event{Kind: gossip.MemberUp, Node: p[1].node}
				p[0].events <- gossip.Event{Kind: gossip.FullState, Data: slices.Clone(p[1].state)}
			}
		})
		after += fakeMeeting
	}
}

// fakeMeeting is how long after another the others meet a node that is back.
const fakeMeeting = 100 * time.Millisecond

func (m *fakeMessenger) Set(w gossip.Wanted) {
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	m.state = w.State
}

func (m *fakeMessenger) Send(msg []byte) { m.SendTo("", msg) }

func (m *fakeMessenger) SendTo(to lb.NodeName, msg []byte) {
	m.network.mu.Lock()
	defer m.network.mu.Unlock()
	for _, o := range m.network.members {
		if o != m && !o.cut && !m.cut && !o.apart && !m.apart && (to == "" || to == o.node) {
			time.AfterFunc(fakeDelay, func() { o.events <- gossip.Event{Kind: gossip.Message, Node: m.node, Data: slices.Clone(msg)} })
		}
	}
}

func (m *fakeMessenger) Resync()                     {}
func (m *fakeMessenger) Events() <-chan gossip.Event { return m.events }

// fakeResponder keeps what it was told.
type fakeResponder struct {
	mu      sync.Mutex // guards the rest
	wanted  l2.Wanted
	lease   time.Time
	history []int // number of wanted addresses, one entry per Set
	state   l2.State
	changed chan struct{}

	// opening is how long it takes to open a socket; forever means that it cannot.
	opening time.Duration
	started chan []netip.Addr
	serves  map[netip.Addr]bool // wanted, and started
}

// forever is longer than any test.
const forever = time.Hour

func newFakeResponder() *fakeResponder {
	return &fakeResponder{
		changed: make(chan struct{}, 1), started: make(chan []netip.Addr, 100),
		serves: map[netip.Addr]bool{},
	}
}

func (r *fakeResponder) Set(w l2.Wanted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.wanted.Addresses
	r.wanted = w
	r.history = append(r.history, len(w.Addresses))
	is := func(list []l2.Address, ip netip.Addr) bool {
		return slices.ContainsFunc(list, func(a l2.Address) bool { return a.IP == ip })
	}
	for _, a := range before {
		if !is(w.Addresses, a.IP) {
			delete(r.serves, a.IP)
		}
	}
	for _, a := range w.Addresses {
		switch {
		case is(before, a.IP):
		case r.opening == 0:
			r.start(a.IP)
		case r.opening < forever:
			time.AfterFunc(r.opening, func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				if is(r.wanted.Addresses, a.IP) {
					r.start(a.IP)
				}
			})
		}
	}
}

func (r *fakeResponder) start(ip netip.Addr) {
	r.serves[ip] = true
	r.started <- []netip.Addr{ip}
}

func (r *fakeResponder) Started() <-chan []netip.Addr { return r.started }

func (r *fakeResponder) Lease(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease = until
}

func (r *fakeResponder) State() l2.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *fakeResponder) Changed() <-chan struct{} { return r.changed }

// answers reports whether the node is to answer for an address, and where.
func (r *fakeResponder) answers(ip netip.Addr) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.wanted.Addresses {
		if a.IP == ip {
			return a.Interfaces
		}
	}
	return nil
}

// fakeLinks is a set of links that a test changes.
type fakeLinks struct {
	mu      sync.Mutex // guards links
	links   []links.Link
	changed chan struct{}
}

func newFakeLinks(ls ...links.Link) *fakeLinks {
	return &fakeLinks{links: ls, changed: make(chan struct{}, 1)}
}

func (f *fakeLinks) set(ls ...links.Link) {
	f.mu.Lock()
	f.links = ls
	f.mu.Unlock()
	f.changed <- struct{}{}
}

func (f *fakeLinks) Snapshot() []links.Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links
}

func (f *fakeLinks) Changed() <-chan struct{} { return f.changed }
