// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// Driver is one member. All methods may be called from any goroutine.
type Driver struct {
	cfg    Config
	keys   [][]byte
	origin uint64
	number atomic.Uint64
	events chan Event
	queue  *queue
	wake   chan struct{} // for the joiner
	outbox *outbox
	gossip *memberlist.TransmitLimitedQueue

	transport  atomic.Pointer[transport] // nil before Run
	heartbeats chan liveness.Datagram
	knocks     chan netip.Addr
	dropped    atomic.Uint64 // datagrams

	// mu guards the fields below. memberlist calls the delegate with its own
	// locks held, so it must not be called with this one held.
	mu       sync.Mutex
	list     *memberlist.Memberlist
	addr     netip.AddrPort
	wanted   Wanted
	members  map[lb.NodeName]netip.AddrPort
	leaving  map[lb.NodeName]bool // said goodbye
	seen     *memory
	resync   bool
	restless time.Time // resync again and again until then
	meet     map[netip.AddrPort]bool
	joined   bool
	problem  string
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Driver, error) {
	switch {
	case cfg.NodeName == "":
		return nil, errors.New("gossip: node name is empty")
	case cfg.Logger == nil:
		return nil, errors.New("gossip: logger is missing")
	case len(cfg.Secrets) == 0 && !cfg.Plaintext:
		return nil, errors.New("gossip: refuse to run without a secret: anybody on the network could take over addresses")
	case len(cfg.Label) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("gossip: label %q is longer than %d bytes", cfg.Label, memberlist.LabelMaxSize)
	}
	d := &Driver{
		cfg:     cfg,
		events:  make(chan Event),
		queue:   newQueue(),
		wake:    make(chan struct{}, 1),
		outbox:  newOutbox(),
		members: map[lb.NodeName]netip.AddrPort{},
		leaving: map[lb.NodeName]bool{},
		seen:    newMemory(4096),
		meet:    map[netip.AddrPort]bool{},

		heartbeats: make(chan liveness.Datagram, heartbeatBacklog),
		knocks:     make(chan netip.Addr, 16),
	}
	for _, s := range cfg.Secrets {
		if len(s) == 0 {
			return nil, errors.New("gossip: a secret is empty")
		}
		d.keys = append(d.keys, secretKey(s))
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	d.origin = binary.BigEndian.Uint64(b[:])
	d.gossip = &memberlist.TransmitLimitedQueue{RetransmitMult: retransmitMult, NumNodes: d.size}
	return d, nil
}

// Run takes part in gossip until ctx ends, then says goodbye. It returns an
// error if it could not start. It may be called once.
func (d *Driver) Run(ctx context.Context) error {
	defer close(d.events)
	bind := d.cfg.BindAddr
	if !bind.IsValid() {
		bind = netip.IPv4Unspecified()
	}
	transport, err := newTransport(ctx, netip.AddrPortFrom(bind, d.cfg.BindPort), d.heartbeats, &d.dropped)
	if err != nil {
		return fmt.Errorf("start gossip on %s port %d: %w", bind, d.cfg.BindPort, err)
	}
	conf, err := d.config(transport)
	if err != nil {
		return errors.Join(err, transport.Shutdown())
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return errors.Join(fmt.Errorf("start gossip on %s: %w", transport.addr, err), transport.Shutdown())
	}
	self := addrPort(list.LocalNode())
	d.transport.Store(transport)
	d.mu.Lock()
	d.list, d.addr = list, self
	d.mu.Unlock()

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { d.queue.pump(gctx, d.events, d.Resync); return nil })
	g.Go(func() error { d.join(gctx); return nil })
	g.Go(func() error { d.knock(gctx); return nil })
	g.Go(func() error { d.outbox.run(gctx, d.deliver); return nil })
	err = g.Wait()
	d.leave(list)
	return err
}

// leave tells the others and closes the sockets. What was sent before is on its
// way already: the outbox empties itself when its context ends.
func (d *Driver) leave(list *memberlist.Memberlist) {
	d.deliver(parcel{content: seal(kindGoodbye, d.nextID(), []byte(d.cfg.NodeName))})
	if err := list.Leave(leaveTimeout); err != nil {
		d.cfg.Logger.Debug("leave gossip", "error", err)
	}
	if err := list.Shutdown(); err != nil {
		d.cfg.Logger.Warn("close gossip sockets", "error", err)
	}
}

// Set gives the whole wanted state. It never blocks; it may come before Run.
func (d *Driver) Set(w Wanted) {
	w.Peers = slices.Clone(w.Peers)
	d.mu.Lock()
	same := slices.Equal(d.wanted.Peers, w.Peers)
	d.wanted = w
	d.mu.Unlock()
	if !same {
		d.poke()
	}
}

// Send gives msg to all members: at once to each, and again by gossip, so that
// a lost packet does no harm. It never blocks.
func (d *Driver) Send(msg []byte) {
	sealed := seal(kindUser, d.nextID(), msg)
	if len(sealed) <= packetLimit {
		d.repeat(sealed)
	}
	d.outbox.put(parcel{content: sealed})
}

