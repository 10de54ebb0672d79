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
	wanted  map[portKey]*reach
	leaving []*port          // not wanted any more, to be closed when there is time: the kernel takes some for it
	failed  map[portKey]bool // wanted, and could not be opened or broke
	retryAt time.Time        // if any failed
	reaches []l2.Reach       // all there is to listen for
	moved   bool             // the groups should follow
	told    map[netip.Addr]uint64
	fresh   map[netip.Addr]bool // what Started is to tell, see started.go
	packets []l2.Packet         // reused
	frame   []byte              // reused
}

// reach is what a socket is for.
type reach struct {
	link  l2.Link
	bits  []uint32 // the last ones of its addresses
	spans []span   // that hold them
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
		r.reaches, r.moved = reaches, true
		r.takeBack()
	}
	r.collectBroken()
	due := len(r.failed) > 0 && !time.Now().Before(r.retryAt)
	if !moved && !due {
		return
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.wanted), comparePorts) {
		if p := r.ports[k]; p != nil {
			p.narrow(r.wanted[k].spans)
		} else {
			r.open(k)
		}
	}
	r.findFresh()
}

// want works out which sockets are needed and puts those that are not aside.
func (r *runner) want(reaches []l2.Reach) {
	before := r.wanted
	r.wanted = map[portKey]*reach{}
	for _, one := range reaches {
		k := portKey{one.Link.Index, protocolOf(one.IP)}
		if r.wanted[k] == nil {
			r.wanted[k] = &reach{link: one.Link}
		}
		r.wanted[k].bits = append(r.wanted[k].bits, lastBits(one.IP))
	}
	for _, w := range r.wanted {
		w.spans, w.bits = spansOf(w.bits, maxSpans), nil
	}
	for k, was := range before {
		if _, still := r.wanted[k]; still {
			continue
		}
		if p := r.ports[k]; p != nil {
			r.leaving = append(r.leaving, p)
			delete(r.ports, k)
			r.detach(k)
		}
		delete(r.failed, k)
		r.driver.report(was.link.Name, protocolName(k.protocol), nil)
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
	link, d := r.wanted[k].link, r.driver
	p, err := openPort(link, k.protocol, r.wanted[k].spans)
	if err != nil {
		r.fail(k, err)
		return
	}
	r.ports[k] = p
	go p.serve(func(in, out []byte) []byte { return d.answer(k.index, in, out) }, func() { notify(d.wake) })
	d.report(link.Name, protocolName(k.protocol), nil)
	r.attach(k)
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
	r.driver.report(r.wanted[k].link.Name, protocolName(k.protocol), err)
}

// announce sends everything that is due.
func (r *runner) announce() {
	d := r.driver
	for {
		now := time.Now()
		d.mu.Lock()
		if !leased(now, d.lease) {
			d.mu.Unlock()
			return // until Lease wakes Run
		}
		r.packets = d.machine.Tick(now, r.packets[:0])
		next := d.machine.Next()
		d.signal()
		d.mu.Unlock()
		for i := range r.packets {
			r.send(&r.packets[i])
		}
		done := next.IsZero() || next.After(now)
		r.tellFresh(r.packets, done)
		if done {
			return
		}
	}
}

// send sends one announcement. A failure is not tried again: the next repeat comes soon, and if the socket is broken
// its reader says so.
func (r *runner) send(p *l2.Packet) {
	port, m := r.ports[portKey{p.Interface, protocolOf(p.TargetIP)}], r.driver.machine
	r.driver.mu.Lock()
	// Set may have taken the address away after Tick. Announcing it now would draw the traffic of the new owner here.
	current := m.Current(p)
	if port == nil {
		m.Unsent(time.Now(), p)
	}
	r.driver.mu.Unlock()
	if current && port != nil {
		r.frame = l2.AppendFrame(r.frame[:0], p)
		port.send(r.frame)
	}
}

// pause returns the time until Run has something to do. Anything new wakes it earlier.
func (r *runner) pause() time.Duration {
	d := r.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alarm = d.machine.Next()
	if !leased(time.Now(), d.lease) {
		d.alarm = time.Time{}
	}
	if len(r.failed) > 0 && (d.alarm.IsZero() || r.retryAt.Before(d.alarm)) {
		d.alarm = r.retryAt
	}
	if d.alarm.IsZero() {
		d.alarm = time.Now().Add(time.Hour)
	}
	return max(0, time.Until(d.alarm))
}

// joinGroups follows what was wanted last. It comes after the announcements, which would have to share a processor with
// the work of the kernel.
func (r *runner) joinGroups() {
	if r.moved {
		r.members.set(r.reaches)
		r.moved = false
	}
}

func (r *runner) closeLeaving() {
	for _, p := range r.leaving {
		p.close()
	}
	r.leaving = nil
}

func (r *runner) close() {
	r.closeLeaving()
	for k, p := range r.ports {
		r.detach(k)
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
