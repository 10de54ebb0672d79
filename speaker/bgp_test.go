// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/status"
)

// fakeSessions keeps what it was told, and when; all sessions are established.
type fakeSessions struct {
	begun   time.Time
	changed chan struct{}

	mu   sync.Mutex // guards the rest
	sets []string
	last bgp.Wanted
}

func (f *fakeSessions) Set(w bgp.Wanted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = w
	text := time.Since(f.begun).Round(10 * time.Millisecond).String()
	for _, s := range w.Sessions {
		text += " " + s.Peer
		for _, r := range s.Routes {
			text += fmt.Sprintf(" %s%v", r.Prefix, r.Communities)
		}
	}
	f.sets = append(f.sets, text)
}

func (f *fakeSessions) State() []bgp.SessionState {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []bgp.SessionState
	for _, s := range f.last.Sessions {
		out = append(out, bgp.SessionState{Peer: s.Peer, State: bgp.Established})
	}
	return out
}

func (f *fakeSessions) Lost(string)              {}
func (f *fakeSessions) Changed() <-chan struct{} { return f.changed }

// fakePorts are answered by a kube-proxy that a test plays.
type fakePorts struct {
	changed chan struct{}

	mu     sync.Mutex // guards the rest
	asked  map[uint16]bool
	health map[uint16]bgp.Health
}

func newFakePorts() *fakePorts {
	return &fakePorts{changed: make(chan struct{}, 1), asked: map[uint16]bool{}, health: map[uint16]bgp.Health{}}
}

func (f *fakePorts) Set(_ []netip.Addr, ports []uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = map[uint16]bool{}
	for _, p := range ports {
		f.asked[p] = true
	}
}

func (f *fakePorts) Health(port uint16) bgp.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.asked[port] {
		return bgp.HealthUnknown
	}
	return f.health[port]
}

func (f *fakePorts) Changed() <-chan struct{} { return f.changed }

func (f *fakePorts) answer(port uint16, h bgp.Health) {
	f.mu.Lock()
	f.health[port] = h
	f.mu.Unlock()
	f.changed <- struct{}{}
}

func bgpSnapshot() *lb.Snapshot {
	peer := func(name string, restart bool) lb.Peer {
		return lb.Peer{Name: name, MyASN: 64512, PeerASN: 64600, Address: netip.MustParseAddr("192.0.2.254"), Port: 179, GracefulRestart: restart}
	}
	return &lb.Snapshot{
		Nodes:             []lb.Node{{Name: "n1"}, {Name: "n2"}},
		Pools:             []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: netip.MustParseAddr("198.51.100.0"), To: netip.MustParseAddr("198.51.100.255")}}}},
		BGPAdvertisements: []lb.BGPAdvertisement{{Name: "all", Scope: lb.Scope{AllPools: true}, AggregationLength: 32, AggregationLengthV6: 128}},
		Peers:             []lb.Peer{peer("keeps", true), peer("plain", false)},
		Services:          []lb.Service{bgpService("a", "198.51.100.1")},
	}
}

func bgpService(name, address string) lb.Service {
	return lb.Service{
		Key: lb.ServiceKey{Namespace: "d", Name: name}, Assigned: []netip.Addr{netip.MustParseAddr(address)}, AssignedPools: []string{"p"},
		Endpoints: []lb.NodeEndpoints{{Node: "n1", Count: 1}},
	}
}

