// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/driver/bfdnet"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// bfdSessions holds BFD sessions (internal/driver/bfdnet).
type bfdSessions interface {
	// Set gives the whole wanted state; it is idempotent and returns at once.
	Set([]bfd.Session)
	// State returns what became of it.
	State() bfdnet.State
	// Events says which sessions came up and went down; it must be read.
	Events() <-chan bfd.Event
}

// bfdSide joins BFD with BGP: a session per router whose peer asks for it, and
// the end of the BGP session when it fails (RFC 5882, section 10.2).
type bfdSide struct {
	detector bfdSessions
	links    linkSource
	lost     func(peer string)
	changed  func()
	log      *slog.Logger

	mu    sync.Mutex // guards peers
	peers map[bfd.Key][]string

	// opens is how many OPENs had been sent when the BGP session was last up, by
	// peer. It belongs to the caller of set.
	opens map[string]uint64
	// down is since when it has not been up.
	down map[string]time.Time
}

// BFD is tried without BGP with a router that closes strictAfter connections in
// a row, or lets none in for strictPatience.
const (
	strictAfter    = 3
	strictPatience = 30 * time.Second
)

func newBFDSide(d bfdSessions, links linkSource, lost func(peer string), changed func(), log *slog.Logger) *bfdSide {
	return &bfdSide{detector: d, links: links, lost: lost, changed: changed, log: log, peers: map[bfd.Key][]string{}, opens: map[string]uint64{}}
}

// due returns the peers with which it is time for BFD: those whose BGP session
// is up. FRR makes its BFD session anew when BGP comes up, because it knows its
// own address only then: if the first one is up by then, it goes down, and
// takes BGP along. But some routers can be told to let nobody in without BFD.
// One that goes on closing or refusing connections may be one of these.
func (b *bfdSide) due(states []bgp.SessionState, now time.Time) map[string]bool {
	out := make(map[string]bool, len(states))
	opens := make(map[string]uint64, len(states))
	down := make(map[string]time.Time, len(states))
	for i := range states {
		s := &states[i]
		// A session that was made anew counts from 0.
		opens[s.Peer] = min(b.opens[s.Peer], s.Counters.OpensSent)
		if s.State == bgp.Established {
			opens[s.Peer] = s.Counters.OpensSent
			out[s.Peer] = true
			continue
		}
		down[s.Peer] = now
		if since, known := b.down[s.Peer]; known {
			down[s.Peer] = since
		}
		out[s.Peer] = s.Counters.OpensSent >= opens[s.Peer]+strictAfter || now.Sub(down[s.Peer]) >= strictPatience
	}
	b.opens, b.down = opens, down
	return out
}

// set says which sessions are wanted. Those that are not due are held down,
// which routers are told. The addresses of routers that are found behind an
// interface come from the states.
func (b *bfdSide) set(w bgp.Wanted, states []bgp.SessionState) {
	due := b.due(states, time.Now())
	found := make(map[string]netip.Addr, len(states))
	for i := range states {
		found[states[i].Peer] = states[i].Address
	}
	peers := map[bfd.Key][]string{}
	var wanted []bfd.Session
	for i := range w.Sessions {
		s := &w.Sessions[i]
		if s.BFD == nil || s.Problem != "" {
			continue
		}
		address := s.Key.Address
		if !address.IsValid() {
			address = found[s.Peer]
		}
		if !address.IsValid() {
			continue // not found yet
		}
		key := bfd.Key{Peer: address, Source: s.Key.Source, Device: s.Key.Device, Multihop: b.multihop(s, address)}.Normal()
		at := slices.IndexFunc(wanted, func(o bfd.Session) bool { return o.Key == key })
		if at < 0 {
			at = len(wanted)
			wanted = append(wanted, bfd.Session{Key: key, Settings: bfd.SettingsOf(s.BFD)})
			wanted[at].AdminDown = true
		}
		wanted[at].AdminDown = wanted[at].AdminDown && !due[s.Peer]
		peers[key] = append(peers[key], s.Peer)
	}
	b.mu.Lock()
	b.peers = peers
	b.mu.Unlock()
	b.detector.Set(wanted)
}

// multihop says which kind of BFD the router will speak, as routers decide it:
// several hops if configured so, or within one AS if it is not on a network of
// this node.
func (b *bfdSide) multihop(s *bgp.Session, address netip.Addr) bool {
	if s.MultiHop {
		return true
	}
	if s.Key.PeerAS != s.Key.LocalAS && s.Key.Dynamic != "internal" || address.IsLinkLocalUnicast() {
		return false
	}
	for _, l := range b.links.Snapshot() {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Masked().Contains(address.WithZone("")) }) {
			return false
		}
	}
	return true
}

// problemsEvery is how often it is looked whether something keeps BFD from
// coming up; no event tells of that.
const problemsEvery = 5 * time.Second

// run acts on what BFD notices until the detector ends.
func (b *bfdSide) run(ctx context.Context) error {
	ticker := time.NewTicker(problemsEvery)
	defer ticker.Stop()
	said := b.state()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if now := b.state(); !maps.Equal(now, said) {
				said = now
				b.changed()
			}
		case e, ok := <-b.detector.Events():
			if !ok {
				return nil
			}
			b.mu.Lock()
			peers := b.peers[e.Key]
			b.mu.Unlock()
			b.log.Info("BFD session changed", telemetry.KeyAddress, e.Key.Peer, telemetry.KeyPeer, peers, telemetry.KeyReason, e.String())
			if e.Kind == bfd.Failed {
				for _, p := range peers {
					b.lost(p)
				}
			}
			b.changed()
		}
	}
}

// state returns the state of the BFD session of each peer, as BGPSession shows
// it.
func (b *bfdSide) state() map[string]status.BFD {
	out := map[string]status.BFD{}
	b.mu.Lock()
	defer b.mu.Unlock()
	sessions := b.detector.State().Sessions
	for i := range sessions {
		s := &sessions[i]
		one := status.BFD{State: bfdStateOf(s.State)}
		if s.State != bfd.Up {
			one.Problem = cmp.Or(s.Error, s.LastDrop)
		}
		for _, p := range b.peers[s.Key] {
			out[p] = one
		}
	}
	return out
}

func bfdStateOf(s bfd.State) v1alpha1.BFDState {
	switch s {
	case bfd.AdminDown:
		return v1alpha1.BFDAdminDown
	case bfd.Init:
		return v1alpha1.BFDInit
	case bfd.Up:
		return v1alpha1.BFDUp
	default:
		return v1alpha1.BFDDown
	}
}

// statusesOf is what metrics need of the state.
func statusesOf(s bfdnet.State) []bfd.Status {
	out := make([]bfd.Status, len(s.Sessions))
	for i := range s.Sessions {
		out[i] = s.Sessions[i].Status
	}
	return out
}
