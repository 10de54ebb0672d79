// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// runner is what belongs to the goroutine of Run.
type runner struct {
	driver  *Driver
	members *memberships
	ports   map[portKey]*port
	wanted  map[portKey]l2.Link
	leaving []*port          // not wanted any more, to be closed when there is time: the kernel takes some for it
	failed  map[portKey]bool // wanted, and could not be opened or broke
	retryAt time.Time        // if any failed
	packets []l2.Packet      // reused
	frame   []byte           // reused
}

// portKey names a socket: one per link and protocol.
type portKey struct {
	index    int
	protocol int // unix.ETH_P_ARP or unix.ETH_P_IPV6
}

func comparePorts(a, b portKey) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.protocol, b.protocol))
}

// reconcile opens the sockets that are wanted and puts the others aside.
func (r *runner) reconcile() {
	d := r.driver
	d.mu.Lock()
	moved := d.moved
	d.moved = false
	var reaches []l2.Reach
	if moved {
		reaches = d.machine.Reaches()
	}
	d.mu.Unlock()
	if moved {
		r.want(reaches)
		r.members.set(reaches)
	}
	r.collectBroken()
	due := len(r.failed) > 0 && !time.Now().Before(r.retryAt)
	if !moved && !due {
		return
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.wanted), comparePorts) {
		if r.ports[k] == nil {
			r.open(k)
		}
	}
}

// want works out which sockets are needed and puts those that are not aside.
func (r *runner) want(reaches []l2.Reach) {
	before := r.wanted
	r.wanted = map[portKey]l2.Link{}
	for _, reach := range reaches {
		r.wanted[portKey{reach.Link.Index, protocolOf(reach.IP)}] = reach.Link
	}
	for k, link := range before {
		if _, still := r.wanted[k]; still {
			continue
		}
		if p := r.ports[k]; p != nil {
			r.leaving = append(r.leaving, p)
			delete(r.ports, k)
		}
		delete(r.failed, k)
		r.driver.report(link.Name, protocolName(k.protocol), nil)
	}
}

// collectBroken puts sockets that stopped working among the failed.
func (r *runner) collectBroken() {
	for k, p := range r.ports {
		select {
		case <-p.done:
			r.leaving = append(r.leaving, p)
			delete(r.ports, k)
			r.fail(k, p.err)
		default:
		}
	}
}

func (r *runner) open(k portKey) {
	link, d := r.wanted[k], r.driver
	p, err := openPort(link, k.protocol)
	if err != nil {
		r.fail(k, err)
		return
	}
	r.ports[k] = p
	go p.serve(func(in, out []byte) []byte { return d.answer(k.index, in, out) }, func() { notify(d.wake) })
	d.report(link.Name, protocolName(k.protocol), nil)
	if r.failed[k] {
		// The announcements went nowhere meanwhile.
		delete(r.failed, k)
		d.mu.Lock()
		d.machine.Reannounce(time.Now(), k.index)
		d.mu.Unlock()
	}
}

func (r *runner) fail(k portKey, err error) {
	r.failed[k] = true
	r.retryAt = time.Now().Add(r.driver.retry)
	r.driver.report(r.wanted[k].Name, protocolName(k.protocol), err)
}

// announce sends everything that is due.
func (r *runner) announce() {
	d := r.driver
	for {
		now := time.Now()
		d.mu.Lock()
		r.packets = d.machine.Tick(now, r.packets[:0])
		next := d.machine.Next()
		d.signal()
		d.mu.Unlock()
		for i := range r.packets {
			r.send(&r.packets[i])
		}
		if next.IsZero() || next.After(now) {
			return
		}
	}
}

// send sends one announcement. A failure is not tried again: the next repeat comes soon, and if the socket is broken
// its reader says so.
func (r *runner) send(p *l2.Packet) {
	port := r.ports[portKey{p.Interface, protocolOf(p.TargetIP)}]
	if port == nil {
		return
	}
	// Set may have taken the address away after Tick. Announcing it now would draw the traffic of the new owner here.
	r.driver.mu.Lock()
	owned := r.driver.machine.Owns(p.TargetIP, p.Interface)
	r.driver.mu.Unlock()
	if owned {
		r.frame = l2.AppendFrame(r.frame[:0], p)
		port.send(r.frame)
	}
}

// pause returns the time until Run has something to do.
func (r *runner) pause() time.Duration {
	d := r.driver
	d.mu.Lock()
	next := d.machine.Next()
	d.mu.Unlock()
	if len(r.failed) > 0 && (next.IsZero() || r.retryAt.Before(next)) {
		next = r.retryAt
	}
	if next.IsZero() {
		return time.Hour // anything new wakes Run
	}
	return max(0, time.Until(next))
}

func (r *runner) closeLeaving() {
	for _, p := range r.leaving {
		p.close()
	}
	r.leaving = nil
}

func (r *runner) close() {
	r.closeLeaving()
	for _, p := range r.ports {
		p.close()
	}
}

func protocolOf(ip netip.Addr) int {
	if ip.Is4() {
		return unix.ETH_P_ARP
	}
	return unix.ETH_P_IPV6
}

func protocolName(protocol int) string {
	if protocol == unix.ETH_P_ARP {
		return "ARP"
	}
	return "NDP"
}
