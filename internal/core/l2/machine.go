// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"slices"
	"time"
)

// Machine holds the decisions. It is not safe for concurrent use.
type Machine struct {
	cfg     Config
	links   []Link // as given last
	byName  map[string]Link
	ownMACs map[MAC]struct{}

	addrs   map[netip.Addr]*address
	order   []*address // addrs in the order of Wanted
	targets map[targetKey]*target
	pass    uint64 // number of the last Set; addresses with an older one are gone

	queue     queue
	conflicts map[conflictKey]*sighting // of others; those that are confirmed are conflicts
	revision  uint64
}

// address is a wanted address.
type address struct {
	ip         netip.Addr
	interfaces []string  // wanted
	targets    []*target // the usable ones among them, in the same order
	names      []string  // of the links of targets; replaced, never changed, because State hands it out
	pass       uint64

	requests, responses, gratuitous uint64
}

// target is one address on one usable link: what is answered and announced.
type target struct {
	addr *address
	link Link
	plan
}

type targetKey struct {
	ip    netip.Addr
	index int
}

func (t *target) key() targetKey { return targetKey{t.addr.ip, t.link.Index} }

// New returns a machine that owns nothing.
func New(cfg Config) *Machine {
	return &Machine{
		cfg:       cfg,
		addrs:     map[netip.Addr]*address{},
		targets:   map[targetKey]*target{},
		conflicts: map[conflictKey]*sighting{},
	}
}

// Set takes the whole wanted state. Addresses that are new on a link are announced from now on, those no longer
// wanted are not answered any more when it returns. Set keeps nothing of w that the caller could change. Repeating a
// Set changes nothing. It reports whether Reaches has changed.
func (m *Machine) Set(now time.Time, w Wanted) (changed bool) {
	linksChanged := !slices.Equal(m.links, w.Links)
	if linksChanged {
		m.setLinks(w.Links)
	}
	m.pass++
	m.order = m.order[:0]
	for _, want := range w.Addresses {
		ip := want.IP.Unmap().WithZone("")
		a := m.addrs[ip]
		if a == nil {
			a = &address{ip: ip}
			m.addrs[ip] = a
		} else if a.pass == m.pass {
			continue // listed twice
		}
		a.pass = m.pass
		m.order = append(m.order, a)
		if same := slices.Equal(a.interfaces, want.Interfaces); !same || linksChanged {
			if !same {
				a.interfaces = slices.Clone(want.Interfaces)
			}
			changed = m.place(now, a) || changed
		}
	}
	for ip, a := range m.addrs {
		if a.pass != m.pass {
			changed = changed || len(a.targets) > 0
			m.remove(ip, a)
		}
	}
	return changed
}

func (m *Machine) setLinks(links []Link) {
	m.links = slices.Clone(links)
	m.byName = make(map[string]Link, len(links))
	m.ownMACs = make(map[MAC]struct{}, len(links))
	for _, l := range links {
		m.byName[l.Name] = l
		m.ownMACs[l.MAC] = struct{}{}
	}
}

// place brings the targets of an address in line with its interfaces and the links as they are. A link that comes up,
// changes its MAC or is made anew under its old name gets a new target and with it a new burst of announcements. It
// reports whether a target came or went.
func (m *Machine) place(now time.Time, a *address) (changed bool) {
	wanted := make([]Link, 0, len(a.interfaces))
	for _, name := range a.interfaces {
		if l, ok := m.byName[name]; ok && l.usable() {
			wanted = append(wanted, l)
		}
	}
	kept := make([]*target, 0, len(wanted))
	for _, t := range a.targets {
		if slices.Contains(wanted, t.link) {
			kept = append(kept, t)
		} else {
			m.drop(t)
			changed = true
		}
	}
	a.targets, a.names = make([]*target, 0, len(wanted)), make([]string, 0, len(wanted))
	for _, l := range wanted {
		a.names = append(a.names, l.Name)
		if i := slices.IndexFunc(kept, func(t *target) bool { return t.link == l }); i >= 0 {
			a.targets = append(a.targets, kept[i])
			continue
		}
		t := &target{addr: a, link: l, plan: plan{position: unqueued}}
		m.targets[t.key()] = t
		a.targets = append(a.targets, t)
		m.start(now, t)
		changed = true
	}
	return changed
}

