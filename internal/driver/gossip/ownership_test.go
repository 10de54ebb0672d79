// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/driver/gossip"
)

// speaker is the fail-over path without the wire: a real gossip driver and an
// ownership machine, joined as the node program joins them.
type speaker struct {
	name   lb.NodeName
	driver *gossip.Driver
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards answers
	answers []netip.Addr
}

func runSpeaker(t *testing.T, name lb.NodeName, peers []lb.NodeName, groups []announce.Group) *speaker {
	t.Helper()
	d, err := gossip.New(gossip.Config{
		NodeName: name, BindAddr: netip.MustParseAddr("127.0.0.1"), Label: t.Name(),
		Secrets: [][]byte{[]byte("secret of the group")}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &speaker{name: name, driver: d, cancel: cancel, done: make(chan struct{})}
	m := ownership.New(ownership.Config{Self: name})
	m.Tick(time.Now())
	m.SetInterfaces([]string{"eth0"})
	m.SetGroups(groups)
	m.SetPeers(peers)
	var g sync.WaitGroup
	g.Go(func() { _ = d.Run(ctx) })
	g.Go(func() { s.loop(t, m) })
	go func() { g.Wait(); close(s.done) }()
	t.Cleanup(s.stop)
	for d.State().Addr.Port() == 0 {
		time.Sleep(time.Millisecond)
	}
	return s
}

func (s *speaker) stop() { s.cancel(); <-s.done }

// meet makes the others known, once their ports are.
func (s *speaker) meet(state []byte, others []*speaker) {
	w := gossip.Wanted{State: state}
	for _, o := range others {
		if o != s {
			w.Peers = append(w.Peers, o.driver.State().Addr)
		}
	}
	s.driver.Set(w)
}

func (s *speaker) loop(t *testing.T, m *ownership.Machine) {
	t.Helper()
	tick := time.NewTicker(ownership.TickInterval)
	defer tick.Stop()
	for {
		s.apply(m)
		select {
		case e, ok := <-s.driver.Events():
			if !ok {
				return
			}
			m.Tick(time.Now())
			switch e.Kind {
			case gossip.MemberUp:
				m.Up(e.Node)
			case gossip.MemberDown:
				m.Down(e.Node)
			case gossip.Message, gossip.FullState:
				if err := m.Receive(e.Data); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
			}
		case <-tick.C:
			m.Tick(time.Now())
		}
	}
}

func (s *speaker) apply(m *ownership.Machine) {
	r := m.Ready()
	if r.StateChanged {
		w := gossip.Wanted{State: m.State()}
		for _, p := range s.driver.State().Members { // keep whom it has
			w.Peers = append(w.Peers, p.Addr)
		}
		s.driver.Set(w)
	}
	for _, msg := range r.Send {
		if msg.To == "" {
			s.driver.Send(msg.Data)
		} else {
			s.driver.SendTo(msg.To, msg.Data)
		}
	}
	if r.Resync {
		s.driver.Resync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = nil
	for _, a := range m.Answers() {
		s.answers = append(s.answers, a.IP)
	}
}

func (s *speaker) answersFor(ip netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.answers, ip)
}

// answered waits until exactly one of the speakers answers for each address.
func answered(t *testing.T, groups []announce.Group, speakers []*speaker) map[netip.Addr]*speaker {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		owners := map[netip.Addr]*speaker{}
		count := 0
		for _, g := range groups {
			for _, s := range speakers {
				if s.answersFor(g.Key) {
					owners[g.Key] = s
					count++
				}
			}
		}
		if len(owners) == len(groups) && count == len(groups) {
			return owners
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d addresses are answered, by %d", len(owners), len(groups), count)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestOwnership deals addresses out among three speakers and takes over from
// one that is cut off.
func TestOwnership(t *testing.T) {
	t.Parallel()
	names := []lb.NodeName{"n1", "n2", "n3"}
	var candidates []announce.Candidate
	for _, n := range names {
		candidates = append(candidates, announce.Candidate{Node: n})
	}
	var groups []announce.Group
	for i := range 500 {
		ip := netip.MustParseAddr(fmt.Sprintf("192.0.%d.%d", 2+i/250, 1+i%250))
		groups = append(groups, announce.Group{Key: ip, Addresses: []netip.Addr{ip}, Candidates: candidates})
	}
	var speakers []*speaker
	for _, n := range names {
		speakers = append(speakers, runSpeaker(t, n, names, groups))
	}
	start := time.Now()
	for _, s := range speakers {
		s.meet(nil, speakers)
	}
	owners := answered(t, groups, speakers)
	share := map[lb.NodeName]int{}
	for _, s := range owners {
		share[s.name]++
	}
	t.Logf("dealt out after %v: %v", time.Since(start).Round(time.Millisecond), share)
	if len(share) != 3 {
		t.Errorf("of three speakers only %v own anything", share)
	}

	start = time.Now()
	victim := speakers[1]
	victim.stop()
	rest := []*speaker{speakers[0], speakers[2]}
	after := answered(t, groups, rest)
	t.Logf("taken over after %v", time.Since(start).Round(time.Millisecond))
	for ip, s := range owners {
		if s != victim && after[ip] != s {
			t.Errorf("%v moved from %s to %s, though its owner lives", ip, s.name, after[ip].name)
		}
	}
}
