// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Options configures a Cluster.
type Options struct {
	// Config says how to reach the API server. Required. Its client-side rate
	// limit is switched off: the server has its own, fairer one.
	Config *rest.Config
	// Namespace is Herald's own. Required.
	Namespace string
	// Kinds to watch: ControllerKinds or SpeakerKinds. Required.
	Kinds []Kind
	// EventSource is the component that events name: api.EventSourceController
	// or api.EventSourceSpeaker. Required.
	EventSource string
	// Host is the node that events name; empty is fine.
	Host string
	// UserAgent identifies the program in the API server's logs.
	UserAgent string
	// HealthPort serves /healthz and /readyz; 0 switches that off.
	HealthPort int
	// Lease is the name of the Lease for leader election; empty: none is
	// needed and what Add calls leader-only runs at once.
	Lease string
	// Changed is called when a watched object changed in a way that matters.
	// It must not block. Usually Loop.Poke. Required.
	Changed func()
	// ServiceGone gets every Service that left the cache: deleted, or no longer
	// of type LoadBalancer. It must not block. Optional.
	ServiceGone func(*corev1.Service)
	// ShutdownTimeout is how long running tasks get to end; default 8 s, which is
	// within the grace period of the Pods.
	ShutdownTimeout time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// Timing of leader election. A leader that dies without goodbye is replaced
// after leaseDuration; one that stops on purpose releases the Lease.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Cluster is the connection of a program to its cluster.
type Cluster struct {
	mgr         manager.Manager
	caches      *Caches
	client      client.Client
	broadcaster record.EventBroadcaster
	events      record.EventRecorder
	sink        record.EventSink
}

// New prepares everything; nothing runs before Run.
func New(o Options) (*Cluster, error) {
	cfg := rest.CopyConfig(o.Config)
	cfg.QPS, cfg.Burst = -1, -1
	if o.UserAgent != "" {
		cfg.UserAgent = o.UserAgent
	}
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make the HTTP client: %w", err)
	}
	scheme, err := NewScheme()
	if err != nil {
		return nil, fmt.Errorf("make the scheme: %w", err)
	}
	direct, err := client.New(cfg, client.Options{Scheme: scheme, HTTPClient: httpClient})
	if err != nil {
		return nil, fmt.Errorf("make the client: %w", err)
	}
	caches, err := newCaches(o.Kinds, connectTo(cfg, httpClient, scheme, o.Namespace), o.Logger, o.Changed, o.ServiceGone)
	if err != nil {
		return nil, err
	}
	mgr, err := newManager(cfg, o, scheme, direct)
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	core, err := corev1client.NewForConfigAndClient(cfg, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make the client for events: %w", err)
	}
	b := record.NewBroadcaster()
	c := &Cluster{
		mgr:         mgr,
		caches:      caches,
		client:      direct,
		broadcaster: b,
		events:      b.NewRecorder(scheme, corev1.EventSource{Component: o.EventSource, Host: o.Host}),
		sink:        &corev1client.EventSinkImpl{Interface: core.Events("")},
	}
	return c, c.addOwnTasks()
}

// newManager returns the manager: leader election, health, and the life of
// tasks. It is not used for caches, clients or metrics.
func newManager(cfg *rest.Config, o Options, scheme *runtime.Scheme, direct client.Client) (manager.Manager, error) {
	shutdown := o.ShutdownTimeout
	if shutdown == 0 {
		shutdown = 8 * time.Second
	}
	health := "0"
	if o.HealthPort != 0 {
		health = net.JoinHostPort("", strconv.Itoa(o.HealthPort))
	}
	return manager.New(cfg, manager.Options{
		Scheme:                        scheme,
		Logger:                        logr.FromSlogHandler(atLeastInfo{o.Logger.Handler()}),
		HealthProbeBindAddress:        health,
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // served by telemetry, from its own registry
		GracefulShutdownTimeout:       &shutdown,
		LeaderElection:                o.Lease != "",
		LeaderElectionID:              o.Lease,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		// The manager's client would read from a cache of its own and fill it.
		NewClient: func(*rest.Config, client.Options) (client.Client, error) { return direct, nil },
	})
}

func (c *Cluster) addOwnTasks() error {
	return errors.Join(
		c.Add(c.caches.run),
		c.mgr.AddHealthzCheck("ping", healthz.Ping),
		c.AddReadyCheck("caches", func() error { return c.caches.synced() }),
	)
}

// task is a function of the program that the manager runs.
type task struct {
	run        func(context.Context) error
	leaderOnly bool
}

// Start implements manager.Runnable.
func (t task) Start(ctx context.Context) error { return t.run(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (t task) NeedLeaderElection() bool { return t.leaderOnly }

// Add registers a task that runs from the start, on every replica. When it
// returns an error, the program ends.
func (c *Cluster) Add(run func(context.Context) error) error {
	return c.mgr.Add(task{run: run})
}

// AddLeaderOnly registers a task that runs while this replica leads. On a
// normal stop its context ends first, the Lease is released after it returned.
func (c *Cluster) AddLeaderOnly(run func(context.Context) error) error {
	return c.mgr.Add(task{run: run, leaderOnly: true})
}

// AddReadyCheck adds a condition to /readyz; ready() returns why not.
func (c *Cluster) AddReadyCheck(name string, ready func() error) error {
	return c.mgr.AddReadyzCheck(name, func(*http.Request) error { return ready() })
}

// Run runs all tasks until ctx is done or one of them fails, or until the
// leadership is lost.
func (c *Cluster) Run(ctx context.Context) error {
	c.broadcaster.StartRecordingToSink(c.sink)
	defer c.broadcaster.Shutdown()
	return c.mgr.Start(ctx)
}

// Read returns one complete reading of the caches, or *NotSyncedError. The
// objects are shared: they must not be changed.
func (c *Cluster) Read(context.Context) (snapshot.Objects, error) { return c.caches.read() }

// Client talks to the API server directly; its reads are not cached.
func (c *Cluster) Client() client.Client { return c.client }

// Events records core/v1 events; equal ones are counted, not repeated.
func (c *Cluster) Events() record.EventRecorder { return c.events }