func (m *Machine) drop(t *target) {
	m.queue.remove(t)
	delete(m.targets, t.key())
}

func (m *Machine) remove(ip netip.Addr, a *address) {
	for _, t := range a.targets {
		m.drop(t)
	}
	delete(m.addrs, ip)
	m.forget(ip)
}

// Reannounce starts the burst of announcements again for every address on a link: for a driver that could not send
// for a while, and after a partition has healed.
func (m *Machine) Reannounce(now time.Time, index int) {
	for _, a := range m.order {
		for _, t := range a.targets {
			if t.link.Index == index {
				m.start(now, t)
			}
		}
	}
}

// Step takes a received packet and returns the answer to send, if there is one.
func (m *Machine) Step(now time.Time, in Packet) (Packet, bool) {
	if ip, mac := in.claim(); ip.IsValid() && !ip.IsUnspecified() {
		if t := m.targets[targetKey{ip, in.Interface}]; t != nil {
			m.observe(now, t, mac)
		}
	}
	if in.Kind != ARPRequest && in.Kind != Solicitation {
		return Packet{}, false
	}
	t := m.targets[targetKey{in.TargetIP, in.Interface}]
	if t == nil {
		return Packet{}, false
	}
	if in.Kind == ARPRequest {
		return t.answerARP(&in)
	}
	return t.answerSolicitation(&in)
}

func (t *target) answerARP(in *Packet) (Packet, bool) {
	if in.Dst != broadcastMAC() && in.Dst != t.link.MAC || in.gratuitous() {
		return Packet{}, false
	}
	t.addr.requests++
	t.addr.responses++
	return Packet{
		Kind: ARPReply, Interface: t.link.Index,
		Src: t.link.MAC, Dst: in.SenderMAC,
		SenderMAC: t.link.MAC, SenderIP: t.addr.ip,
		TargetMAC: in.SenderMAC, TargetIP: in.SenderIP,
	}, true
}

// answerSolicitation follows RFC 4861 section 7.2.4: a solicited advertisement to the asker, or, when the asker has
// no address yet (duplicate address detection), an unsolicited one to all nodes.
func (t *target) answerSolicitation(in *Packet) (Packet, bool) {
	if in.Dst != t.link.MAC && in.Dst != groupMAC(in.DestIP) {
		return Packet{}, false
	}
	t.addr.requests++
	t.addr.responses++
	out := t.advertisement()
	if in.SenderIP.IsUnspecified() {
		return out, true
	}
	out.Solicited = true
	out.DestIP = in.SenderIP
	out.Dst = in.SenderMAC
	if out.Dst == (MAC{}) {
		out.Dst = in.Src
	}
	return out, true
}

// State describes what is announced and what was seen. The caller must not change what the slices of interfaces hold.
func (m *Machine) State() State {
	s := State{Addresses: make([]AddressState, len(m.order)), Conflicts: m.listConflicts()}
	for i, a := range m.order {
		s.Addresses[i] = AddressState{
			IP: a.ip, Phase: PhaseIdle, Interfaces: a.names,
			RequestsReceived: a.requests, ResponsesSent: a.responses, GratuitousSent: a.gratuitous,
		}
		if len(a.targets) > 0 {
			s.Addresses[i].Phase = PhaseAnnouncing
		}
	}
	return s
}

// Revision changes whenever a claim of somebody else appears, becomes a conflict, or disappears.
func (m *Machine) Revision() uint64 { return m.revision }

// Owns reports whether an address is answered for on a link.
func (m *Machine) Owns(ip netip.Addr, index int) bool { return m.targets[targetKey{ip, index}] != nil }

// Reach is an address on a link that it is answered on.
type Reach struct {
	IP   netip.Addr
	Link Link
}

// Reaches lists everything that is answered for, in the order of Wanted: the driver opens sockets and joins groups
// accordingly.
func (m *Machine) Reaches() []Reach {
	out := make([]Reach, 0, len(m.targets))
	for _, a := range m.order {
		for _, t := range a.targets {
			out = append(out, Reach{a.ip, t.link})
		}
	}
	return out
}
