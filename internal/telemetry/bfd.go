// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

// bfdCounters shows BFD sessions, each with the labels peer and vrf.
type bfdCounters struct {
	state   func() []bfd.Status
	metrics []bfdMetric
}

type bfdMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*bfd.Status) float64
}

func newBFDCounters(state func() []bfd.Status) *bfdCounters {
	c := &bfdCounters{state: state}
	add := func(name, help string, kind prometheus.ValueType, value func(*bfd.Status) float64) {
		c.metrics = append(c.metrics, bfdMetric{prometheus.NewDesc("metallb_bfd_"+name, help, []string{"peer", "vrf"}, nil), kind, value})
	}
	add("session_up", "1 when the BFD session is up.", prometheus.GaugeValue, func(s *bfd.Status) float64 {
		if s.State == bfd.Up {
			return 1
		}
		return 0
	})
	add("control_packet_input", "BFD packets received.", prometheus.CounterValue, func(s *bfd.Status) float64 { return float64(s.Received) })
	add("control_packet_output", "BFD packets sent.", prometheus.CounterValue, func(s *bfd.Status) float64 { return float64(s.Sent) })
	add("session_up_events", "How often the BFD session came up.", prometheus.CounterValue, func(s *bfd.Status) float64 { return float64(s.Ups) })
	add("session_down_events", "How often the BFD session went down.", prometheus.CounterValue, func(s *bfd.Status) float64 { return float64(s.Downs) })
	return c
}

// Describe implements prometheus.Collector.
func (c *bfdCounters) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *bfdCounters) Collect(ch chan<- prometheus.Metric) {
	seen := map[[2]string]bool{}
	states := c.state()
	for i := range states {
		s := &states[i]
		labels := [2]string{s.Key.Peer.String(), s.Key.Device}
		if seen[labels] {
			continue // sessions from two source addresses; a scrape must not fail for that
		}
		seen[labels] = true
		for _, m := range c.metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), labels[0], labels[1])
		}
	}
}

// AddBFD registers the metrics of BFD sessions.
func (m *Metrics) AddBFD(state func() []bfd.Status) {
	m.Registry.MustRegister(newBFDCounters(state))
}
