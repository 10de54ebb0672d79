// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"net/netip"
	"testing"
	"time"
)

// pair is two machines with one session between them, on a perfect line.
type pair struct {
	t    testing.TB
	now  time.Time
	addr [2]netip.Addr
	key  [2]Key
	m    [2]*Machine
	want [2]Settings
	// last is the packet that each sent last.
	last   [2]Packet
	events [2][]Event
	// cut holds back the packets that each sends.
	cut [2]bool
	// log has all packets sent by each since it was emptied.
	log [2][]sentPacket
}

type sentPacket struct {
	at time.Time
	Packet
}

func newPair(tb testing.TB, a, b Settings) *pair {
	tb.Helper()
	return newPairOf(tb, false, a, b)
}

func newPairOf(tb testing.TB, multihop bool, a, b Settings) *pair {
	tb.Helper()
	p := &pair{
		t: tb, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), m: [2]*Machine{New(1), New(2)}, want: [2]Settings{a, b},
		addr: [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	}
	for i := range 2 {
		p.key[i] = Key{Peer: p.addr[1-i], Multihop: multihop}
	}
	p.set(0)
	p.set(1)
	return p
}

func (p *pair) set(i int) {
	p.m[i].Set(p.now, []Session{{p.key[i], p.want[i]}})
	p.flush()
}

// change gives one side other settings.
func (p *pair) change(i int, change func(*Settings)) {
	change(&p.want[i])
	p.set(i)
}

// arrival is a packet from one side as the other receives it.
func (p *pair) arrival(from int, packet Packet) Arrival {
	a := Arrival{Source: p.addr[from], Destination: p.addr[1-from], TTL: 255, Packet: packet, Multihop: p.key[from].Multihop}
	if a.Multihop {
		a.TTL = 254
	}
	return a
}

// flush delivers until nobody has anything to say.
func (p *pair) flush() {
	for busy := true; busy; {
		busy = false
		for i := range 2 {
			b := p.m[i].Take()
			p.events[i] = append(p.events[i], b.Events...)
			for _, o := range append([]Outgoing(nil), b.Send...) {
				busy = true
				p.last[i] = o.Packet
				p.log[i] = append(p.log[i], sentPacket{p.now, o.Packet})
				if p.cut[i] {
					continue
				}
				in := p.arrival(i, o.Packet)
				p.m[1-i].Step(p.now, &in)
			}
		}
	}
}

// run lets time pass.
func (p *pair) run(d time.Duration) {
	end := p.now.Add(d)
	for {
		next := end
		for i := range 2 {
			if n := p.m[i].Next(); !n.IsZero() && n.Before(next) {
				next = n
			}
		}
		p.now = next
		p.m[0].Tick(next)
		p.m[1].Tick(next)
		p.flush()
		if next.Equal(end) {
			return
		}
	}
}

// up lets both sessions come up and agree on their intervals.
func (p *pair) up() {
	p.t.Helper()
	p.run(2 * time.Second)
	for i := range 2 {
		if s := p.status(i); s.State != Up {
			p.t.Fatalf("side %d is %+v", i, s)
		}
		p.events[i] = nil
		p.log[i] = nil
	}
}

func (p *pair) status(i int) Status {
	p.t.Helper()
	list, _ := p.m[i].State()
	if len(list) != 1 {
		p.t.Fatalf("side %d has %d sessions", i, len(list))
	}
	return list[0]
}

func (p *pair) discriminator(i int) uint32 { return p.m[i].sessions[p.key[i]].local }

// say delivers to side 1 a packet that side 0 could send in a state.
func (p *pair) say(s State, change func(*Packet)) {
	packet := Packet{
		State: s, Multiplier: 3, MyDiscriminator: p.discriminator(0), YourDiscriminator: p.discriminator(1),
		DesiredMinTx: 300_000, RequiredMinRx: 300_000,
	}
	if change != nil {
		change(&packet)
	}
	in := p.arrival(0, packet)
	p.m[1].Step(p.now, &in)
}

// take returns what side 1 wants to be done.
func (p *pair) take() Batch {
	b := p.m[1].Take()
	return Batch{append([]Outgoing(nil), b.Send...), append([]Event(nil), b.Events...)}
}
