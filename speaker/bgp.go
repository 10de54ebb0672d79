// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/bgptransport"
	"github.com/heraldlb/herald/internal/driver/gobgp"
	"github.com/heraldlb/herald/internal/telemetry"
)

// sessions holds BGP sessions (internal/driver/gobgp).
type sessions interface {
	// Set gives the whole wanted state; it is idempotent and returns at once.
	Set(bgp.Wanted)
	// State returns what became of it, by peer.
	State() []bgp.SessionState
	// Lost ends the session with a peer that BFD has lost.
	Lost(peer string)
	// Changed is signalled when the state of a session changed.
	Changed() <-chan struct{}
}

// healthPorts asks kube-proxy which Services it serves (internal/driver/healthport).
type healthPorts interface {
	// Set gives the node's addresses and the ports to ask; it returns at once.
	Set(hosts []netip.Addr, ports []uint16)
	// Health says what the last answer at a port was.
	Health(port uint16) bgp.Health
	// Changed is signalled when an answer is another one.
	Changed() <-chan struct{}
}

// withdrawal is how long routers get to act on withdrawn routes before the
// sessions close.
const withdrawal = 200 * time.Millisecond

// router is the BGP side of the speaker: it turns plans into wanted sessions.
// Like the engine it has a goroutine of its own, so that neither waits for the
// other.
//
//	plan loop --setPlan--> router --Set--> sessions
//	secrets --changed------->|
//	kube-proxy's health ---->|
type router struct {
	self     lb.NodeName
	sessions sessions
	secrets  *secrets
	bfd      *bfdSide
	ports    healthPorts
	settle   bgp.Settle
	drain    time.Duration
	changed  func() // the state of a session, or what is announced, changed; must not block
	log      *slog.Logger

	plans chan routerPlan // capacity 1: the newest replaces an older one

	mu     sync.Mutex // guards the rest
	wanted bgp.Wanted
	held   map[lb.ServiceKey]uint16 // Services that wait for kube-proxy, with their health ports
}

type routerPlan struct {
	snapshot      *lb.Snapshot
	announcements []announce.Announcement
}

func newRouter(self lb.NodeName, d devices, sec *secrets, b *bfdSide, o *Options, changed func(), log *slog.Logger) *router {
	return &router{
		self: self, sessions: d.routers, secrets: sec, bfd: b, ports: d.ports,
		settle: bgp.Settle{Delay: o.BGPAnnounceDelay, Health: d.ports.Health}, drain: o.BGPDrainWait, changed: changed,
		log: log, plans: make(chan routerPlan, 1),
	}
}

// newSessions returns the driver that holds BGP sessions.
func newSessions(log *slog.Logger) *gobgp.Driver {
	transport := bgptransport.New(bgptransport.Config{Logger: log})
	return gobgp.New(gobgp.Config{
		Dial: func(ctx context.Context, e bgp.Endpoint) (gobgp.Conn, error) {
			c, err := transport.Dial(ctx, e)
			if err != nil {
				return nil, err // not a nil *Conn in an interface
			}
			return c, nil
		},
		// A speaker cannot know whether there was one before it; the flag only
		// tells routers not to wait for us.
		Restarting: true,
		Logger:     log,
	})
}

// setPlan hands over the newest plan. Only the plan loop calls it.
func (r *router) setPlan(p routerPlan) {
	select {
	case <-r.plans:
	default:
	}
	r.plans <- p
}

// state returns what is wanted, and what became of it.
func (r *router) state() (bgp.Wanted, []bgp.SessionState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted, r.sessions.State()
}

// waiting returns the Services whose routes wait for kube-proxy, with their
// health ports. It is not to be changed.
func (r *router) waiting() map[lb.ServiceKey]uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// run works until ctx ends; then it takes leave of the routers.
func (r *router) run(ctx context.Context) error {
	var plan routerPlan
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if plan.snapshot != nil {
				r.leave(plan)
			}
			return nil
		case plan = <-r.plans:
			r.secrets.want(secretsOf(plan.snapshot))
		case <-r.secrets.changed:
		case <-r.ports.Changed():
		case <-timer.C:
		case <-r.sessions.Changed():
			r.bfd.set(r.state())
			r.changed()
			continue
		}
		if plan.snapshot == nil {
			continue
		}
		due, again := r.settle.Step(plan.announcements, time.Now())
		r.ports.Set(r.hosts(plan.snapshot), r.settle.Ports())
		r.apply(bgp.Plan(plan.snapshot, r.self, due, bgp.Inputs{Secret: r.secrets.get}))
		if again == 0 {
			again = time.Hour
		}
		timer.Reset(again)
	}
}

// hosts are the addresses at which kube-proxy of this node may listen.
func (r *router) hosts(s *lb.Snapshot) []netip.Addr {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Name == r.self {
			return append(slices.Clone(n.Addresses), loopback)
		}
	}
	return []netip.Addr{loopback}
}

func (r *router) apply(w bgp.Wanted) {
	r.mu.Lock()
	r.wanted, r.held = w, r.settle.Held()
	r.mu.Unlock()
	r.sessions.Set(w)
	r.bfd.set(w, r.sessions.State())
	r.changed()
}

// leave ends announcing so that no connection fails: routers are asked to
// prefer other nodes (RFC 8326) and get time to do so, then the routes are
// withdrawn, then the sessions close. Routers that keep the routes while the
// speaker restarts (RFC 4724) notice nothing of it.
func (r *router) leave(plan routerPlan) {
	due, _ := r.settle.Step(plan.announcements, time.Now())
	draining := bgp.Plan(plan.snapshot, r.self, due, bgp.Inputs{Secret: r.secrets.get, Draining: true})
	stay := bgp.Plan(plan.snapshot, r.self, due, bgp.Inputs{Secret: r.secrets.get})
	leaving := false
	for i := range draining.Sessions {
		s := &draining.Sessions[i]
		if s.Key.GracefulRestart {
			s.Routes = stay.Sessions[i].Routes
			continue
		}
		leaving = leaving || len(s.Routes) > 0 && r.isUp(s.Peer)
	}
	if !leaving {
		return
	}
	r.log.Info("asking routers to prefer other nodes", telemetry.KeyDuration, r.drain)
	r.sessions.Set(draining)
	time.Sleep(r.drain)
	for i := range draining.Sessions {
		if s := &draining.Sessions[i]; !s.Key.GracefulRestart {
			s.Routes = nil
		}
	}
	r.sessions.Set(draining)
	time.Sleep(withdrawal)
}

func (r *router) isUp(peer string) bool {
	for _, s := range r.sessions.State() {
		if s.Peer == peer {
			return s.State == bgp.Established
		}
	}
	return false
}

// viewBGP is what /debug/plan shows of BGP.
func (s *speaker) viewBGP() any {
	wanted, states := s.router.state()
	return map[string]any{"wanted": wanted, "sessions": states}
}
