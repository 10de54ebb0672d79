// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

func TestBGPMetrics(t *testing.T) {
	t.Parallel()
	states := []bgp.SessionState{
		{Peer: "tor", Router: "192.0.2.254:179", State: bgp.Established, Prefixes: 7, Counters: bgp.Counters{UpdatesSent: 3, OpensSent: 1}},
		{Peer: "tor-again", Router: "192.0.2.254:179", State: bgp.Active}, // two peers for one router
		{Peer: "red", Router: "eth1", VRF: "red", State: bgp.Active},
	}
	sessions := []bfd.Status{{Key: bfd.Key{Peer: netip.MustParseAddr("192.0.2.254")}, State: bfd.Up, Counters: bfd.Counters{Received: 5, Sent: 6, Ups: 1}}}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newBGPCounters(func() []bgp.SessionState { return states }), newBFDCounters(func() []bfd.Status { return sessions }))
	want := `
# HELP metallb_bfd_control_packet_input BFD packets received.
# TYPE metallb_bfd_control_packet_input counter
metallb_bfd_control_packet_input{peer="192.0.2.254",vrf=""} 5
# HELP metallb_bfd_session_up 1 when the BFD session is up.
# TYPE metallb_bfd_session_up gauge
metallb_bfd_session_up{peer="192.0.2.254",vrf=""} 1
# HELP metallb_bgp_announced_prefixes_total Prefixes that the peer has from this node.
# TYPE metallb_bgp_announced_prefixes_total gauge
metallb_bgp_announced_prefixes_total{peer="192.0.2.254:179",vrf=""} 7
metallb_bgp_announced_prefixes_total{peer="eth1",vrf="red"} 0
# HELP metallb_bgp_session_up 1 when the session is established.
# TYPE metallb_bgp_session_up gauge
metallb_bgp_session_up{peer="192.0.2.254:179",vrf=""} 1
metallb_bgp_session_up{peer="eth1",vrf="red"} 0
# HELP metallb_bgp_updates_total UPDATE messages sent.
# TYPE metallb_bgp_updates_total counter
metallb_bgp_updates_total{peer="192.0.2.254:179",vrf=""} 3
metallb_bgp_updates_total{peer="eth1",vrf="red"} 0
`
	names := []string{
		"metallb_bgp_session_up", "metallb_bgp_announced_prefixes_total", "metallb_bgp_updates_total",
		"metallb_bfd_session_up", "metallb_bfd_control_packet_input",
	}
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	states = nil
	if n, err := testutil.GatherAndCount(r, "metallb_bgp_session_up"); err != nil || n != 0 {
		t.Errorf("%d series of sessions that are gone, error %v", n, err)
	}
	all, err := r.Gather()
	if err != nil || len(all) == 0 {
		t.Errorf("%d metrics, error %v", len(all), err)
	}
}
