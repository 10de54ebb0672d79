// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/liveness"
	"github.com/heraldlb/herald/internal/telemetry"
)

func TestSpeakers(t *testing.T) {
	t.Parallel()
	m := telemetry.NewSpeakerMetrics(func() l2.State { return l2.State{} })
	m.AddSpeakers(func() (liveness.State, telemetry.Heartbeats) {
		return liveness.State{
			CutOff: true, Late: 20 * time.Millisecond,
			Nodes: []liveness.NodeState{{Node: "a", Up: true}, {Node: "b"}},
		}, telemetry.Heartbeats{Sent: 3, Received: 2, Rejected: 1}
	})
	const want = `
# HELP herald_heartbeat_late_seconds How late the timers of this speaker were at most in the last seconds; above 0.1 its node is too busy.
# TYPE herald_heartbeat_late_seconds gauge
herald_heartbeat_late_seconds 0.02
# HELP herald_heartbeats_rejected_total Datagrams that were no valid heartbeat: of another secret, or old.
# TYPE herald_heartbeats_rejected_total counter
herald_heartbeats_rejected_total 1
# HELP herald_speaker_cut_off_bool 1 when no other speaker is heard: this node may be cut off, or all others are dead.
# TYPE herald_speaker_cut_off_bool gauge
herald_speaker_cut_off_bool 1
# HELP herald_speakers_alive Other speakers that are alive.
# TYPE herald_speakers_alive gauge
herald_speakers_alive 1
# HELP herald_speakers_known Other speakers that are alive, or were lost without goodbye and may come back.
# TYPE herald_speakers_known gauge
herald_speakers_known 2
`
	err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want),
		"herald_heartbeat_late_seconds", "herald_heartbeats_rejected_total", "herald_speaker_cut_off_bool", "herald_speakers_alive", "herald_speakers_known")
	if err != nil {
		t.Error(err)
	}
}
