// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/linger"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/links"
	"github.com/heraldlb/herald/internal/telemetry"
)

// engine is the fail-over path: gossip -> ownership -> responder, in memory.
// It owns the ownership machine, and is the only goroutine that touches it.
// The API server takes no part: the plan loop only tells which addresses exist
// and which nodes may own them.
//
//	plan loop --setPlan-->  +--------+ --Set--------> responder
//	gossip ----Events---->  | engine | --Set, Send--> messenger
//	links -----Changed--->  |        | --changed----> report loop
//	responder --Started-->  +--------+
//
// The old owner of an address stops when it hears the new one's claim. So the
// machine keeps the claim back until the responder says that it has Started.
type engine struct {
	machine   *ownership.Machine
	responder responder
	messenger messenger
	links     linkSource
	excluded  exclusions
	changed   func() // owners or members changed; must not block
	// beat is when the process wakes up anyway, or did last; nil: not known.
	beat func() time.Time
	log  *slog.Logger

	plans   chan plannedGroups // capacity 1: the newest plan replaces an older one
	queries chan func()
	ended   chan struct{} // closed when run returns

	// The rest belongs to the goroutine of run.
	peers     []netip.AddrPort
	groups    []announce.Group // of the newest plan
	linger    linger.Machine
	lingers   time.Time // when it wants to look at groups again; zero: not before the next plan
	answering map[netip.Addr]ownership.Answer
	rounds    map[netip.Addr]uint64 // which announcement to make, if not the first
	round     uint64
	settled   bool      // of the machine, when it was last asked
	contact   contact   // with the other speakers
	unproven  int       // of answering
	looked    time.Time // for proof, last
	wanted    l2.Wanted
	// dead are the nodes that went without goodbye and are not back. Their
	// Pods, and so their reports, stay for minutes; a survivor cleans up.
	dead map[lb.NodeName]bool
	// cleaning are those of dead that this speaker has begun to clean up after.
	cleaning map[lb.NodeName]bool
}

// plannedGroups is what the plan loop hands over.
type plannedGroups struct {
	groups []announce.Group
	peers  peers
}

// peers are the other speakers, from their Pods.
type peers struct {
	nodes     []lb.NodeName    // that should have a speaker
	addresses []netip.AddrPort // where those that have an address gossip
}

func newEngine(cfg ownership.Config, r responder, m messenger, ls linkSource, ex exclusions, changed func(), log *slog.Logger) *engine {
	cfg.StartLimit = ownership.StartLimit
	return &engine{
		machine:   ownership.New(cfg),
		responder: r,
		messenger: m,
		links:     ls,
		excluded:  ex,
		changed:   changed,
		log:       log,
		plans:     make(chan plannedGroups, 1),
		queries:   make(chan func()),
		ended:     make(chan struct{}),
		answering: map[netip.Addr]ownership.Answer{},
		rounds:    map[netip.Addr]uint64{},
		dead:      map[lb.NodeName]bool{},
		cleaning:  map[lb.NodeName]bool{},
	}
}

// setPlan hands over the newest plan. Only the plan loop calls it.
func (e *engine) setPlan(p plannedGroups) {
	select {
	case <-e.plans: // an older one that nobody took
	default:
	}
	e.plans <- p
}

// query runs fn in the engine's goroutine and waits for it. It reports false
// if the engine has ended.
func (e *engine) query(fn func(*ownership.Machine)) bool {
	done := make(chan struct{})
	select {
	case e.queries <- func() { fn(e.machine); close(done) }:
		<-done
		return true
	case <-e.ended:
		return false
	}
}

