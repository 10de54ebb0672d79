// SPDX-License-Identifier: Apache-2.0

// Package speaker is the program of each node: it makes the network send the
// traffic of external addresses to the right nodes.
//
//	           caches                        gossip     links
//	             |                              \       /
//	plan loop: read -> snapshot -> announce.Plan -> engine -> ARP, NDP
//	                                                  |
//	report loop: ServiceL2Status, conditions, events <+
//
// The two loops talk to the API server. The engine does not: when a node dies,
// gossip, ownership and the answering socket are all it takes to move an
// address, in memory.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/driver/bfdnet"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/healthport"
	"github.com/heraldlb/herald/internal/driver/heartbeat"
	"github.com/heraldlb/herald/internal/driver/links"
	"github.com/heraldlb/herald/internal/driver/rawl2"
	"github.com/heraldlb/herald/internal/driver/rawl2/arpoffload"
	"github.com/heraldlb/herald/internal/kube"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// reportInterval is the shortest time between two reports. A burst of a
// thousand Services becomes a few reports, and leaves the API server free for
// those who wait for an address.
const reportInterval = 500 * time.Millisecond

// reportSettle is how long a report waits after the first change it tells of:
// so long that a fail-over is over when the API server is told, and what a burst
// of Services changes twice is written once.
const reportSettle = time.Second

// planRest: plans take a quarter of a core at most. With 1,000 Services the
// interval between them is longer than this rest, so it is for thousands.
const planRest = 3

// speaker ties the parts together.
type speaker struct {
	opts    Options
	self    lb.NodeName
	log     *slog.Logger
	cluster *kube.Cluster
	engine  *engine
	// heartbeats is asked for its state.
	heartbeats *heartbeat.Driver
	offload    *arpoffload.Table // nil: none
	router     *router
	drivers    []driver
	tasks      []task // what talks to the API server
	metrics    *telemetry.Metrics
	page       telemetry.PlanPage

	planLoop, reportLoop, cleanLoop, regainLoop *kube.Loop
	reporter                                    *reporter
	writer                                      *kube.Writer
	tidy                                        kube.Tidy
	planned                                     atomic.Pointer[planned]
	last                                        snapshot.Last // of the plan loop; speed only
	// regained is the number of the last loss of contact whose consequences this
	// speaker knows; see apart.go.
	regained  atomic.Uint64
	returning returning // belongs to regainLoop
}

// Run works until ctx ends, then hands everything over to the other speakers
// and returns.
func Run(ctx context.Context, cfg *rest.Config, o Options, log *slog.Logger) error {
	if err := o.Validate(); err != nil {
		return err
	}
	s, err := newSpeaker(cfg, o, log)
	if err != nil {
		return err
	}
	err = s.run(ctx)
	if s.offload != nil {
		err = errors.Join(err, s.offload.Close())
	}
	return err
}

func newSpeaker(cfg *rest.Config, o Options, log *slog.Logger) (*speaker, error) {
	s := &speaker{opts: o, self: lb.NodeName(o.NodeName), log: log}
	if err := s.watch(cfg); err != nil {
		return nil, err
	}
	return s, s.connect()
}

// watch makes the two loops, and what they read and write.
func (s *speaker) watch(cfg *rest.Config) error {
	s.planLoop = kube.NewLoop(kube.LoopOptions{Sync: s.plan, Rest: planRest, Logger: s.log.With(telemetry.KeyComponent, "plan")})
	s.reportLoop = kube.NewLoop(kube.LoopOptions{
		Sync: s.report, Interval: reportInterval, Settle: reportSettle, Logger: s.log.With(telemetry.KeyComponent, "report"),
	})

	s.cleanLoop = kube.NewLoop(kube.LoopOptions{Sync: s.clean, Interval: reportInterval, Logger: s.log.With(telemetry.KeyComponent, "clean")})

	s.regainLoop = kube.NewLoop(kube.LoopOptions{
		Sync: s.regain, Interval: backStep, RetryMax: backRetryMax, Logger: s.log.With(telemetry.KeyComponent, "contact"),
	})

	speakers, err := labels.Parse(s.opts.GossipLabels)
	if err != nil {
		return fmt.Errorf("--ml-labels: %w", err)
	}
	if s.opts.GossipLabels == "" {
		speakers = labels.Nothing()
	}
	s.cluster, err = kube.New(kube.Options{
		Config:      cfg,
		Namespace:   s.opts.Namespace,
		Kinds:       kube.SpeakerKinds(s.opts.NodeName, speakers),
		EventSource: api.EventSourceSpeaker,
		Host:        s.opts.NodeName,
		UserAgent:   "herald-speaker",
		Changed:     s.planLoop.Poke,
		// A speaker reports on thousands of Services when it starts, and what it
		// has written leads to no other plan.
		ReportChanged: s.reportLoop.Poke,
		Logger:        s.log,
	})
	return err
}

