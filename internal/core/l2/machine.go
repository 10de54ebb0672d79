// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
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
	peers   []MAC // as given last
	peerSet map[MAC]struct{}

	addrs   map[netip.Addr]*address
	order   []*address // addrs in the order of Wanted
	targets map[targetKey]*target
	pass    uint64 // number of the last Set; addresses with an older one are gone

	probesAt time.Time // when the last group of probes begins
	probes   int       // in that group

	queue     queue
	suspects  map[*target]struct{} // those that somebody else claims
	recheckAt time.Time            // not after the first of their times; zero: none
	revision  uint64
	made      uint64 // targets, ever
}

// address is a wanted address.
type address struct {
	ip         netip.Addr
	interfaces []string // wanted
	probe      bool
	hushed     bool
	round      uint64
	proven     []string  // names of the links on which it was announced once: there it need not be probed any more
	targets    []*target // on the usable ones among its interfaces, in the same order
	names      []string  // of the links it is answered on; replaced, never changed, because State hands it out
	pass       uint64

	requests, responses, gratuitous uint64
}

// stage is the phase of a target. The zero value is the one that answers.
type stage uint8

const (
	announcing stage = iota
	probing          // questions go out
	resting          // somebody else has it
)

// target is one address on one usable link: what is answered and announced.
type target struct {
	addr *address
	link Link
	born uint64 // see Reach.Number
	plan
	stage stage
	lost  int        // times in a row that probing found somebody else
	seen  []sighting // of others; sorted by MAC
	// defended is when the address was announced last because of a claim.
	defended time.Time
}

type targetKey struct {
	ip    netip.Addr
	index int
}

func (t *target) key() targetKey { return targetKey{t.addr.ip, t.link.Index} }

func (t *target) reach() Reach { return Reach{t.addr.ip, t.link, t.born} }

// New returns a machine that owns nothing.
func New(cfg Config) *Machine {
	cfg.Probes = cmp.Or(cfg.Probes, 3)
	return &Machine{
		cfg:      cfg,
		addrs:    map[netip.Addr]*address{},
		targets:  map[targetKey]*target{},
		suspects: map[*target]struct{}{},
	}
}

// Set takes the whole wanted state. Addresses that are new on a link are announced or probed from now on, those no
// longer wanted are not answered any more when it returns. Set keeps nothing of w that the caller could change.
// Repeating a Set changes nothing. It reports whether Reaches has changed.
func (m *Machine) Set(now time.Time, w Wanted) (changed bool) {
	linksChanged := !slices.Equal(m.links, w.Links)
	if linksChanged {
		m.setLinks(w.Links)
	}
	if !slices.Equal(m.peers, w.Peers) {
		m.peers, m.peerSet = slices.Clone(w.Peers), setOf(w.Peers)
	}
	m.pass++
	m.order = m.order[:0]
	for i := range w.Addresses {
		want := &w.Addresses[i]
		ip := want.IP.Unmap().WithZone("")
		a := m.addrs[ip]
		if a == nil {
			a = &address{ip: ip, round: want.Round}
			m.addrs[ip] = a
		} else if a.pass == m.pass {
			continue // listed twice
		}
		a.pass = m.pass
		m.order = append(m.order, a)
		changed = m.setAddress(now, a, want, linksChanged) || changed
	}
	for ip, a := range m.addrs {
		if a.pass != m.pass {
			changed = changed || len(a.targets) > 0
			for _, t := range a.targets {
				m.drop(t)
			}
			delete(m.addrs, ip)
		}
	}
	return changed
}