// TestRouter: the first plan is carried out at once, a new route waits for
// kube-proxy, and the end is announced, except to routers that keep the routes.
func TestRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held, ports := &fakeSessions{begun: time.Now(), changed: make(chan struct{}, 1)}, newFakePorts()
		none := newSecrets(func(context.Context, string) (*corev1.Secret, error) {
			return nil, errors.New("no Secret is read here")
		})
		detector := newBFDSide(&fakeBFD{events: make(chan bfd.Event)}, newFakeLinks(), func(string) {}, func() {}, slog.New(slog.DiscardHandler))
		o := &Options{BGPAnnounceDelay: 50 * time.Millisecond, BGPDrainWait: 2 * time.Second}
		r := newRouter("n1", devices{routers: held, ports: ports}, none, detector, o, func() {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		plan := func(s *lb.Snapshot) {
			p := announce.Plan(s, "n1")
			r.setPlan(routerPlan{snapshot: s, announcements: p.BGP})
		}
		plan(bgpSnapshot())
		time.Sleep(100 * time.Millisecond)
		more := bgpSnapshot()
		more.Services = append(more.Services, bgpService("b", "198.51.100.2"))
		plan(more)
		time.Sleep(400 * time.Millisecond)
		last := bgpSnapshot()
		local := bgpService("c", "198.51.100.3")
		local.Local, local.HealthPort = true, 30000
		last.Services = append(more.Services, local)
		plan(last)
		time.Sleep(100 * time.Millisecond)
		ports.answer(30000, bgp.HealthNotServing)
		time.Sleep(4 * time.Second) // longer than for silence
		if port, ok := r.waiting()[local.Key]; !ok || port != 30000 {
			t.Errorf("c waits for port %d: %v, want for 30000", port, ok)
		}
		ports.answer(30000, bgp.HealthServing)
		time.Sleep(500 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		const (
			two   = " keeps 198.51.100.1/32[] 198.51.100.2/32[] plain 198.51.100.1/32[] 198.51.100.2/32[]"
			three = " keeps 198.51.100.1/32[] 198.51.100.2/32[] 198.51.100.3/32[] plain 198.51.100.1/32[] 198.51.100.2/32[] 198.51.100.3/32[]"
		)
		want := []string{
			"0s keeps 198.51.100.1/32[] plain 198.51.100.1/32[]",
			"100ms keeps 198.51.100.1/32[] plain 198.51.100.1/32[]",
			"150ms" + two,
			"500ms" + two, "600ms" + two, // kube-proxy says no
			"4.6s" + three,
			"5.1s keeps 198.51.100.1/32[] 198.51.100.2/32[] 198.51.100.3/32[] plain 198.51.100.1/32[4294901760] 198.51.100.2/32[4294901760] 198.51.100.3/32[4294901760]",
			"7.1s keeps 198.51.100.1/32[] 198.51.100.2/32[] 198.51.100.3/32[] plain",
		}
		if diff := cmp.Diff(want, held.sets); diff != "" {
			t.Errorf("wanted, over time (-want +got):\n%s", diff)
		}
	})
}

// TestRouterWithoutPeers ends at once.
func TestRouterWithoutPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := &fakeSessions{begun: time.Now(), changed: make(chan struct{}, 1)}
		detector := newBFDSide(&fakeBFD{events: make(chan bfd.Event)}, newFakeLinks(), func(string) {}, func() {}, slog.New(slog.DiscardHandler))
		r := newRouter("n1", devices{routers: held, ports: newFakePorts()}, newSecrets(nil), detector, &Options{BGPDrainWait: 2 * time.Second}, func() {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		s := bgpSnapshot()
		s.Peers = nil
		r.setPlan(routerPlan{snapshot: s})
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || time.Since(held.begun) != 0 {
			t.Errorf("ended after %v, error %v", time.Since(held.begun), err)
		}
	})
}

// TestReportBGP has two nodes report on one Service until none has anything to
// write, from every state of the condition and of the sessions.
func TestReportBGP(t *testing.T) {
	t.Parallel()
	s := bgpSnapshot()
	key := s.Services[0].Key
	names := []lb.NodeName{"n1", "n2"}
	for _, up := range [][]lb.NodeName{nil, {"n1"}, {"n2"}, {"n1", "n2"}} {
		for _, before := range []lb.NodeName{"", "n1", "n2", "dead"} {
			named := before
			good := named != ""
			writes := 0
			for round := 0; round < 10; round++ {
				quiet := true
				for _, self := range names {
					m := ownership.New(ownership.Config{Self: self})
					for _, other := range names {
						m.Up(other)
					}
					p := announce.Plan(s, self)
					w := bgp.Plan(s, self, p.BGP, bgp.Inputs{})
					x := routed{up: map[string]bool{}, byKey: map[lb.ServiceKey]*bgp.ServicePeers{}, conditions: map[lb.ServiceKey]lb.NodeName{}}
					for i := range w.Services {
						x.byKey[w.Services[i].Service] = &w.Services[i]
					}
					x.up["plain"] = slices.Contains(up, self)
					if good {
						x.conditions[key] = named
					}
					r := &reporter{who: status.Speaker{Node: self}}
					out := status.ServiceReport{Key: key}
					r.reportBGP(m, &p, &out, &x)
					same := out.Reason.Good() == good && (!good || named == self) && (good || round > 0)
					if out.Write && !same {
						quiet = false
						writes++
						good, named = out.Reason.Good(), self
					}
				}
				if quiet && round > 0 {
					break
				}
			}
			switch {
			case good != (len(up) > 0):
				t.Errorf("sessions of %v, condition named %q: in the end it is %t", up, before, good)
			case good && !slices.Contains(up, named):
				t.Errorf("sessions of %v, condition named %q: in the end it names %q", up, before, named)
			case writes > 3:
				t.Errorf("sessions of %v, condition named %q: %d writes", up, before, writes)
			}
		}
	}
}