// run works until ctx ends; then it goes on until it has given everything away,
// which the machine gives a limit to.
func (e *engine) run(ctx context.Context) error {
	defer close(e.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.machine.Tick(time.Now())
	e.readLinks()
	events, done := e.messenger.Events(), ctx.Done()
	for !e.machine.Left() {
		select {
		case <-done:
			done = nil
			e.log.Info("handing over", "addresses", len(e.answering))
			e.machine.Tick(time.Now())
			e.machine.Leave()
		case p := <-e.plans:
			e.machine.Tick(time.Now())
			e.takePlan(p)
		case ev, ok := <-events:
			if !ok {
				events = nil // the messenger ended; ctx is about to
				continue
			}
			e.machine.Tick(time.Now())
			e.takeEvent(ev)
			e.drain(events)
		case <-e.links.Changed():
			e.machine.Tick(time.Now())
			e.readLinks()
		case ips := <-e.responder.Started():
			e.machine.Tick(time.Now())
			e.machine.Started(ips...)
		case now := <-timer.C:
			e.machine.Tick(now)
			e.lookForProof(now)
		case fn := <-e.queries:
			fn()
			continue
		}
		e.giveGroups(time.Now(), false)
		e.apply()
		if e.contact.next(e.machine) {
			e.changed()
		}
		// From the last Tick on: since then the process may have stood still, and the machine does not know.
		e.responder.Lease(e.machine.Ticked().Add(ownership.DefaultFreezeLimit))
		timer.Reset(e.pause())
	}
	clear(e.answering) // nobody was there to take these
	e.answer(nil, nil)
	return nil
}

// pause is the time until the machine wants to be told the time.
func (e *engine) pause() time.Duration {
	pause := ownership.TickInterval
	if e.beat != nil {
		pause = untilBeat(time.Until(e.beat()))
	}
	for _, next := range []time.Time{e.machine.Next(), e.lingers} {
		if !next.IsZero() {
			pause = min(max(0, time.Until(next)), pause)
		}
	}
	return pause
}

// untilBeat is the time until the process wakes up anyway, if that is soon
// enough for the machine: then one wake-up does for both.
func untilBeat(beat time.Duration) time.Duration {
	if beat <= 0 {
		beat += ownership.TickInterval // it is doing its work just now
	}
	if beat <= 0 || beat > ownership.TickInterval {
		return ownership.TickInterval
	}
	return beat
}

// drain takes the events that are already there, so that a node that died
// with a thousand addresses is one batch of work.
func (e *engine) drain(events <-chan gossip.Event) {
	for range 1000 {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			e.takeEvent(ev)
		default:
			return
		}
	}
}

func (e *engine) takePlan(p plannedGroups) {
	e.groups = p.groups
	e.giveGroups(time.Now(), true)
	e.machine.SetPeers(p.peers.nodes)
	if !slices.Equal(e.peers, p.peers.addresses) {
		e.peers = p.peers.addresses
		e.messenger.Set(gossip.Wanted{Peers: e.peers, State: e.machine.State(), Record: e.machine.Record()})
	}
}

// giveGroups tells the machine who may own what: after a new plan, and when
// time makes a difference.
func (e *engine) giveGroups(now time.Time, fresh bool) {
	if !fresh && (e.lingers.IsZero() || now.Before(e.lingers)) {
		return
	}
	groups, next := e.linger.Apply(now, e.groups)
	e.lingers = next
	e.machine.SetGroups(groups)
}

func (e *engine) takeEvent(ev gossip.Event) {
	switch ev.Kind {
	case gossip.MemberUp:
		e.log.Info("speaker joined", telemetry.KeyNode, ev.Node, telemetry.KeyAddress, ev.Addr)
		e.machine.Up(ev.Node)
		delete(e.dead, ev.Node)
		delete(e.cleaning, ev.Node)
		e.changed()
	case gossip.MemberDown:
		e.log.Info("speaker gone", telemetry.KeyNode, ev.Node, "saidGoodbye", ev.Left)
		e.machine.Down(ev.Node)
		e.dead[ev.Node] = !ev.Left
		e.changed()
	case gossip.MemberRecord:
		e.machine.Published(ev.Node, ev.Version)
	case gossip.Message, gossip.FullState:
		if err := e.machine.Receive(ev.Data); err != nil {
			e.log.Warn("message from another speaker not understood; is it of another version?", telemetry.KeyError, err)
		}
	}
}

// readLinks tells the machine which interfaces may answer, and the responder
// what all links look like now.
func (e *engine) readLinks() {
	all := e.links.Snapshot()
	up := make([]string, 0, len(all))
	macs := make([]ownership.MAC, 0, len(all))
	e.wanted.Links = make([]l2.Link, 0, len(all))
	for _, l := range all {
		e.wanted.Links = append(e.wanted.Links, l2.Link{Name: l.Name, Index: l.Index, MAC: l.MAC, Up: l.Up})
		if e.usable(l) { // others neither answer nor ask, so nobody meets their MAC addresses
			up = append(up, l.Name)
			macs = append(macs, l.MAC)
		}
	}
	e.machine.SetHardware(macs)
	e.machine.SetInterfaces(up)
	e.responder.Set(e.wanted)
}