// connect makes the drivers, then what stands on them.
func (s *speaker) connect() error {
	key, err := s.opts.gossipKey()
	if err != nil {
		return err
	}
	excluded, err := loadExclusions(s.opts.ExclusionsFile)
	if err != nil {
		return err
	}
	bind, err := netip.ParseAddr(s.opts.GossipBindAddr)
	if err != nil {
		return fmt.Errorf("--ml-bindaddr: %w", err)
	}
	messages, err := gossip.New(gossip.Config{
		NodeName: s.self, BindAddr: bind, BindPort: uint16(s.opts.GossipBindPort),
		Secrets: [][]byte{key}, Logger: s.log.With(telemetry.KeyComponent, "gossip"),
	})
	if err != nil {
		return err
	}
	s.heartbeats, err = heartbeat.New(heartbeat.Config{
		NodeName: s.self, Secrets: [][]byte{key}, Port: messages, Logger: s.log.With(telemetry.KeyComponent, "heartbeat"),
	})
	if err != nil {
		return err
	}
	members := newDetector(messages, s.heartbeats)
	network := links.New(links.Config{Logger: s.log.With(telemetry.KeyComponent, "links")})
	if s.opts.ARPOffload {
		if s.offload, err = arpoffload.New(); err != nil {
			s.log.Warn("the kernel cannot answer ARP requests, so the speaker does", "error", err)
		}
	}
	answers := rawl2.New(rawl2.Config{L2: s.opts.l2Config(), Offload: s.offload, Logger: s.log.With(telemetry.KeyComponent, "l2")})
	routers := newSessions(s.log.With(telemetry.KeyComponent, "bgp"))
	failures := bfdnet.New(bfdnet.Config{Logger: s.log.With(telemetry.KeyComponent, "bfd")})
	ports := healthport.New(healthport.Config{})
	s.drivers = []driver{messages, s.heartbeats, members, network, answers, routers, failures, ports}
	s.assemble(devices{
		messages: members, network: network, answers: answers, routers: routers, failures: failures, ports: ports, excluded: excluded,
	})
	s.metrics.AddSpeakers(func() (liveness.State, telemetry.Heartbeats) {
		now := s.heartbeats.State()
		return now.State, telemetry.Heartbeats(now.Counts)
	})
	s.engine.beat = s.heartbeats.Beat
	return nil
}

// assemble makes what stands on the drivers.
func (s *speaker) assemble(d devices) {
	s.metrics = telemetry.NewSpeakerMetrics(d.answers.State)
	s.metrics.AddBGP(d.routers.State)
	s.metrics.AddBFD(func() []bfd.Status { return statusesOf(d.failures.State()) })
	owning := ownership.Config{Self: s.self, BalanceInterval: s.opts.L2BalanceInterval}
	s.engine = newEngine(owning, d.answers, d.messages, d.network, d.excluded, s.membersChanged, s.log.With(telemetry.KeyComponent, "ownership"))
	passwords := newSecrets(s.readSecret)
	joined := newBFDSide(d.failures, d.network, d.routers.Lost, s.reportLoop.Poke, s.log.With(telemetry.KeyComponent, "bfd"))
	s.router = newRouter(s.self, d, passwords, joined, &s.opts, s.reportLoop.Poke, s.log.With(telemetry.KeyComponent, "bgp"))
	s.reporter = &reporter{
		router: s.router,
		who:    status.Speaker{Node: s.self, Namespace: s.opts.Namespace},
		engine: s.engine, watcher: d.answers, links: d.network, metrics: s.metrics, trusted: s.trusted,
	}
	s.writer = s.cluster.NewReportWriter(s.metrics.Client, s.log.With(telemetry.KeyComponent, "report"))
	s.page.HostOnly = true
	s.page.Set(s.view)

	s.tasks = []task{
		s.cluster.RunCaches,
		s.planLoop.Run,
		passwords.run,
		joined.run,
		func(ctx context.Context) error { return s.watchResponder(ctx, d.answers) },
		s.runReports,
		s.cleanLoop.Run,
		s.regainLoop.Run,
	}
}

// run starts everything. The drivers outlive the rest by the moment that the
// engine needs to hand over, and /healthz answers until the last report is out.
func (s *speaker) run(ctx context.Context) error {
	driverCtx, stopDrivers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrivers()
	healthCtx, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHealth()
	stopEvents, err := s.cluster.StartEvents(ctx)
	if err != nil {
		return err
	}
	defer stopEvents()
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range s.drivers {
		g.Go(func() error { return d.Run(driverCtx) })
	}
	g.Go(func() error {
		defer stopDrivers()
		var leaving errgroup.Group
		leaving.Go(func() error { return s.router.run(ctx) })
		leaving.Go(func() error { return s.engine.run(ctx) })
		return leaving.Wait()
	})
	g.Go(func() error {
		defer stopHealth()
		return runTasks(ctx, s.tasks...)
	})
	s.serve(ctx, healthCtx, g)
	return g.Wait()
}

