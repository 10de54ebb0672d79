// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"time"
)

// firstAgain is the time until somebody else's address is probed again for the first time. It is short because the other
// may be a node of the cluster that is about to stop, or a rival that has lost as well.
const firstAgain = time.Second

// Many addresses are not asked for at the same time: if somebody has them all, his answers must fit into the buffer of
// a socket, which holds less than 300 by default. So probing begins for this many at a time, in this interval.
const (
	probeGroup    = 64
	probeInterval = 10 * time.Millisecond
)

// probe begins to ask whether somebody else has the address of a target, soon.
func (m *Machine) probe(now time.Time, t *target) {
	if now.Sub(m.probesAt) >= probeInterval {
		m.probesAt, m.probes = now, 0
	}
	if m.probes == probeGroup {
		m.probesAt, m.probes = m.probesAt.Add(probeInterval), 0
	}
	m.probes++
	t.stage, t.step, t.due = probing, 0, now
	if m.probesAt.After(now) {
		t.due = m.probesAt
	}
	m.queue.put(t)
}

// serveProbe does what is due for a target that is not announced.
func (m *Machine) serveProbe(now time.Time, t *target, out []Packet) []Packet {
	if t.stage == resting {
		m.probe(now, t)
		return out
	}
	if t.step == m.cfg.Probes {
		m.prove(now, t)
		return out
	}
	t.step++
	// Counted from now: after a pause of this process there must still be time for answers.
	t.due = now.Add(m.cfg.Probe / time.Duration(m.cfg.Probes))
	m.queue.put(t)
	return append(out, t.detection())
}

// prove begins to announce an address that nobody else has.
func (m *Machine) prove(now time.Time, t *target) {
	t.stage, t.lost = announcing, 0
	t.addr.proven = append(t.addr.proven, t.link.Name)
	m.forget(t)
	m.placed(t.addr)
	m.offload(t)
	m.revision++
	m.start(now, t)
}

// contest leaves the address to somebody else, for a while.
func (m *Machine) contest(now time.Time, t *target) {
	if t.lost == 0 {
		m.revision++
	}
	t.stage = resting
	t.lost++
	t.due = now.Add(m.rest(t))
	m.queue.put(t)
}

// rest is the time until a target is probed again. It varies from target to target and from node to node, so that two
// who found each other probing do not meet again.
func (m *Machine) rest(t *target) time.Duration {
	d, longest := firstAgain, max(firstAgain, m.cfg.ProbeAgain)
	for i := 1; i < t.lost && d < longest; i++ {
		d *= 2
	}
	d = min(d, longest)
	return d - time.Duration(hash(t.addr.ip, t.link.MAC, byte(t.lost))%uint64(d/4+1))
}

// Unsent tells that a packet of Tick could not be sent. A question that nobody heard proves nothing.
func (m *Machine) Unsent(now time.Time, p *Packet) {
	if t := m.targets[targetKey{p.TargetIP, p.Interface}]; t != nil && t.stage == probing {
		t.step = 0
		t.due = now.Add(m.cfg.Probe / time.Duration(m.cfg.Probes))
		m.queue.put(t)
	}
}

// Missed tells that packets may have come in that were not given to Step. Silence proves nothing then, so probing begins
// anew where it is under way.
func (m *Machine) Missed(now time.Time) {
	for _, a := range m.order {
		for _, t := range a.targets {
			if t.stage == probing {
				m.probe(now, t)
			}
		}
	}
}

// detection asks whether somebody else has the address, as one who does not have it himself. For IPv6 the answer goes to
// all nodes, which turns them to the one who has the address, and does no harm.
func (t *target) detection() Packet {
	p := t.question()
	if p.Kind == Solicitation {
		p.SenderIP, p.SenderMAC = netip.IPv6Unspecified(), MAC{}
	}
	return p
}
