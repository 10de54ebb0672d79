// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

const (
	defaultJoinTimeout  = 3 * time.Second
	defaultClaimTimeout = 2 * time.Second

	// resyncTimeout is how long a node that was frozen waits for somebody's
	// state before it believes that it is cut off from all.
	resyncTimeout = 500 * time.Millisecond
	// reclaimInterval bounds how often a node takes the same group from a
	// living node that it believes not to be eligible. If the two disagree
	// about that, the address must not fly to and fro.
	reclaimInterval = time.Second
	// claimGrace is how long a claim that was just learned stands although this
	// node knows of no reason why its node should be alive and a candidate. It
	// doubles, from the third time to maxFights, whenever such a node takes the
	// address from this one again: then somebody's view is wrong for long, and
	// the address must not fly to and fro.
	claimGrace = 500 * time.Millisecond
	maxFights  = 6
	// strayLimit is how long a claim on an address is kept that is in no group.
	// Other nodes may learn of a Service earlier, and a Service that is made
	// anew should find its owner.
	strayLimit = time.Minute
)

// Machine decides what this node answers for. See the package comment.
//
// Inputs may be given in any order and as often as wanted; after one or more
// of them, Ready returns what is to be done.
type Machine struct {
	cfg     Config
	now     time.Time
	nodes   map[lb.NodeName]*node
	peers   []lb.NodeName // sorted; nil: not told yet
	self    *node
	leaving bool // see Leave
	left    bool // nothing is left to give away

	// A settled node knows what the others know, so it may claim and answer.
	settled  bool
	waking   bool                 // not settled any more; see unsettle
	unsure   bool                 // settled by itself; see askIfUnsure
	deadline time.Time            // settled at the latest; zero: no limit yet
	informed bool                 // by the full state of a settled node
	asked    time.Time            // for full states, last
	heard    map[lb.NodeName]bool // from whom; see hear

	groups    map[netip.Addr]*group // by key; nil: not told yet
	sorted    []*group              // the same, by key
	byAddress map[netip.Addr]*group // by address, and by key
	pass      uint64                // counts SetGroups
	claims    map[netip.Addr]claim
	strays    map[netip.Addr]time.Time // claimed addresses in no group, since when
	answering map[netip.Addr][]string
	// starting: addresses of answering of which it is not known yet that they
	// are answered for, until then at the latest.
	starting map[netip.Addr]time.Time
	lent     map[netip.Addr]loan

	dirty    map[netip.Addr]bool // keys of groups to decide on
	allDirty bool
	waiting  map[netip.Addr]time.Time  // keys of groups to decide on again, and when
	ready    Ready                     // work gathered for the next Ready
	news     map[netip.Addr]bool       // addresses whose claims are to be sent
	disputed map[netip.Addr]bool       // addresses to announce again
	hushed   map[netip.Addr]bool       // of answering; see Answer
	conceded map[netip.Addr]claim      // own claims that lost, to be sent once more
	giving   map[netip.Addr]*group     // being handed over, by key
	offers   []*group                  // of giving, to be sent
	urges    []letterOn                // to be sent
	acks     map[letterOn]bool         // to be sent
	insists  map[letterOn]insisting    // claims to be repeated
	greeted  map[lb.NodeName]time.Time // nodes that came; when to greet them once more
	greet    []lb.NodeName             // to be greeted now
	remind   []lb.NodeName             // to be told what they hold
	newSelf  bool                      // the own record is to be sent

	balanceAt time.Time // when to look for balance next
}

// node is what is known of a node: gossip says whether it is alive, the rest
// is its own record.
type node struct {
	name    lb.NodeName
	alive   bool
	died    time.Time // when gossip lost it last
	came    time.Time // when it came back, or first
	silent  bool      // nothing has come from it since
	version uint64
	// published is the version that its heartbeats name; stale is since when it
	// is newer than that of the record here, zero if it is not; outdated: for too
	// long.
	published uint64
	stale     time.Time
	outdated  bool
	// ready: it has made a plan and knows its interfaces, so it can own.
	ready      bool
	interfaces []string // sorted
	hardware   []MAC    // sorted; nil: not known
}

type claim struct {
	epoch   uint64
	node    lb.NodeName
	learned time.Time // from another node; zero: made here
	// former is whose claim this one replaced when it was learned; empty: not known.
	former lb.NodeName
	// unproven: nobody is known to have announced the address yet.
	unproven bool
	// fights counts how often in a row the address was taken from this node by
	// one that it believed dead.
	fights uint8
}

type group struct {
	announce.Group
	pass  uint64 // of the last SetGroups that had it
	owner lb.NodeName
	// unclaimed is since when the group waits for its elected node to claim;
	// zero while it is claimed.
	unclaimed time.Time
	// seized is when this node last took the group from a living node.
	seized time.Time
	urged  uint8   // how often its elected node was asked, see urge
	giving *giving // while this node hands the group over
	// wish is where this node was asked to move the group.
	wish      lb.NodeName
	yields    int // see Yield
	heardWish lb.Move
}

