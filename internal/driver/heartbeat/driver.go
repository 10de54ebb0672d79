// SPDX-License-Identifier: Apache-2.0

package heartbeat

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

const (
	// drainLimit bounds how many datagrams are taken before the machine is asked
	// what to do.
	drainLimit = 256
	// publishEvery is how old State may be.
	publishEvery = time.Second
)

// Driver runs a liveness machine. All methods may be called from any goroutine.
type Driver struct {
	cfg    Config
	seal   *sealer
	events chan Event
	wake   chan struct{} // there are inputs
	state  atomic.Pointer[State]
	beat   atomic.Pointer[time.Time] // see Beat
	record atomic.Uint64             // see Publish

	mu     sync.Mutex // guards inputs
	inputs []input

	// The rest belongs to the goroutine of Run.
	machine   *liveness.Machine
	addrs     map[lb.NodeName]netip.AddrPort
	names     map[netip.AddrPort]lb.NodeName
	left      map[lb.NodeName]bool // said goodbye
	out       []Event              // wait to be taken
	buf       []byte
	counts    Counts
	cutOff    bool
	published time.Time
}

// input is something that gossip says.
type input struct {
	member  Member
	joined  bool
	goodbye bool
	keep    []netip.AddrPort // if forget: whom not to forget
	forget  bool
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Driver, error) {
	switch {
	case cfg.NodeName == "":
		return nil, errors.New("heartbeat: node name is empty")
	case cfg.Logger == nil:
		return nil, errors.New("heartbeat: logger is missing")
	case cfg.Port == nil:
		return nil, errors.New("heartbeat: port is missing")
	case len(cfg.Secrets) == 0 || slices.ContainsFunc(cfg.Secrets, func(s []byte) bool { return len(s) == 0 }):
		return nil, errors.New("heartbeat: refuse to run without a secret: anybody on the network could keep a dead node alive")
	}
	return &Driver{
		cfg:    cfg,
		seal:   newSealer(cfg.Secrets, cfg.Label),
		events: make(chan Event),
		wake:   make(chan struct{}, 1),
		addrs:  map[lb.NodeName]netip.AddrPort{},
		names:  map[netip.AddrPort]lb.NodeName{},
		left:   map[lb.NodeName]bool{},
	}, nil
}

// Join tells that gossip believes a member to be alive.
func (d *Driver) Join(m Member) { d.put(input{member: m, joined: true}) }

// Leave tells that gossip does not, or that the member said goodbye.
func (d *Driver) Leave(node lb.NodeName, goodbye bool) {
	d.put(input{member: Member{Node: node}, goodbye: goodbye})
}

// Keep tells where speakers should be. Nodes that gossip has lost are looked for
// until they are found or not kept.
func (d *Driver) Keep(addresses []netip.AddrPort) {
	d.put(input{forget: true, keep: slices.Clone(addresses)})
}

// Publish tells which version of this node's record is on its way to the others
// by gossip. It goes out with the next heartbeats.
func (d *Driver) Publish(version uint64) { d.record.Store(version) }

