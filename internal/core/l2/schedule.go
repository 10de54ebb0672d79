// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"container/heap"
	"hash/fnv"
	"net/netip"
	"time"
)

// plan is the place of a target in the schedule: first the burst (Config.Repeats), then the slow refresh. While probing,
// step counts the questions.
type plan struct {
	started  time.Time // of the burst
	step     int       // next entry of Config.Repeats; beyond them: refresh
	extra    bool      // due is that of an announcement out of turn; step waits
	half     bool      // the first form of the announcement is out, the second is due
	due      time.Time
	number   uint64 // among equal times the older goes first
	position int    // in the queue, or unqueued
}

const unqueued = -1

// batch limits the targets that one Tick serves, so that a driver that holds a lock around it holds it briefly.
const batch = 64

// start begins the burst of a target.
func (m *Machine) start(now time.Time, t *target) {
	t.started, t.step, t.extra, t.half = now, -1, false, false
	m.advance(now, t)
}

// advance moves a target to its next time. Repeats that are overdue, because the process was stopped for a while, are
// skipped: they would all come at once.
func (m *Machine) advance(now time.Time, t *target) {
	if t.extra {
		t.extra = false
	} else {
		t.step++
	}
	for t.step > 0 && t.step < len(m.cfg.Repeats) && t.started.Add(m.cfg.Repeats[t.step]).Before(now) {
		t.step++
	}
	switch {
	case t.step < len(m.cfg.Repeats):
		t.due = t.started.Add(m.cfg.Repeats[t.step])
	case m.cfg.Refresh > 0:
		t.due = nextRefresh(now, t.addr.ip, m.cfg.Refresh)
	default:
		m.queue.remove(t)
		return
	}
	m.queue.put(t)
}

// refreshGrid gathers refreshes into rounds, because each time that the process wakes up costs more than a packet.
const refreshGrid = time.Second

// nextRefresh spreads the refreshes of many addresses evenly: each has its own place in the interval.
func nextRefresh(now time.Time, ip netip.Addr, interval time.Duration) time.Time {
	place := int64(hash(ip, MAC{}, 0) % uint64(interval))
	if grid := int64(refreshGrid); int64(interval) > 10*grid {
		place -= place % grid
	}
	return now.Add(interval - time.Duration((now.UnixNano()-place)%int64(interval)))
}

// hash spreads things over time.
func hash(ip netip.Addr, mac MAC, n byte) uint64 {
	h := fnv.New64a()
	b := ip.As16()
	h.Write(b[:])
	h.Write(mac[:])
	h.Write([]byte{n})
	return h.Sum64()
}

// Next returns the time at which Tick has something to do, or the zero time. It may be early.
func (m *Machine) Next() time.Time {
	next := m.recheckAt
	if len(m.queue.targets) > 0 {
		if due := m.queue.targets[0].due; next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// Tick appends to out the packets due now. It serves a limited number of addresses per call: repeat it while Next is
// not after now.
func (m *Machine) Tick(now time.Time, out []Packet) []Packet {
	out = m.recheck(now, out)
	for range batch {
		if len(m.queue.targets) == 0 || m.queue.targets[0].due.After(now) {
			break
		}
		t := m.queue.targets[0]
		if t.stage != announcing {
			out = m.serveProbe(now, t, out)
			continue
		}
		out = m.announce(now, t, out)
		if t.half {
			m.queue.put(t)
			continue
		}
		m.advance(now, t)
	}
	return out
}

// announce appends what belongs to the present step of a target.
func (m *Machine) announce(now time.Time, t *target, out []Packet) []Packet {
	if t.addr.hushed {
		t.half = false
		return out
	}
	refresh := t.step >= len(m.cfg.Repeats) && !t.extra
	t.addr.gratuitous++
	switch {
	case t.addr.ip.Is6():
		out = append(out, t.advertisement())
	case refresh:
		out = append(out, t.announcement(ARPRequest))
	case !t.half:
		// Nearly everybody heeds this form: all addresses that are due come before the other form of the first one.
		t.half, t.due = true, now
		return append(out, t.announcement(ARPRequest))
	default:
		t.half = false
		out = append(out, t.announcement(ARPReply))
	}
	if refresh || !t.extra && !now.Before(t.started.Add(m.cfg.Check)) {
		out = append(out, t.question())
	}
	return out
}

// announcement is gratuitous ARP. Some stations heed only the request form, some only the reply form. In the reply
// form the target is the sender too: that is how Linux tells it from an answer.
func (t *target) announcement(kind Kind) Packet {
	p := Packet{
		Kind: kind, Interface: t.link.Index,
		Src: t.link.MAC, Dst: broadcastMAC(),
		SenderMAC: t.link.MAC, SenderIP: t.addr.ip, TargetIP: t.addr.ip,
	}
	if kind == ARPReply {
		p.TargetMAC = t.link.MAC
	}
	return p
}

// advertisement is an unsolicited neighbour advertisement to all nodes (RFC 4861 section 7.2.6).
func (t *target) advertisement() Packet {
	all := netip.IPv6LinkLocalAllNodes()
	return Packet{
		Kind: Advertisement, Interface: t.link.Index,
		Src: t.link.MAC, Dst: groupMAC(all),
		SenderMAC: t.link.MAC, SenderIP: t.addr.ip, TargetIP: t.addr.ip, DestIP: all,
		Override: true,
	}
}

// question asks whether somebody else has the address. For IPv4 it is the probe of RFC 5227, which changes no cache
// and is answered to us alone. For IPv6 the question of duplicate address detection would be answered to all nodes
// and turn their caches to the other station, so it is an ordinary solicitation from the link-local address of our
// MAC: the answer comes to us alone too.
func (t *target) question() Packet {
	p := Packet{
		Interface: t.link.Index,
		Src:       t.link.MAC,
		SenderMAC: t.link.MAC, TargetIP: t.addr.ip,
	}
	if t.addr.ip.Is4() {
		p.Kind, p.Dst, p.SenderIP = ARPRequest, broadcastMAC(), netip.IPv4Unspecified()
		return p
	}
	group := SolicitedNode(t.addr.ip)
	p.Kind, p.Dst, p.SenderIP, p.DestIP = Solicitation, groupMAC(group), linkLocal(t.link.MAC), group
	return p
}

// queue is a heap of targets by time.
type queue struct {
	targets []*target
	number  uint64
}

// put inserts a target, or moves it after its time has changed.
func (q *queue) put(t *target) {
	q.number++
	t.number = q.number
	if t.position == unqueued {
		heap.Push(q, t)
		return
	}
	heap.Fix(q, t.position)
}

func (q *queue) remove(t *target) {
	if t.position != unqueued {
		heap.Remove(q, t.position)
	}
}

// Len is part of heap.Interface, as are the next four.
func (q *queue) Len() int { return len(q.targets) }

func (q *queue) Less(i, j int) bool {
	a, b := q.targets[i], q.targets[j]
	if c := a.due.Compare(b.due); c != 0 {
		return c < 0
	}
	return a.number < b.number
}

func (q *queue) Swap(i, j int) {
	q.targets[i], q.targets[j] = q.targets[j], q.targets[i]
	q.targets[i].position, q.targets[j].position = i, j
}

// Push appends a *target.
func (q *queue) Push(x any) {
	t := x.(*target)
	t.position = len(q.targets)
	q.targets = append(q.targets, t)
}

// Pop removes the last target.
func (q *queue) Pop() any {
	last := len(q.targets) - 1
	t := q.targets[last]
	q.targets[last] = nil
	q.targets = q.targets[:last]
	t.position = unqueued
	return t
}
