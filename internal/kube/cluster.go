// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

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
	// Changed is called when a watched object changed in a way that matters.
	// It must not block. Usually Loop.Poke. Required.
	Changed func()
	// ReportChanged is called instead for objects that are only what the program
	// itself reports, and when nothing but its condition has changed in a Service:
	// what it decides does not depend on them, but the next report may. Optional:
	// then it is Changed.
	ReportChanged func()
	// QuietWrites spares Changed the echo of the program's own writes. It is for
	// those who can decide nothing new after them.
	QuietWrites bool
	// ServiceGone gets every Service that left the cache: deleted, or no longer
	// of type LoadBalancer. It must not block. Optional.
	ServiceGone func(*corev1.Service)
	// Logger is required.
	Logger *slog.Logger
}

// eventsKnown is how many events are kept in memory to count those that are sent
// again. client-go would keep 4,096, about a kilobyte each: in a burst every
// Service has one, and hardly any is ever repeated.
const eventsKnown = 256

// Cluster is the connection of a program to its cluster.
type Cluster struct {
	namespace   string
	log         *slog.Logger
	connections *connections
	caches      *Caches
	client      *Client
	broadcaster record.EventBroadcaster
	events      record.EventRecorder
}

// New prepares everything; nothing runs before RunCaches.
func New(o Options) (*Cluster, error) {
	cfg := rest.CopyConfig(o.Config)
	cfg.QPS, cfg.Burst = -1, -1
	if o.UserAgent != "" {
		cfg.UserAgent = o.UserAgent
	}
	scheme, err := NewScheme()
	if err != nil {
		return nil, fmt.Errorf("make the scheme: %w", err)
	}
	conns, err := newConnections(cfg, scheme)
	if err != nil {
		return nil, err
	}
	caches, err := newCaches(o.Kinds, conns.watch(o.Namespace), o.Logger, o.Changed, o.ServiceGone)
	if err != nil {
		return nil, err
	}
	caches.definitions = conns.definition
	caches.quiet = o.QuietWrites
	caches.reportChanged = o.ReportChanged
	b := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{LRUCacheSize: eventsKnown}))
	return &Cluster{
		namespace:   o.Namespace,
		log:         o.Logger,
		connections: conns,
		caches:      caches,
		client:      newClient(conns),
		broadcaster: b,
		events:      b.NewRecorder(scheme, corev1.EventSource{Component: o.EventSource, Host: o.Host}),
	}, nil
}

// RunCaches keeps the caches up to date until ctx is done.
func (c *Cluster) RunCaches(ctx context.Context) error { return c.caches.run(ctx) }

// StartEvents begins to send what Events records, also after the end of ctx,
// until stop is called.
func (c *Cluster) StartEvents(ctx context.Context) (stop func(), err error) {
	core, err := c.connections.to(corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	c.broadcaster.StartRecordingToSink(&eventSink{client: core, background: func() context.Context { return context.WithoutCancel(ctx) }})
	return c.broadcaster.Shutdown, nil
}

// Synced returns nil when a complete reading is possible, or *NotSyncedError.
func (c *Cluster) Synced() error { return c.caches.synced() }

// Read returns one complete reading of the caches, or *NotSyncedError. The
// objects are shared: they must not be changed.
func (c *Cluster) Read(context.Context) (snapshot.Objects, error) { return c.caches.read() }

// Reach returns nil if the API server answers, whatever it answers.
func (c *Cluster) Reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	core, err := c.connections.to(corev1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	err = core.Get().AbsPath("/version").Do(ctx).Error()
	var answer apierrors.APIStatus
	if err != nil && !errors.As(err, &answer) {
		return fmt.Errorf("reach the API server: %w", err)
	}
	return nil
}

// reachLimit bounds one attempt.
const reachLimit = 2 * time.Second

// Client talks to the API server directly; its reads are not cached.
func (c *Cluster) Client() *Client { return c.client }

// Events records core/v1 events; equal ones are counted, not repeated.
func (c *Cluster) Events() record.EventRecorder { return c.events }

// Connection is what another library needs to talk to the same API server in
// the same way.
type Connection struct {
	Config *rest.Config
	HTTP   *http.Client
	Scheme *runtime.Scheme
}

// Connection returns a copy of the connection.
func (c *Cluster) Connection() Connection {
	return Connection{Config: rest.CopyConfig(c.connections.config), HTTP: c.connections.http, Scheme: c.connections.scheme}
}