// TestReportBGPReasons is about Services that no node may announce.
func TestReportBGPReasons(t *testing.T) {
	t.Parallel()
	for want, change := range map[reason.Code]func(*lb.Snapshot){
		reason.NoAddress:       func(s *lb.Snapshot) { s.Services[0].Assigned = nil },
		reason.NoAdvertisement: func(s *lb.Snapshot) { s.BGPAdvertisements = nil },
		reason.NoEndpoints:     func(s *lb.Snapshot) { s.Services[0].Endpoints = nil },
		reason.NoCandidate:     func(s *lb.Snapshot) { s.Peers = nil },
	} {
		s := bgpSnapshot()
		change(s)
		m := ownership.New(ownership.Config{Self: "n1"})
		p := announce.Plan(s, "n1")
		out := status.ServiceReport{Key: s.Services[0].Key}
		(&reporter{who: status.Speaker{Node: "n1"}}).reportBGP(m, &p, &out, &routed{})
		if out.Reason.Code != want || !out.Write || out.Reason.Text == "" {
			t.Errorf("report %+v, want %s", out, want)
		}
	}
}

// TestReportBGPHeld: a node that waits for kube-proxy does not blame its sessions.
func TestReportBGPHeld(t *testing.T) {
	t.Parallel()
	s := bgpSnapshot()
	m := ownership.New(ownership.Config{Self: "n1"})
	p := announce.Plan(s, "n1")
	key := s.Services[0].Key
	for port, words := range map[uint16]string{30000: "at port 30000", 0: "--bgp-announce-delay"} {
		x := routed{up: map[string]bool{"plain": true}, held: map[lb.ServiceKey]uint16{key: port}}
		out := status.ServiceReport{Key: key}
		(&reporter{who: status.Speaker{Node: "n1"}}).reportBGP(m, &p, &out, &x)
		if out.Reason.Code != reason.ProxyNotReady || !out.Write || !strings.Contains(out.Reason.Text, words) {
			t.Errorf("report %+v, want %s with %q", out, reason.ProxyNotReady, words)
		}
	}
}

// TestReportBGPUncarried: who announces one address of two says which one is not.
func TestReportBGPUncarried(t *testing.T) {
	t.Parallel()
	s := bgpSnapshot()
	s.Services[0].Assigned = append(s.Services[0].Assigned, netip.MustParseAddr("2001:db8::1"))
	m := ownership.New(ownership.Config{Self: "n1"})
	p := announce.Plan(s, "n1")
	w := bgp.Plan(s, "n1", p.BGP, bgp.Inputs{})
	key := s.Services[0].Key
	x := routed{up: map[string]bool{"plain": true}, byKey: map[lb.ServiceKey]*bgp.ServicePeers{key: &w.Services[0]}, wanted: w}
	r := &reporter{who: status.Speaker{Node: "n1"}}
	out := status.ServiceReport{Key: key}
	r.reportBGP(m, &p, &out, &x)
	want := status.AnnouncingText("n1", status.ProtocolBGP) + "; but not 2001:db8::1: no session with a router carries that family"
	if out.Reason.Text != want {
		t.Errorf("report %q, want %q", out.Reason.Text, want)
	}
	if rows := r.bgpRows(&x); len(rows) != 1 {
		t.Errorf("metric: %v, want one address", rows)
	}
}