// New makes a machine that knows nothing yet and answers for nothing.
func New(cfg Config) *Machine {
	if cfg.Self == "" {
		panic("ownership: Config.Self is empty")
	}
	cfg.JoinTimeout = cmp.Or(cfg.JoinTimeout, defaultJoinTimeout)
	cfg.ClaimTimeout = cmp.Or(cfg.ClaimTimeout, defaultClaimTimeout)
	cfg.FreezeLimit = cmp.Or(cfg.FreezeLimit, DefaultFreezeLimit)
	self := &node{name: cfg.Self, alive: true}
	return &Machine{
		cfg:       cfg,
		self:      self,
		nodes:     map[lb.NodeName]*node{cfg.Self: self},
		heard:     map[lb.NodeName]bool{},
		byAddress: map[netip.Addr]*group{},
		claims:    map[netip.Addr]claim{},
		strays:    map[netip.Addr]time.Time{},
		answering: map[netip.Addr][]string{},
		starting:  map[netip.Addr]time.Time{},
		lent:      map[netip.Addr]loan{},
		dirty:     map[netip.Addr]bool{},
		waiting:   map[netip.Addr]time.Time{},
		news:      map[netip.Addr]bool{},
		disputed:  map[netip.Addr]bool{},
		hushed:    map[netip.Addr]bool{},
		conceded:  map[netip.Addr]claim{},
		giving:    map[netip.Addr]*group{},
		acks:      map[letterOn]bool{},
		insists:   map[letterOn]insisting{},
		greeted:   map[lb.NodeName]time.Time{},
	}
}

// Tick tells the time. It is the first input of all, and then due at least
// every TickInterval; call it before other inputs too if time may have passed.
func (m *Machine) Tick(now time.Time) {
	last := m.now
	m.now = now
	if last.IsZero() {
		// A version that is higher than those of this node's former lives, if
		// the clock is right. If it is not, the others will say so.
		m.self.version = max(m.self.version, uint64(max(0, now.UnixMilli())))
		m.changeSelf()
		return
	}
	if m.settled && elapsed(last, now) >= m.cfg.FreezeLimit && m.othersAlive() {
		m.unsettle()
	}
	m.trySettle()
	if m.waking && m.othersAlive() {
		m.ask() // who was asked before may not have heard it
	}
	for key, due := range m.waiting {
		if !now.Before(due) {
			m.dirty[key] = true
		}
	}
	m.askIfUnsure()
	m.lookAtStale()
	m.startsLate()
	m.greetDue()
	m.forgetStrays()
	m.balance()
}

// Ticked is the time of the last Tick.
func (m *Machine) Ticked() time.Time { return m.now }

// Next is when Tick is wanted before the TickInterval is over; the zero time
// means that it is not. Ask after Ready.
func (m *Machine) Next() time.Time {
	var next time.Time
	for _, dues := range []map[netip.Addr]time.Time{m.waiting, m.starting} {
		for _, due := range dues { // the least of all, whatever the order
			if next.IsZero() || due.Before(next) {
				next = due
			}
		}
	}
	for _, i := range m.insists {
		if next.IsZero() || i.due.Before(next) {
			next = i.due
		}
	}
	return next
}

// elapsed measures by the clock on the wall too: the monotonic clock stands
// still while a virtual machine is suspended.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// node finds or makes the entry of a node.
func (m *Machine) node(name lb.NodeName) *node {
	n, ok := m.nodes[name]
	if !ok {
		n = &node{name: name}
		m.nodes[name] = n
	}
	return n
}

func (m *Machine) othersAlive() bool {
	for _, n := range m.nodes {
		if n != m.self && n.alive {
			return true
		}
	}
	return false
}

// Leave gives everything away and claims nothing any more. Go on as before
// until Left.
func (m *Machine) Leave() {
	m.leaving = true
	m.allDirty = true
}

// Left reports whether nothing is left to give away after Leave: everything has
// another owner, or the time for it is over. Ask after Ready.
func (m *Machine) Left() bool { return m.left }

// updateSelf publishes whether this node can own. A node that leaves says so
// last: until then its successors are those it names, in its order.
func (m *Machine) updateSelf() {
	ready := m.groups != nil && m.self.interfaces != nil && !m.left
	if ready != m.self.ready {
		m.self.ready = ready
		m.changeSelf()
	}
}

// changeSelf makes a new version of the own record.
func (m *Machine) changeSelf() {
	m.self.version++
	m.newSelf = true
	m.allDirty = true
	m.ready.StateChanged = true
}
