// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/bfdnet"
	"github.com/heraldlb/herald/internal/driver/gobgp"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/netnstest"
	"github.com/heraldlb/herald/internal/routertest"
)

var (
	churn     = flag.Int("churn", 10_000, "random events of TestRoutersChurn")
	churnSeed = flag.Uint64("churn-seed", 0, "seed of TestRoutersChurn; 0: a new one")
)

// churnNode is the node whose speaker TestRoutersChurn runs.
const churnNode = lb.NodeName("n1")

// side is what TestRoutersChurn runs: the BGP side of a speaker, from objects to
// sockets. Only the API server is missing.
type side struct {
	router  *router
	driver  *gobgp.Driver
	objects *objects
}

// runSide runs it until the end of the test.
func runSide(t *testing.T, o *objects) *side {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	s := &side{driver: newSessions(log), objects: o}
	sec := newSecrets(func(_ context.Context, name string) (*corev1.Secret, error) {
		if found := o.secret(name); found != nil {
			return found, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	})
	detector := bfdnet.New(bfdnet.Config{Logger: log})
	joined := newBFDSide(detector, newFakeLinks(), s.driver.Lost, func() {}, log)
	s.router = newRouter(churnNode, devices{routers: s.driver, ports: newFakePorts()}, sec, joined, &Options{BGPAnnounceDelay: 500 * time.Microsecond}, func() {}, log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	tasks := []func(context.Context) error{s.driver.Run, detector.Run, joined.run, sec.run, s.router.run}
	done := make(chan error, len(tasks))
	for _, run := range tasks {
		go func() { done <- run(ctx) }()
	}
	// Rotated Secrets are to be noticed more often than each half minute.
	go func() {
		for ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			poke(sec.wake)
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range tasks {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// plan does what a round of the speaker does, and waits until the router has
// taken it: each event is to count.
func (s *side) plan() {
	snap, _ := snapshot.Build(s.objects.read(), snapshot.Options{Namespace: churnNamespace})
	plan := announce.Plan(&snap, churnNode)
	s.router.setPlan(routerPlan{snapshot: &snap, announcements: plan.BGP})
	for len(s.router.plans) > 0 {
		time.Sleep(20 * time.Microsecond)
	}
}

func (s *side) state(peer string) bgp.SessionState {
	for _, st := range s.driver.State() {
		if st.Peer == peer {
			return st
		}
	}
	return bgp.SessionState{}
}

func (s *side) awaitUp(t *testing.T, peer string) {
	t.Helper()
	routertest.Await(t, "session with "+peer, 20*time.Second, func() bool { return s.state(peer).State == bgp.Established })
}

// churnRouters are FRR and BIRD, each behind a cable of its own, with BFD and a
// password, and a third one that lets anybody in.
func churnRouters(t *testing.T) (f *routertest.FRR, b *routertest.BIRD, other *easyRouter) {
	t.Helper()
	node := netnstest.Host(t)
	var far [2]*netnstest.NS
	for i := range far {
		far[i] = netnstest.New(t)
		nic := fmt.Sprintf("churn%d", i)
		netnstest.Veth(t, node, nic, far[i], "eth0")
		node.AddAddr(t, nic, netip.MustParsePrefix(fmt.Sprintf("10.0.%d.1/24", 90+i)))
		far[i].AddAddr(t, "eth0", netip.MustParsePrefix(fmt.Sprintf("10.0.%d.254/24", 90+i)))
	}
	f = routertest.StartFRR(t, far[0], `router bgp 64600
 bgp router-id 10.9.9.1
 no bgp ebgp-requires-policy
 neighbor 10.0.90.1 remote-as 64512
 neighbor 10.0.90.1 password of-frr
 neighbor 10.0.90.1 bfd 10 300 300
 address-family ipv4 unicast
  neighbor 10.0.90.1 activate
`, "bfdd")
	b = routertest.StartBIRD(t, far[1], `router id 10.9.9.2;
protocol device {}
protocol bfd { interface "eth0" { interval 300 ms; multiplier 10; }; }
protocol bgp node { local as 64600; neighbor 10.0.91.1 as 64512; password "of-bird"; bfd on; ipv4 { import all; export none; }; }
`)
	return f, b, newEasyRouter(t)
}

// easyRouter accepts whoever comes, without a password.
type easyRouter struct {
	at       netip.AddrPort
	accepted atomic.Int64
}

func newEasyRouter(t *testing.T) *easyRouter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:11790") // the namespace is the test's; a BGPPeer has no port above 16384
	if err != nil {
		t.Fatal(err)
	}
	e := &easyRouter{at: l.Addr().(*net.TCPAddr).AddrPort()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.accepted.Add(1)
			go serveEasily(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return e
}

func serveEasily(c net.Conn) {
	defer func() { _ = c.Close() }()
	marker := strings.Repeat("\xff", 16)
	// OPEN of AS 64600, hold time 90, then KEEPALIVE.
	_, _ = c.Write([]byte(marker + "\x00\x1d\x01\x04\xfc\x58\x00\x5a\x0a\x09\x09\x03\x00" + marker + "\x00\x13\x04"))
	_, _ = io.Copy(io.Discard, c)
}

var routeLine = regexp.MustCompile(`198\.51\.100\.\d+(/\d+)?`)

// prefixesIn finds the prefixes in what a router says, sorted.
func prefixesIn(text string) []string {
	out := []string{}
	for _, p := range routeLine.FindAllString(text, -1) {
		if !strings.Contains(p, "/") {
			p += "/32" // as FRR leaves it out
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestRoutersChurn: whatever happens to Services, endpoints, labels of nodes and the
// configuration of others, the sessions with FRR and BIRD stay, and in the end
// both have what is wanted. Objects go in, as a user writes them, and packets
// come out.
func TestRoutersChurn(t *testing.T) { //nolint:paralleltest // it keeps the machine busy, others measure time
	f, b, other := churnRouters(t)
	o := newObjects(other.at)
	s := runSide(t, o)
	s.plan()
	for _, peer := range []string{"bird", "frr", "other-a"} {
		s.awaitUp(t, peer)
	}
	routertest.Await(t, "BFD with both", 20*time.Second, func() bool {
		st := s.router.bfd.state()
		return st["frr"].State == "Up" && st["bird"].State == "Up"
	})
	before := map[string]bgp.SessionState{"frr": s.state("frr"), "bird": s.state("bird")}
	others := other.accepted.Load()

	seed := *churnSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-churn-seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	counts := map[string]int{}
	last := make([]string, 0, 20) // what happened last, for whoever has to find out why
	for n := range *churn {
		what := o.event(r)
		counts[strings.Fields(what)[0]]++
		last = append(last[max(0, len(last)-19):], what)
		s.plan()
		if n%10 == 0 { // what is new gets out
			time.Sleep(2 * time.Millisecond)
		}
		if n%100 > 0 {
			continue
		}
		for peer, was := range before {
			if is := s.state(peer); is.State != bgp.Established || is.Counters.OpensSent != was.Counters.OpensSent {
				t.Fatalf("event %d: the session with %s is %+v, the last events were:\n%s", n, peer, is, strings.Join(last, "\n"))
			}
		}
	}
	updates := s.state("frr").Counters.UpdatesSent - before["frr"].Counters.UpdatesSent
	t.Logf("events: %v, UPDATEs to FRR: %d, connections of others: %d", counts, updates, other.accepted.Load()-others)
	if updates < uint64(*churn)/50 {
		t.Errorf("%d events made %d UPDATEs: the routers notice too little", *churn, updates)
	}
	o.settle()
	s.plan()
	s.checkRouters(t, f, b, before)
	if n := other.accepted.Load() - others; n < int64(*churn)/200 {
		t.Errorf("sessions whose keys change all the time were made %d times: the test does not see resets", n)
	}
}

// checkRouters: the routers have what is wanted, and lost no session.
func (s *side) checkRouters(t *testing.T, f *routertest.FRR, b *routertest.BIRD, before map[string]bgp.SessionState) {
	t.Helper()
	s.checkRoutes(t, "frr", func() string { return f.Show("show bgp ipv4 unicast") })
	s.checkRoutes(t, "bird", func() string { return b.Show("show", "route", "protocol", "node") })
	for peer, was := range before {
		if is := s.state(peer); is.State != bgp.Established || is.Counters.OpensSent != was.Counters.OpensSent || is.LastError != was.LastError {
			t.Errorf("session with %s: %+v, it was %+v", peer, is, was)
		}
	}
	if text := f.Show("show bgp neighbors 10.0.90.1"); !strings.Contains(text, "Connections established 1; dropped 0") {
		t.Errorf("FRR lost the session:\n%s", text)
	}
	if states := s.router.bfd.state(); states["frr"].State != "Up" || states["bird"].State != "Up" {
		t.Errorf("BFD is %v", states)
	}
}

func (s *side) checkRoutes(t *testing.T, peer string, view func() string) {
	t.Helper()
	var want, got []string
	deadline := time.Now().Add(10 * time.Second)
	for {
		want = []string{}
		w, _ := s.router.state()
		if session, ok := w.Find(peer); ok {
			for _, r := range session.Routes {
				want = append(want, r.Prefix.String())
			}
		}
		slices.Sort(want)
		if got = prefixesIn(view()); len(want) > 5 && slices.Equal(want, got) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s (-want +got):\n%s", peer, cmp.Diff(want, got))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
