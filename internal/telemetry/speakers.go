// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/core/liveness"
)

// Heartbeats counts datagrams between speakers.
type Heartbeats struct {
	Sent, Received, Rejected uint64
}

// speakerCounters shows what a speaker knows of the others.
type speakerCounters struct {
	state                                             func() (liveness.State, Heartbeats)
	known, alive, cutOff, late, sent, taken, rejected *prometheus.Desc
}

// AddSpeakers registers the metrics about other speakers.
func (m *Metrics) AddSpeakers(state func() (liveness.State, Heartbeats)) {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("herald_"+name, help, nil, nil) }
	m.Registry.MustRegister(&speakerCounters{
		state:    state,
		known:    desc("speakers_known", "Other speakers that are alive, or were lost without goodbye and may come back."),
		alive:    desc("speakers_alive", "Other speakers that are alive."),
		cutOff:   desc("speaker_cut_off_bool", "1 when no other speaker is heard: this node may be cut off, or all others are dead."),
		late:     desc("heartbeat_late_seconds", "How late the timers of this speaker were at most in the last seconds; above 0.1 its node is too busy."),
		sent:     desc("heartbeats_sent_total", "Heartbeats sent to other speakers."),
		taken:    desc("heartbeats_received_total", "Heartbeats received from other speakers."),
		rejected: desc("heartbeats_rejected_total", "Datagrams that were no valid heartbeat: of another secret, or old."),
	})
}

// Describe implements prometheus.Collector.
func (c *speakerCounters) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.known, c.alive, c.cutOff, c.late, c.sent, c.taken, c.rejected} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *speakerCounters) Collect(ch chan<- prometheus.Metric) {
	s, n := c.state()
	alive, cutOff := 0, 0
	for _, node := range s.Nodes {
		if node.Up {
			alive++
		}
	}
	if s.CutOff {
		cutOff = 1
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(c.known, float64(len(s.Nodes)))
	gauge(c.alive, float64(alive))
	gauge(c.cutOff, float64(cutOff))
	gauge(c.late, s.Late.Seconds())
	count(c.sent, n.Sent)
	count(c.taken, n.Received)
	count(c.rejected, n.Rejected)
}