func (s *speaker) serve(ctx, healthCtx context.Context, g *errgroup.Group) {
	if s.opts.HealthProbePort != 0 {
		checks := []telemetry.Check{{Name: "caches", Ready: s.cluster.Synced}, {Name: "plan", Ready: s.ready}}
		g.Go(func() error {
			return telemetry.Serve(healthCtx, net.JoinHostPort("", strconv.Itoa(s.opts.HealthProbePort)), telemetry.Health(checks...))
		})
	}
	if s.opts.Port != 0 {
		g.Go(func() error {
			return telemetry.Serve(ctx, net.JoinHostPort("", strconv.Itoa(s.opts.Port)), telemetry.Pages(s.metrics.Registry, &s.page))
		})
	}
	if s.opts.PprofBindAddress != "" {
		g.Go(func() error { return telemetry.Serve(ctx, s.opts.PprofBindAddress, telemetry.Profiles()) })
	}
}

// plan is one round of the plan loop: read, snapshot, plan, hand over.
func (s *speaker) plan(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.planOnce(ctx)
	s.metrics.Client.Round(time.Since(start), err)
	return 0, err
}

func (s *speaker) planOnce(ctx context.Context) error {
	objs, err := s.cluster.Read(ctx)
	if err != nil {
		return err
	}
	s.decide(objs)
	s.reportLoop.Poke()
	return nil
}

// decide makes a plan and hands it over.
func (s *speaker) decide(objs snapshot.Objects) {
	snap, problems := snapshot.Build(objs, snapshot.Options{
		Namespace: s.opts.Namespace, LBClass: s.opts.LBClass, IgnoreExcludeLB: s.opts.IgnoreExcludeLB,
		Last: &s.last,
	})
	p := &planned{at: time.Now(), snapshot: &snap, problems: problems, plan: announce.Plan(&snap, s.self)}
	s.engine.setPlan(plannedGroups{groups: p.plan.Groups, peers: findPeers(objs.SpeakerPods, s.self, s.opts.GossipBindPort)})
	s.planned.Store(p)
	s.router.setPlan(routerPlan{snapshot: &snap, announcements: p.plan.BGP})
}

// membersChanged is called when owners or members changed.
func (s *speaker) membersChanged() {
	s.reportLoop.Poke()
	s.cleanLoop.Poke()
	s.regainLoop.Poke()
}

// readSecret reads a Secret of Herald's own namespace.
func (s *speaker) readSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	var obj corev1.Secret
	err := s.cluster.Client().Get(ctx, types.NamespacedName{Namespace: s.opts.Namespace, Name: name}, &obj)
	return &obj, err
}

func (s *speaker) ready() error {
	if s.planned.Load() == nil {
		return errors.New("there is no plan yet")
	}
	settled := false
	s.engine.query(func(m *ownership.Machine) { settled = m.Settled() })
	if !settled {
		return errors.New("the other speakers have not been heard yet")
	}
	return nil
}

// runReports waits for the Pod that owns the reports, then runs the report loop.
func (s *speaker) runReports(ctx context.Context) error {
	s.reporter.who.Owner = s.findPod(ctx)
	return s.reportLoop.Run(ctx)
}

// findPod returns a reference to this speaker's own Pod, so that its reports
// are collected with it. Without one the reports have no owner.
func (s *speaker) findPod(ctx context.Context) *metav1.OwnerReference {
	if s.opts.PodName == "" {
		return nil
	}
	var pod corev1.Pod
	err := s.cluster.Client().Get(ctx, types.NamespacedName{Namespace: s.opts.Namespace, Name: s.opts.PodName}, &pod)
	if err != nil {
		s.log.Warn("own Pod not found; status objects will have no owner", telemetry.KeyObject, s.opts.PodName, telemetry.KeyError, err)
		return nil
	}
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
}

// report is one round of the report loop.
func (s *speaker) report(ctx context.Context) (time.Duration, error) {
	p := s.planned.Load()
	if p == nil {
		return 0, nil // the plan loop pokes once there is something to say
	}
	objs, err := s.cluster.Read(ctx)
	if err != nil {
		return 0, err
	}
	writes, again, ok := s.reporter.sync(p, objs, time.Now())
	if !ok {
		return 0, ctx.Err()
	}
	outcome := s.writer.Apply(ctx, writes) // what failed is logged, and comes up again
	s.reporter.calm.note(outcome.Done, time.Now())
	for _, d := range []time.Duration{outcome.Again, s.tidy.After(outcome.Written, time.Now())} {
		if d > 0 && (again == 0 || d < again) {
			again = d
		}
	}
	return again, nil
}

// view is what /debug/plan shows.
func (s *speaker) view() telemetry.PlanView {
	p := s.planned.Load()
	if p == nil {
		return telemetry.PlanView{}
	}
	var claims []ownership.Claim
	s.engine.query(func(m *ownership.Machine) { claims = m.Claims() })
	return telemetry.PlanView{
		At: p.at, Snapshot: p.snapshot, Plan: p.plan, Problems: p.problems,
		State: map[string]any{"claims": claims, "l2": s.reporter.watcher.State(), "speakers": s.heartbeats.State(), "bgp": s.viewBGP()},
	}
}
