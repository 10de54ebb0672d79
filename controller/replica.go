// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/heraldlb/herald/internal/kube"
)

// leaseName is the Lease that the replicas compete for.
const leaseName = "herald-controller"

// Timing of leader election. A leader that dies without goodbye is replaced
// after leaseDuration; one that stops on purpose releases the Lease.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	// A standby sees each renewal up to one period late, and looks again up to
	// one period after the Lease has ended: both add to what a sudden death costs.
	retryPeriod = time.Second
)

// shutdownTimeout is how long running tasks get to end, which is within the
// grace period of the Pods.
const shutdownTimeout = 8 * time.Second

// RouteLogs sends what the Kubernetes libraries log to l, from level info up.
// They keep their loggers in global variables, so this is called once, by main.
func RouteLogs(l *slog.Logger) {
	ctrllog.SetLogger(logr.FromSlogHandler(kube.RouteLogs(l).Handler()))
}

// newDirect returns a client whose reads are not cached.
func newDirect(conn kube.Connection) (client.Client, error) {
	return client.New(conn.Config, client.Options{Scheme: conn.Scheme, HTTPClient: conn.HTTP})
}

// replica is the life of one replica: leader election, health, and its tasks.
// It uses controller-runtime's manager for these, and not for caches, clients
// or metrics.
type replica struct{ mgr manager.Manager }

// newReplica prepares everything; nothing runs before run.
func newReplica(conn kube.Connection, o Options, direct client.Client, log *slog.Logger) (*replica, error) {
	health := "0"
	if o.HealthProbePort != 0 {
		health = net.JoinHostPort("", strconv.Itoa(o.HealthProbePort))
	}
	mgr, err := manager.New(conn.Config, manager.Options{
		Scheme:                        conn.Scheme,
		Logger:                        logr.FromSlogHandler(kube.Quiet(log).Handler()),
		HealthProbeBindAddress:        health,
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // served by telemetry, from its own registry
		GracefulShutdownTimeout:       new(shutdownTimeout),
		LeaderElection:                true,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		// The manager's client would read from a cache of its own and fill it.
		NewClient: func(*rest.Config, client.Options) (client.Client, error) { return direct, nil },
	})
	if err != nil {
		return nil, err
	}
	return &replica{mgr}, mgr.AddHealthzCheck("ping", healthz.Ping)
}

// task is a function that the manager runs.
type task struct {
	work       func(context.Context) error
	leaderOnly bool
}

// Start implements manager.Runnable.
func (t task) Start(ctx context.Context) error { return t.work(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (t task) NeedLeaderElection() bool { return t.leaderOnly }

// add registers a task that runs from the start, on every replica. When it
// returns an error, the program ends.
func (r *replica) add(work func(context.Context) error) error {
	return r.mgr.Add(task{work: work})
}

// addLeaderOnly registers a task that runs while this replica leads. On a
// normal stop its context ends first, the Lease is released after it returned.
func (r *replica) addLeaderOnly(work func(context.Context) error) error {
	return r.mgr.Add(task{work: work, leaderOnly: true})
}

// addReadyCheck adds a condition to /readyz; ready() returns why not.
func (r *replica) addReadyCheck(name string, ready func() error) error {
	return r.mgr.AddReadyzCheck(name, func(*http.Request) error { return ready() })
}

// run runs all tasks until ctx is done or one of them fails, or until the
// leadership is lost.
func (r *replica) run(ctx context.Context) error { return r.mgr.Start(ctx) }
