// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/kube"
	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// reader is where the controller reads the cluster; *kube.Cluster is one.
type reader interface {
	// Read returns a complete reading, or an error: then nothing may be
	// changed. The objects are shared and may not be changed.
	Read(ctx context.Context) (snapshot.Objects, error)
	// CatchUp returns when Read is at least as new as the API server was when
	// it was called.
	CatchUp(ctx context.Context) error
}

// writer carries out writes; *kube.Writer is one.
type writer interface {
	// TakeOver makes this replica the only one that can begin to move
	// addresses. What the one before it has begun is Underway. It may be
	// called again.
	TakeOver(ctx context.Context) error
	// Settle finds out what has become of writes that were not answered for
	// certain; the next Read shows it. After an error there may be no plan.
	Settle(ctx context.Context) error
	// Underway returns the writes that may still be carried out.
	Underway() []status.Underway
	// Apply returns when all writes have been answered. A failed one does not
	// stop the others. The next Read shows the effect of those that succeeded.
	// journal.ErrLost means that another replica has taken over.
	Apply(ctx context.Context, writes []status.Write) kube.Outcome
}

// Controller is one replica.
type Controller struct {
	opts    Options
	log     *slog.Logger
	metrics *telemetry.Metrics
	page    telemetry.PlanPage

	cluster reader
	writer  writer
	direct  client.Client // not cached
	guard   *guard
	memory  *memory
	// Speed only: what rounds before this one have read and compared.
	built snapshot.Memo
	shown status.Memo

	leading atomic.Bool
	applied atomic.Bool // this replica has carried out a plan
	// caughtUp: nothing that other leaders have done is unknown.
	caughtUp bool
	// resign ends the leadership, and with it the program.
	resign context.CancelCauseFunc

	// decided is how long the last round took to decide, written how many
	// objects it wrote.
	decided time.Duration
	written int
	tidy    kube.Tidy
	// unknown is the last error that the ConfigurationState tells of.
	unknown string
}

// Run runs a replica until ctx is done.
func Run(ctx context.Context, cfg *rest.Config, o Options, log *slog.Logger) error {
	if err := o.validate(); err != nil {
		return err
	}
	c := &Controller{opts: o, log: log, metrics: telemetry.NewControllerMetrics()}
	loop := kube.NewLoop(kube.LoopOptions{Sync: c.paced, Burst: atOnce, Logger: log})
	gone := newReleaser(log)
	c.memory = newMemory(o.RememberAddresses, nil, log)
	cluster, err := kube.New(kube.Options{
		Config:      cfg,
		Namespace:   o.Namespace,
		Kinds:       kube.ControllerKinds(),
		EventSource: api.EventSourceController,
		UserAgent:   "herald-controller",
		Changed:     loop.Poke,
		QuietWrites: true, // a second plan on the result of a plan changes nothing
		ServiceGone: func(svc *corev1.Service) {
			gone.add(svc)
			c.memory.add(svc)
		},
		Logger: log,
	})
	if err != nil {
		return err
	}
	c.direct, err = newDirect(cluster.Connection())
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	c.cluster = cluster
	records := cluster.NewJournal(holder())
	c.writer = cluster.NewWriter(c.metrics.Client, log, records)
	c.memory.store = records
	c.guard = &guard{client: c.direct, log: log}
	r, err := newReplica(cluster.Connection(), o, c.direct, log)
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	if err := c.register(r, cluster, loop, gone); err != nil {
		return fmt.Errorf("register tasks: %w", err)
	}
	stopEvents, err := cluster.StartEvents(ctx)
	if err != nil {
		return err
	}
	defer stopEvents()
	return r.run(ctx)
}