// SendTo gives msg to one member, once. It never blocks.
func (d *Driver) SendTo(node lb.NodeName, msg []byte) {
	d.outbox.put(parcel{to: node, content: seal(kindDirect, d.nextID(), msg)})
}

// repeat has gossip spread a message.
func (d *Driver) repeat(sealed []byte) {
	d.gossip.QueueBroadcast(broadcast(sealed))
	if d.gossip.NumQueued() > gossipBacklog {
		d.gossip.Prune(gossipBacklog)
	}
}

// Resync exchanges full states with some members soon.
func (d *Driver) Resync() {
	d.mu.Lock()
	d.resync = true
	d.mu.Unlock()
	d.poke()
}

// Meet exchanges full states with the speaker at an address soon; they join if
// they are no members of each other.
func (d *Driver) Meet(peer netip.AddrPort) {
	d.mu.Lock()
	d.meet[peer] = true
	d.mu.Unlock()
	d.poke()
}

// Datagrams that begin with liveness.Magic, and news of hosts where nobody
// listens. Whoever takes them too slowly loses some.
func (d *Driver) Datagrams() <-chan liveness.Datagram { return d.heartbeats }

// Poll returns the datagrams that begin with liveness.MagicQuiet and have arrived
// since it was called last. It never blocks. Some may come with Datagrams.
func (d *Driver) Poll() []liveness.Datagram {
	if t := d.transport.Load(); t != nil && t.quiet != nil {
		return t.quiet.poll()
	}
	return nil
}

// Knock makes the kernels here and at a host learn each other's MAC address, which
// they may have lost while they were apart. It does not wait for that, and does
// nothing while there is enough to do.
func (d *Driver) Knock(host netip.Addr) {
	select {
	case d.knocks <- host:
	default:
	}
}

// knock does it. To ask the kernel for its links can take long, when somebody else
// is changing some.
func (d *Driver) knock(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case host := <-d.knocks:
			knock(host)
		}
	}
}

// WriteDatagram sends a datagram from the port of gossip. It must begin with
// liveness.Magic or MagicQuiet. The buffer may be used again afterwards.
func (d *Driver) WriteDatagram(b []byte, to netip.AddrPort) error {
	t := d.transport.Load()
	if t == nil {
		return errors.New("gossip does not run")
	}
	write := t.write
	if t.quiet != nil {
		write = t.quiet.write
	}
	if err := write(b, to); err != nil {
		return fmt.Errorf("send a datagram to %s: %w", to, err)
	}
	return nil
}

func (d *Driver) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Events is where news arrive. It is closed when Run returns.
func (d *Driver) Events() <-chan Event { return d.events }

// State returns what the driver sees now.
func (d *Driver) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{Addr: d.addr, Joined: d.joined, Dropped: d.queue.drops() + d.dropped.Load(), Error: d.problem, Members: d.sortedMembers()}
	if d.list != nil {
		s.Health = d.list.GetHealthScore()
	}
	return s
}

// sortedMembers lists the living members, without this one. The caller holds mu.
func (d *Driver) sortedMembers() []Member {
	out := make([]Member, 0, len(d.members))
	for _, name := range slices.SortedFunc(maps.Keys(d.members), cmp.Compare) {
		out = append(out, Member{Node: name, Addr: d.members[name]})
	}
	return out
}

// size counts the members, this one included.
func (d *Driver) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.members) + 1
}

func (d *Driver) nextID() messageID { return messageID{d.origin, d.number.Add(1)} }

// deliver sends a message directly to one member, or to all if they are not too
// many.
func (d *Driver) deliver(p parcel) {
	d.mu.Lock()
	list, members := d.list, d.sortedMembers()
	d.mu.Unlock()
	sealed := p.content
	long := len(sealed) > packetLimit
	if p.to == "" && len(members) > directLimit && !long {
		return
	}
	for _, m := range members {
		if p.to != "" && p.to != m.Node {
			continue
		}
		var err error
		if long {
			err = list.SendReliable(nodeOf(m), sealed)
		} else {
			err = list.SendToAddress(memberlist.Address{Addr: m.Addr.String(), Name: string(m.Node)}, sealed)
		}
		if err != nil {
			d.cfg.Logger.Debug("send to a member", "node", m.Node, "error", err)
		}
	}
}

func nodeOf(m Member) *memberlist.Node {
	return &memberlist.Node{Name: string(m.Node), Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
}

func addrPort(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// broadcast is a message that gossip repeats. Each is news of its own.
type broadcast []byte

// Invalidates implements memberlist.Broadcast.
func (broadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message implements memberlist.Broadcast.
func (b broadcast) Message() []byte { return b }

// Finished implements memberlist.Broadcast.
func (broadcast) Finished() {}

// UniqueBroadcast implements memberlist.UniqueBroadcast: no need to compare it
// with the others in the queue.
func (broadcast) UniqueBroadcast() {}