func (d *Driver) put(in input) {
	d.mu.Lock()
	d.inputs = append(d.inputs, in)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Events is where verdicts arrive. It is closed when Run returns.
func (d *Driver) Events() <-chan Event { return d.events }

// Beat is when the driver wakes up next by itself, or did last. Whoever has
// something to do about as often does it then: each time that a process wakes up
// costs more than what it does. The zero time means that it does not run yet.
func (d *Driver) Beat() time.Time {
	if at := d.beat.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// State returns what the driver saw a moment ago.
func (d *Driver) State() State {
	if s := d.state.Load(); s != nil {
		return *s
	}
	return State{}
}

// Run works until ctx ends. It may be called once.
func (d *Driver) Run(ctx context.Context) error {
	defer close(d.events)
	now := time.Now()
	d.machine = liveness.New(liveness.Config{Self: d.cfg.NodeName, Life: uint64(now.UnixNano())})
	d.machine.Tick(now)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		out, next := chan<- Event(nil), Event{}
		if len(d.out) > 0 {
			out, next = d.events, d.out[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case out <- next:
			d.out = d.out[1:]
			continue
		case <-d.wake:
		case dg := <-d.cfg.Port.Datagrams():
			d.machine.Advance(time.Now())
			d.poll() // what came before it
			d.receive(dg)
		case <-timer.C:
		}
		now := time.Now()
		d.machine.Advance(now)
		d.machine.SetRecord(d.record.Load())
		d.poll()
		d.drain()
		d.takeInputs()
		d.machine.Tick(now)
		d.work(d.machine.Ready())
		d.publish(now)
		beat := d.machine.Next()
		d.beat.Store(&beat)
		timer.Reset(time.Until(beat))
	}
}

// drain takes what has arrived already: after this process was not running for a
// while, that matters more than what its timers say.
func (d *Driver) drain() {
	for range drainLimit {
		select {
		case dg := <-d.cfg.Port.Datagrams():
			d.receive(dg)
		default:
			return
		}
	}
}

// poll takes the heartbeats that nobody was woken up for.
func (d *Driver) poll() {
	for _, dg := range d.cfg.Port.Poll() {
		d.receive(dg)
	}
}

func (d *Driver) receive(dg liveness.Datagram) {
	if dg.Refused {
		if name, known := d.names[dg.From]; known {
			d.machine.Unreachable(name)
		}
		return
	}
	p, ok := d.seal.open(dg.Data)
	if !ok || !d.machine.ReceiveLate(p, dg.Age) {
		d.counts.Rejected++
		return
	}
	d.counts.Received++
}

// takeInputs gives the machine what gossip has said.
func (d *Driver) takeInputs() {
	d.mu.Lock()
	inputs := d.inputs
	d.inputs = nil
	d.mu.Unlock()
	for _, in := range inputs {
		name := in.member.Node
		switch {
		case in.forget:
			d.forget(in.keep)
		case in.joined:
			delete(d.names, d.addrs[name])
			d.addrs[name], d.names[in.member.Addr] = in.member.Addr, name
			delete(d.left, name)
			d.machine.Join(name, in.member.Heartbeats)
		default:
			d.left[name] = in.goodbye
			d.machine.Leave(name, in.goodbye)
		}
	}
}

// forget drops the lost nodes at other addresses than these.
func (d *Driver) forget(keep []netip.AddrPort) {
	for name, addr := range d.addrs { // in any order
		if !slices.Contains(keep, addr) {
			d.machine.Forget(name)
		}
	}
}

// work does what became due. What is sent first is what others wait for.
func (d *Driver) work(r liveness.Ready) {
	for i := range r.Send {
		p := &r.Send[i]
		addr, known := d.addrs[p.To]
		if !known {
			continue
		}
		if p.Lost {
			d.cfg.Port.Knock(addr.Addr())
		}
		d.buf = d.seal.seal(d.buf, p)
		if err := d.cfg.Port.WriteDatagram(d.buf, addr); err == nil {
			d.counts.Sent++
		}
	}
	for _, name := range r.Down {
		d.out = append(d.out, Event{Kind: Down, Node: name, Addr: d.addrs[name], Left: d.left[name]})
	}
	for _, name := range r.Up {
		d.out = append(d.out, Event{Kind: Up, Node: name, Addr: d.addrs[name], Returned: slices.Contains(r.Return, name)})
	}
	for _, name := range r.Rejoin {
		d.out = append(d.out, Event{Kind: Found, Node: name, Addr: d.addrs[name]})
	}
	for _, rec := range r.Records {
		d.out = append(d.out, Event{Kind: Record, Node: rec.Node, Addr: d.addrs[rec.Node], Version: rec.Version})
	}
}

// publish makes the state visible, now and then.
func (d *Driver) publish(now time.Time) {
	cutOff := d.machine.CutOff()
	if cutOff == d.cutOff && now.Sub(d.published) < publishEvery {
		return
	}
	switch {
	case cutOff && !d.cutOff:
		d.cfg.Logger.Warn("no other speaker is heard any more: this node may be cut off, or all others are dead")
	case d.cutOff && !cutOff:
		d.cfg.Logger.Info("other speakers are heard again")
	}
	d.cutOff, d.published = cutOff, now
	d.state.Store(&State{State: d.machine.State(), Counts: d.counts})
}