// register tells r everything that this replica does.
func (c *Controller) register(r *replica, cluster *kube.Cluster, loop *kube.Loop, gone *releaser) error {
	errs := []error{
		r.add(cluster.RunCaches),
		r.addReadyCheck("caches", cluster.Synced),
		r.addReadyCheck("plan", c.ready),
		r.addLeaderOnly(func(ctx context.Context) error { return c.lead(ctx, loop.Run) }),
		r.addLeaderOnly(func(ctx context.Context) error { return gone.run(ctx, c.direct) }),
	}
	if c.opts.MLSecretName != "" {
		errs = append(errs, r.add(func(ctx context.Context) error {
			return keepSecret(ctx, c.direct, c.opts.Namespace, c.opts.MLSecretName, c.log)
		}))
	}
	if c.opts.Port != 0 {
		errs = append(errs, r.add(func(ctx context.Context) error {
			return telemetry.Serve(ctx, net.JoinHostPort("", strconv.Itoa(c.opts.Port)), telemetry.Pages(c.metrics.Registry, &c.page))
		}))
	}
	if c.opts.PprofBindAddress != "" {
		errs = append(errs, r.add(func(ctx context.Context) error {
			return telemetry.Serve(ctx, c.opts.PprofBindAddress, telemetry.Profiles())
		}))
	}
	return errors.Join(errs...)
}

// lead runs the loop while this replica leads.
func (c *Controller) lead(ctx context.Context, loop func(context.Context) error) error {
	ctx, c.resign = context.WithCancelCause(ctx)
	defer c.resign(nil)
	c.leading.Store(true)
	c.log.Info("leading")
	err := loop(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, journal.ErrLost) {
		return cause // to be started again, as one who does not lead
	}
	return err
}

// holder names this start of this replica.
func holder() string {
	host, err := os.Hostname() // in a cluster: the name of the Pod
	if err != nil {
		host = "unknown"
	}
	return host + "_" + string(uuid.NewUUID())
}

// ready says why this replica is not ready; caches have a check of their own. A
// replica that does not lead is ready to.
func (c *Controller) ready() error {
	if c.leading.Load() && !c.applied.Load() {
		return errors.New("the first plan has not been applied yet")
	}
	return nil
}

const (
	// burst is how many writes of one round are one.
	burst = 16
	// atOnce is how many rounds may follow each other without a pause, if there
	// were few before. Single Services come one by one.
	atOnce = 4
)

// paced is sync with a rest after it, so that the decisions of a large cluster
// do not take a whole core during a burst, which the API server needs: they
// take half of the time at most. A round that decided quickly or wrote little is
// not delayed: it is no burst, and somebody waits for the next one.
func (c *Controller) paced(ctx context.Context) (time.Duration, error) {
	started := time.Now()
	c.written = 0
	again, err := c.sync(ctx)
	again = sooner(again, c.tidy.After(c.written, time.Now()))
	if c.written < burst {
		return again, err
	}
	timer := time.NewTimer(2*c.decided - time.Since(started))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return again, err
}

// sync is one round of the loop.
func (c *Controller) sync(ctx context.Context) (time.Duration, error) {
	started := time.Now()
	again, err := c.round(ctx)
	c.metrics.Client.Round(time.Since(started), err)
	if err == nil {
		c.applied.Store(true)
	}
	if errors.Is(err, journal.ErrLost) {
		c.resign(err)
		return 0, err
	}
	if errors.As(err, new(*writeError)) {
		return again, nil // logged, and the objects that failed wait on their own
	}
	return again, err
}

// writeError is a round that was carried out but for some objects.
type writeError struct{ error }

// Unwrap returns what went wrong.
func (e *writeError) Unwrap() error { return e.error }

// read returns a reading that a plan may be made from: complete, and with
// everything in it that this leader or one before it has done.
func (c *Controller) read(ctx context.Context) (snapshot.Objects, error) {
	if !c.caughtUp {
		if _, err := c.cluster.Read(ctx); err != nil {
			return snapshot.Objects{}, err
		}
		// In this order: once the old leader can do nothing more, look.
		if err := c.writer.TakeOver(ctx); err != nil {
			return snapshot.Objects{}, err
		}
		if err := c.cluster.CatchUp(ctx); err != nil {
			return snapshot.Objects{}, err
		}
		c.caughtUp = true
	}
	if err := c.writer.Settle(ctx); err != nil {
		return snapshot.Objects{}, &unsettledError{err}
	}
	return c.cluster.Read(ctx)
}

// unsettledError is a round that has to wait for the API server.
type unsettledError struct{ error }

