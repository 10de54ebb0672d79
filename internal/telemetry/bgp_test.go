// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/core/l2"
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

// TestAllBGPMetrics: every metric of BGP and BFD that MetalLB has is served for
// a peer, with its own value, and is gone when the peer is.
func TestAllBGPMetrics(t *testing.T) {
	t.Parallel()
	states := []bgp.SessionState{{Peer: "tor", Router: "192.0.2.254:179", VRF: "red", State: bgp.Established, Prefixes: 2, Counters: bgp.Counters{
		UpdatesSent: 3, OpensSent: 4, OpensReceived: 5, NotificationsSent: 6, KeepalivesSent: 7, KeepalivesReceived: 8, RefreshesSent: 9, TotalSent: 10, TotalReceived: 11,
		UpdatesReceived: 98, RefreshesReceived: 99,
	}}}
	sessions := []bfd.Status{{
		Key: bfd.Key{Peer: netip.MustParseAddr("192.0.2.254"), Device: "red"}, State: bfd.Up, Counters: bfd.Counters{Received: 12, Sent: 13, Ups: 14, Downs: 15, Dropped: 97},
	}}
	m := NewSpeakerMetrics(func() l2.State { return l2.State{} })
	m.AddBGP(func() []bgp.SessionState { return states })
	m.AddBFD(func() []bfd.Status { return sessions })
	want := map[string]float64{
		"metallb_bgp_session_up": 1, "metallb_bgp_announced_prefixes_total": 2, "metallb_bgp_updates_total": 3, "metallb_bgp_opens_sent": 4,
		"metallb_bgp_opens_received": 5, "metallb_bgp_notifications_sent": 6, "metallb_bgp_keepalives_sent": 7, "metallb_bgp_keepalives_received": 8,
		"metallb_bgp_route_refresh_sent": 9, "metallb_bgp_total_sent": 10, "metallb_bgp_total_received": 11,
		"metallb_bfd_session_up": 1, "metallb_bfd_control_packet_input": 12, "metallb_bfd_control_packet_output": 13,
		"metallb_bfd_session_up_events": 14, "metallb_bfd_session_down_events": 15,
	}
	got := map[string]float64{}
	served := func() {
		t.Helper()
		clear(got)
		families, err := m.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "metallb_bgp_") && !strings.HasPrefix(f.GetName(), "metallb_bfd_") {
				continue
			}
			for _, x := range f.GetMetric() {
				got[f.GetName()] = x.GetCounter().GetValue() + x.GetGauge().GetValue()
				peer := map[bool]string{true: "192.0.2.254:179", false: "192.0.2.254"}[strings.HasPrefix(f.GetName(), "metallb_bgp_")]
				if l := x.GetLabel(); len(l) != 2 || l[0].GetName() != "peer" || l[0].GetValue() != peer || l[1].GetName() != "vrf" || l[1].GetValue() != "red" {
					t.Errorf("%s has the labels %v", f.GetName(), l)
				}
			}
		}
	}
	served()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	states, sessions = nil, nil
	served()
	if len(got) > 0 {
		t.Errorf("of a peer that is gone there is still %v", got)
	}
}
