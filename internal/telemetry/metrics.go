// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/heraldlb/herald/internal/core/l2"
)

// Metrics are all metrics of both programs; a program registers the groups it
// uses. Names that begin with metallb_ are those existing dashboards and
// alerts know; Herald's own begin with herald_.
type Metrics struct {
	Registry *prometheus.Registry

	Client    *ClientMetrics
	Allocator *AllocatorMetrics // controller only
	L2        *L2Metrics        // speaker only
}

// ClientMetrics are about Herald and the Kubernetes API.
type ClientMetrics struct {
	Updates      prometheus.Counter
	UpdateErrors prometheus.Counter
	ConfigLoaded prometheus.Gauge
	ConfigStale  prometheus.Gauge
	// Syncs measures whole rounds of the loop: read, plan, write.
	Syncs prometheus.Histogram
	// Stages measures the parts of such a round; see Stage.
	Stages *prometheus.HistogramVec
	// Writes counts requests by kind of object and result (ok, conflict, error).
	Writes *prometheus.CounterVec
}

// AllocatorMetrics are about pools; each has one label, pool.
type AllocatorMetrics struct {
	Total, TotalIPv4, TotalIPv6 *Table
	InUse, InUseIPv4, InUseIPv6 *Table
	Services                    *Table
}

// L2Metrics are about layer 2.
type L2Metrics struct {
	// Announced has the labels service, protocol, node, ip.
	Announced *Table
}

// NewControllerMetrics returns the metrics of the controller on a registry of
// their own.
func NewControllerMetrics() *Metrics {
	m := newMetrics()
	m.Allocator = newAllocatorMetrics(m.Registry)
	return m
}

// NewSpeakerMetrics returns the metrics of a speaker on a registry of their
// own. Packets are counted by the responder; state returns its counters.
func NewSpeakerMetrics(state func() l2.State) *Metrics {
	m := newMetrics()
	m.L2 = newL2Metrics(m.Registry)
	m.Registry.MustRegister(newL2Counters(state))
	return m
}

func newMetrics() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Metrics{Registry: r, Client: newClientMetrics(r)}
}

func newClientMetrics(r prometheus.Registerer) *ClientMetrics {
	m := &ClientMetrics{
		Updates:      counter("metallb_k8s_client_updates_total", "Rounds in which the state of the cluster was read and applied."),
		UpdateErrors: counter("metallb_k8s_client_update_errors_total", "Rounds that ended with an error and are tried again."),
		ConfigLoaded: gauge("metallb_k8s_client_config_loaded_bool", "1 when a configuration has been read and applied at least once."),
		ConfigStale:  gauge("metallb_k8s_client_config_stale_bool", "1 when the newest configuration could not be applied and an older one is in use."),
		Syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_sync_duration_seconds",
			Help:    "Time of one round: read, plan, write.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		Stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "herald_round_stage_seconds",
			Help: "Time of a part of a round: read (caches, and what became of unanswered writes), decide (snapshot, plan, differences), " +
				"record (the journal of allocations), write (until all requests are answered). A part with nothing to do does not count.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}, []string{"stage"}),
		Writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_api_writes_total",
			Help: "Requests that change an object, by kind and result (ok, conflict, error). A settled cluster causes none.",
		}, []string{"kind", "result"}),
	}
	r.MustRegister(m.Updates, m.UpdateErrors, m.ConfigLoaded, m.ConfigStale, m.Syncs, m.Stages, m.Writes)
	return m
}

// The parts of a round.
const (
	StageRead   = "read"
	StageDecide = "decide"
	StageRecord = "record"
	StageWrite  = "write"
)

// Stage records that a part of a round has taken the time since then.
func (m *ClientMetrics) Stage(stage string, since time.Time) {
	m.Stages.WithLabelValues(stage).Observe(time.Since(since).Seconds())
}

// Round records one round of the loop.
func (m *ClientMetrics) Round(d time.Duration, err error) {
	m.Updates.Inc()
	m.Syncs.Observe(d.Seconds())
	if err != nil {
		m.UpdateErrors.Inc()
		m.ConfigStale.Set(1)
		return
	}
	m.ConfigStale.Set(0)
	m.ConfigLoaded.Set(1)
}

func newAllocatorMetrics(r prometheus.Registerer) *AllocatorMetrics {
	table := func(name, help string) *Table {
		t := newTable("metallb_allocator_"+name, help, "pool")
		r.MustRegister(t)
		return t
	}
	return &AllocatorMetrics{
		Total:     table("addresses_total", "Addresses of the pool."),
		TotalIPv4: table("ipv4_addresses_total", "IPv4 addresses of the pool."),
		TotalIPv6: table("ipv6_addresses_total", "IPv6 addresses of the pool."),
		InUse:     table("addresses_in_use_total", "Addresses of the pool that Services have."),
		InUseIPv4: table("ipv4_addresses_in_use_total", "IPv4 addresses of the pool that Services have."),
		InUseIPv6: table("ipv6_addresses_in_use_total", "IPv6 addresses of the pool that Services have."),
		Services:  table("services_allocated_total", "Services with an address of the pool."),
	}
}

func newL2Metrics(r prometheus.Registerer) *L2Metrics {
	m := &L2Metrics{
		Announced: newTable("metallb_speaker_announced", "1 for every address that this node announces.", "service", "protocol", "node", "ip"),
	}
	r.MustRegister(m.Announced)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}