// usable reports whether an interface can answer at all: it is up, speaks
// Ethernet, has an address of its own, and is not excluded. A bare bridge port
// or bond slave has no address; its master answers.
func (e *engine) usable(l links.Link) bool {
	return l.Up && l.MAC.IsUnicast() && len(l.Addrs) > 0 && !e.excluded.match(l.Name)
}

// apply does the work that became due, in the order that Ready documents.
func (e *engine) apply() {
	r := e.machine.Ready()
	if r.Empty() {
		return
	}
	if len(r.Stop) > 0 {
		e.answer(r.Stop, nil)
	}
	if len(r.Start) > 0 {
		e.answer(nil, r.Start)
	}
	if len(r.Announce) > 0 {
		e.announceAgain(r.Announce)
	}
	for _, l := range r.Send {
		if l.To == "" {
			e.messenger.Send(l.Data)
		} else {
			e.messenger.SendTo(l.To, l.Data)
		}
	}
	if r.StateChanged {
		e.tellPeers()
		e.messenger.Set(gossip.Wanted{Peers: e.peers, State: e.machine.State(), Record: e.machine.Record()})
	}
	if was := e.settled; was != e.machine.Settled() {
		e.settled = !was
		if was {
			e.log.Warn("this speaker stood still or was cut off; it answers for nothing until the others have told their state")
		}
	}
	if r.Resync {
		e.messenger.Resync()
	}
	for _, c := range r.Owners {
		e.log.Info("owner changed", telemetry.KeyAddress, c.Key, "from", c.Previous, "to", c.Owner)
	}
	if len(r.Owners)+len(r.Start)+len(r.Stop) > 0 {
		e.changed()
	}
}

// answer changes what this node answers for and tells the responder.
func (e *engine) answer(stop []netip.Addr, start []ownership.Answer) {
	for _, a := range stop {
		delete(e.answering, a)
		delete(e.rounds, a)
	}
	for _, a := range start {
		e.answering[a.IP] = a
	}
	e.unproven = 0
	e.wanted.Addresses = make([]l2.Address, 0, len(e.answering))
	for _, ip := range slices.SortedFunc(maps.Keys(e.answering), netip.Addr.Compare) {
		a := e.answering[ip]
		e.wanted.Addresses = append(e.wanted.Addresses, l2.Address{IP: ip, Interfaces: a.Interfaces, Probe: a.Probe, Hushed: a.Hushed, Round: e.rounds[ip]})
		if a.Probe {
			e.unproven++
		}
	}
	e.responder.Set(e.wanted)
}

// proofInterval is how often the responder is asked whether addresses that it
// was to probe are announced by now.
const proofInterval = 500 * time.Millisecond

// lookForProof tells the machine which probed addresses are announced: nobody
// need probe them again. An address that somebody else has on one of several
// links is announced on the others, but that proves nothing about this one.
func (e *engine) lookForProof(now time.Time) {
	if e.unproven == 0 || now.Sub(e.looked) < proofInterval {
		return
	}
	e.looked = now
	var proven []netip.Addr
	for _, s := range e.responder.State().Addresses {
		if a, ok := e.answering[s.IP]; ok && a.Probe && s.Phase == l2.PhaseAnnouncing && !s.Contested {
			proven = append(proven, s.IP)
			a.Probe = false
			e.answering[s.IP] = a
		}
	}
	if len(proven) > 0 {
		e.machine.Proven(proven...)
		e.answer(nil, nil)
	}
}

// tellPeers tells the responder whose MAC addresses are no strangers.
func (e *engine) tellPeers() {
	macs := e.machine.PeerHardware()
	if slices.EqualFunc(macs, e.wanted.Peers, func(a ownership.MAC, b l2.MAC) bool { return a == b }) {
		return
	}
	e.wanted.Peers = make([]l2.MAC, len(macs))
	for i, mac := range macs {
		e.wanted.Peers[i] = mac
	}
	e.responder.Set(e.wanted)
}

// announceAgain makes the responder announce addresses that it answers for
// already.
func (e *engine) announceAgain(addresses []netip.Addr) {
	e.round++
	for _, ip := range addresses {
		if _, ok := e.answering[ip]; ok {
			e.rounds[ip] = e.round
		}
	}
	e.answer(nil, nil)
}