func (c *Controller) round(ctx context.Context) (time.Duration, error) {
	started := time.Now()
	objs, err := c.read(ctx)
	if err != nil {
		c.reportUnknown(ctx, err)
		return 0, err
	}
	c.metrics.Client.Stage(telemetry.StageRead, started)
	frozen, wait, err := c.guard.check(ctx, objs, c.opts.Namespace, time.Now())
	if err != nil {
		c.reportUnknown(ctx, err)
		return 0, err
	}
	c.unknown = ""
	begun := time.Now()
	remembered, later := c.memory.recall(objs.Services, begun)
	wait = sooner(wait, later)
	snap, problems := snapshot.Build(objs, snapshot.Options{
		Namespace: c.opts.Namespace, LBClass: c.opts.LBClass, FrozenPools: frozen,
		Remembered: remembered, Memo: &c.built,
	})
	plan := ipam.Plan(snap)
	at := time.Now()
	c.page.Set(func() telemetry.PlanView {
		return telemetry.PlanView{At: at, Snapshot: &snap, Plan: plan, Problems: problems}
	})
	poolMetrics(c.metrics.Allocator, plan.Pools)
	underway := c.writer.Underway()
	objs.Services = c.built.ByKey()
	writes := status.Controller(objs, plan, problems, status.ControllerOptions{Namespace: c.opts.Namespace, Now: at, Underway: underway, Memo: &c.shown})
	c.decided = time.Since(begun)
	c.metrics.Client.Stage(telemetry.StageDecide, begun)
	out := c.writer.Apply(ctx, writes)
	c.written = out.Written
	if out.Written > 0 && (len(underway) > 0 || slices.ContainsFunc(writes, takes)) {
		// Somebody may wait for what has been taken, or cannot be given by an old
		// request any more; and own writes are no event.
		out.Again = time.Nanosecond
	}
	if out.Written > 0 {
		c.log.Debug("wrote", telemetry.KeyCount, out.Written, "conflicts", out.Conflicts, telemetry.KeyDuration, time.Since(at))
	}
	if out.Err != nil {
		return sooner(wait, out.Again), &writeError{out.Err}
	}
	return sooner(wait, out.Again), nil
}

// takes reports whether a write changes the addresses of a Service that had
// some.
func takes(w status.Write) bool {
	svc, ok := w.Object.(*corev1.Service)
	return ok && w.Moves && len(svc.Status.LoadBalancer.Ingress) > 0
}

// sooner returns the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// reportUnknown says in the ConfigurationState, once, that the configuration
// cannot be read. It is the only thing written in that state.
func (c *Controller) reportUnknown(ctx context.Context, cause error) {
	var ns *kube.NotSyncedError
	if errors.As(cause, new(*unsettledError)) || (errors.As(cause, &ns) && len(ns.Missing) == 0) {
		return // it passes
	}
	if cause.Error() == c.unknown {
		return
	}
	have, err := c.ownState(ctx)
	if err != nil {
		return // its kind may be missing, too; the log and /readyz say why
	}
	opt := status.ControllerOptions{Namespace: c.opts.Namespace, Now: time.Now()}
	if w, ok := status.ControllerState(have, nil, cause, opt); ok {
		if out := c.writer.Apply(ctx, []status.Write{w}); out.Written == 0 {
			return
		}
	}
	c.unknown = cause.Error()
}

// poolMetrics replaces the series of all pools.
func poolMetrics(m *telemetry.AllocatorMetrics, pools []ipam.Usage) {
	rows := func(value func(*ipam.Usage) float64) []telemetry.Row {
		out := make([]telemetry.Row, len(pools))
		for i := range pools {
			out[i] = telemetry.Row{Labels: []string{pools[i].Name}, Value: value(&pools[i])}
		}
		return out
	}
	m.Total.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv4.Total) + float64(u.IPv6.Total) }))
	m.TotalIPv4.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv4.Total) }))
	m.TotalIPv6.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv6.Total) }))
	m.InUse.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv4.Assigned) + float64(u.IPv6.Assigned) }))
	m.InUseIPv4.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv4.Assigned) }))
	m.InUseIPv6.Set(rows(func(u *ipam.Usage) float64 { return float64(u.IPv6.Assigned) }))
	m.Services.Set(rows(func(u *ipam.Usage) float64 { return float64(u.Services) }))
}
