// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/core/l2"
)

// l2Counters shows the packet counters of the responder, which keeps them
// itself because counting must cost nothing there. An address that is no
// longer announced has no series.
type l2Counters struct {
	state                           func() l2.State
	requests, responses, gratuitous *prometheus.Desc
}

func newL2Counters(state func() l2.State) *l2Counters {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("metallb_layer2_"+name, help, []string{"ip"}, nil)
	}
	return &l2Counters{
		state:      state,
		requests:   desc("requests_received", "ARP requests and neighbour solicitations for an address that this node owns."),
		responses:  desc("responses_sent", "ARP replies and neighbour advertisements sent in answer."),
		gratuitous: desc("gratuitous_sent", "Gratuitous ARP packets and unsolicited neighbour advertisements sent."),
	}
}

// Describe implements prometheus.Collector.
func (c *l2Counters) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.requests
	ch <- c.responses
	ch <- c.gratuitous
}

// Collect implements prometheus.Collector.
func (c *l2Counters) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, n uint64, ip string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), ip)
	}
	for _, a := range c.state().Addresses {
		ip := a.IP.String()
		send(c.requests, a.RequestsReceived, ip)
		send(c.responses, a.ResponsesSent, ip)
		send(c.gratuitous, a.GratuitousSent, ip)
	}
}
