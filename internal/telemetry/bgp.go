// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// bgpCounters shows the sessions, each with the labels peer and vrf. A session
// that is no longer wanted has no series.
type bgpCounters struct {
	state   func() []bgp.SessionState
	metrics []bgpMetric
}

type bgpMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*bgp.SessionState) float64
}

func newBGPCounters(state func() []bgp.SessionState) *bgpCounters {
	c := &bgpCounters{state: state}
	add := func(name, help string, kind prometheus.ValueType, value func(*bgp.SessionState) float64) {
		c.metrics = append(c.metrics, bgpMetric{
			prometheus.NewDesc("metallb_bgp_"+name, help, []string{"peer", "vrf"}, nil), kind, value,
		})
	}
	count := func(name, help string, value func(*bgp.Counters) uint64) {
		add(name, help, prometheus.CounterValue, func(s *bgp.SessionState) float64 { return float64(value(&s.Counters)) })
	}
	add("session_up", "1 when the session is established.", prometheus.GaugeValue, func(s *bgp.SessionState) float64 {
		if s.State == bgp.Established {
			return 1
		}
		return 0
	})
	add("announced_prefixes_total", "Prefixes that the peer has from this node.", prometheus.GaugeValue, func(s *bgp.SessionState) float64 { return float64(s.Prefixes) })
	count("updates_total", "UPDATE messages sent.", func(c *bgp.Counters) uint64 { return c.UpdatesSent })
	count("opens_sent", "OPEN messages sent.", func(c *bgp.Counters) uint64 { return c.OpensSent })
	count("opens_received", "OPEN messages received.", func(c *bgp.Counters) uint64 { return c.OpensReceived })
	count("notifications_sent", "NOTIFICATION messages sent.", func(c *bgp.Counters) uint64 { return c.NotificationsSent })
	count("keepalives_sent", "KEEPALIVE messages sent.", func(c *bgp.Counters) uint64 { return c.KeepalivesSent })
	count("keepalives_received", "KEEPALIVE messages received.", func(c *bgp.Counters) uint64 { return c.KeepalivesReceived })
	count("route_refresh_sent", "ROUTE-REFRESH messages sent; none, because no routes are read.", func(c *bgp.Counters) uint64 { return c.RefreshesSent })
	count("total_sent", "Messages sent.", func(c *bgp.Counters) uint64 { return c.TotalSent })
	count("total_received", "Messages received.", func(c *bgp.Counters) uint64 { return c.TotalReceived })
	return c
}

// Describe implements prometheus.Collector.
func (c *bgpCounters) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *bgpCounters) Collect(ch chan<- prometheus.Metric) {
	states := c.state()
	seen := map[[2]string]bool{}
	for i := range states {
		s := &states[i]
		labels := [2]string{s.Router, s.VRF}
		if seen[labels] {
			continue // two peers for one router; a scrape must not fail for that
		}
		seen[labels] = true
		for _, m := range c.metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), labels[0], labels[1])
		}
	}
}

// AddBGP registers the metrics of BGP sessions.
func (m *Metrics) AddBGP(state func() []bgp.SessionState) {
	m.Registry.MustRegister(newBGPCounters(state))
}