// setAddress reports whether a target came or went.
func (m *Machine) setAddress(now time.Time, a *address, want *Address, linksChanged bool) (changed bool) {
	a.probe = want.Probe
	again := a.round != want.Round || a.hushed && !want.Hushed
	a.round, a.hushed = want.Round, want.Hushed
	if again {
		for _, t := range a.targets {
			m.again(now, t)
		}
	}
	same := slices.Equal(a.interfaces, want.Interfaces)
	if same && !linksChanged {
		return false
	}
	if !same {
		a.interfaces = slices.Clone(want.Interfaces)
	}
	return m.place(now, a)
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

func setOf(macs []MAC) map[MAC]struct{} {
	set := make(map[MAC]struct{}, len(macs))
	for _, mac := range macs {
		set[mac] = struct{}{}
	}
	return set
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
	a.targets = make([]*target, 0, len(wanted))
	for _, l := range wanted {
		if i := slices.IndexFunc(kept, func(t *target) bool { return t.link == l }); i >= 0 {
			a.targets = append(a.targets, kept[i])
			continue
		}
		m.made++
		t := &target{addr: a, link: l, born: m.made, plan: plan{position: unqueued}}
		m.targets[t.key()] = t
		a.targets = append(a.targets, t)
		if m.cfg.Probe > 0 && a.probe && !slices.Contains(a.proven, l.Name) {
			m.probe(now, t)
		} else {
			m.start(now, t)
		}
		m.offload(t)
		changed = true
	}
	m.placed(a)
	return changed
}

// placed notes where an address is answered for, after a target came, went, or changed its stage.
func (m *Machine) placed(a *address) {
	names := make([]string, 0, len(a.targets))
	for _, t := range a.targets {
		if t.stage == announcing {
			names = append(names, t.link.Name)
		}
	}
	a.names = names
}

// offload lets somebody else answer, if there is somebody.
func (m *Machine) offload(t *target) {
	if m.cfg.Offload != nil {
		m.cfg.Offload.Put(t.reach(), t.stage == announcing)
	}
}

func (m *Machine) drop(t *target) {
	if m.cfg.Offload != nil {
		n := m.cfg.Offload.Drop(t.reach())
		t.addr.requests += n
		t.addr.responses += n
	}
	m.queue.remove(t)
	delete(m.targets, t.key())
	m.forget(t)
}

// again starts anew what a target does: the burst of announcements, or the questions. One that somebody else has goes
// on waiting.
func (m *Machine) again(now time.Time, t *target) {
	switch t.stage {
	case announcing:
		m.start(now, t)
	case probing:
		m.probe(now, t)
	case resting:
	}
}

// Reannounce starts the burst of announcements again for every address on a link: for a driver that could not send
// for a while, and after a partition has healed.
func (m *Machine) Reannounce(now time.Time, index int) {
	for _, a := range m.order {
		for _, t := range a.targets {
			if t.link.Index == index {
				m.again(now, t)
			}
		}
	}
}

// State describes what is announced and what was seen. The caller must not change what the slices of interfaces hold.
func (m *Machine) State() State {
	s := State{Addresses: make([]AddressState, len(m.order)), Conflicts: m.listConflicts()}
	for i, a := range m.order {
		s.Addresses[i] = AddressState{
			IP: a.ip, Phase: a.phase(), Interfaces: a.names, Contested: a.contested(),
			RequestsReceived: a.requests, ResponsesSent: a.responses, GratuitousSent: a.gratuitous,
		}
		if s.Addresses[i].Phase == PhaseProbing {
			s.Addresses[i].Probing = a.probing()
		}
		if m.cfg.Offload != nil {
			for _, t := range a.targets {
				n := m.cfg.Offload.Answered(t.reach())
				s.Addresses[i].RequestsReceived += n
				s.Addresses[i].ResponsesSent += n
			}
		}
	}
	return s
}

func (a *address) contested() bool {
	return slices.ContainsFunc(a.targets, func(t *target) bool { return t.lost > 0 })
}

func (a *address) probing() []string {
	var names []string
	for _, t := range a.targets {
		if t.lost == 0 {
			names = append(names, t.link.Name)
		}
	}
	return names
}

func (a *address) phase() Phase {
	if len(a.names) > 0 {
		return PhaseAnnouncing
	}
	phase := PhaseIdle
	for _, t := range a.targets {
		// While somebody else's address is probed again nothing has changed yet.
		if t.lost == 0 {
			return PhaseProbing
		}
		phase = PhaseContested
	}
	return phase
}

// Revision changes whenever a claim of somebody else appears, becomes a conflict, or disappears, and when an address
// that was probed is announced or contested.
func (m *Machine) Revision() uint64 { return m.revision }

// Current reports whether a packet of Tick is still to be sent, after a Set that may have come between.
func (m *Machine) Current(p *Packet) bool {
	t := m.targets[targetKey{p.TargetIP, p.Interface}]
	return t != nil && !(t.addr.hushed && p.gratuitous())
}

// Reach is an address on a link on which it is answered for, or will be if nobody else has it.
type Reach struct {
	IP   netip.Addr
	Link Link
	// Number is higher than those of all before it. An address that was gone for
	// a moment has another one.
	Number uint64
}

// Reaches lists everything there is to listen for, in the order of Wanted: the driver opens sockets and joins groups
// accordingly.
func (m *Machine) Reaches() []Reach {
	out := make([]Reach, 0, len(m.targets))
	for _, a := range m.order {
		for _, t := range a.targets {
			out = append(out, t.reach())
		}
	}
	return out
}
