// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestSettleHealth: a Service named "local" has port 30000, others have none.
func TestSettleHealth(t *testing.T) {
	t.Parallel()
	const (
		unknown    = bgp.HealthUnknown
		notServing = bgp.HealthNotServing
		serving    = bgp.HealthServing
		delay      = 25 * time.Millisecond
	)
	type step struct {
		at     time.Duration
		wanted string
		health bgp.Health
		due    string
		again  time.Duration
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"the first plan waits for nothing", []step{{0, "local web", unknown, "local web", 0}}},
		{"without a port the delay is all", []step{
			{0, "", unknown, "", 0},
			{time.Second, "web", unknown, "", delay},
			{time.Second + delay, "web", unknown, "web", 0},
		}},
		{"kube-proxy says when", []step{
			{0, "", unknown, "", 0},
			{time.Second, "local web", unknown, "", delay},
			{time.Second + delay, "local web", unknown, "web", bgp.SilenceLimit - delay},
			{1900 * time.Millisecond, "local web", notServing, "web", 9100 * time.Millisecond},
			{1950 * time.Millisecond, "local web", serving, "local web", 0},
			{2 * time.Second, "local web", notServing, "local web", 0}, // once is enough
		}},
		{"the delay counts for all", []step{
			{0, "", unknown, "", 0},
			{time.Second, "local", serving, "", delay},
			{time.Second + delay, "local", serving, "local", 0},
		}},
		{"nobody answers", []step{
			{0, "", unknown, "", 0},
			{time.Second, "local", unknown, "", bgp.SilenceLimit},
			{time.Second + bgp.SilenceLimit, "local", unknown, "local", 0},
		}},
		{"kube-proxy never serves", []step{
			{0, "", unknown, "", 0},
			{time.Second, "local", notServing, "", bgp.NotServingLimit},
			{time.Second + bgp.NotServingLimit, "local", notServing, "local", 0},
		}},
		{"who was away starts anew", []step{
			{0, "local", unknown, "local", 0},
			{time.Second, "", unknown, "", 0},
			{5 * time.Second, "local", notServing, "", bgp.NotServingLimit},
		}},
		{"what kube-proxy says at once of who was away for a moment may be old", []step{
			{0, "local web", unknown, "local web", 0},
			{time.Second, "", unknown, "", 0},
			{1500 * time.Millisecond, "local web", serving, "", delay},
			{1500*time.Millisecond + delay, "local web", serving, "web", bgp.SilenceLimit - delay},
			{3500 * time.Millisecond, "local web", serving, "local web", 0},
			{9 * time.Second, "", unknown, "", 0},
			{10 * time.Second, "", unknown, "", 0},
			{11 * time.Second, "local", serving, "", delay}, // this is long enough
			{11*time.Second + delay, "local", serving, "local", 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Unix(1_000_000, 0)
			var health bgp.Health
			s := bgp.Settle{Delay: delay, Health: func(uint16) bgp.Health { return health }}
			for _, st := range tt.steps {
				health = st.health
				due, again := s.Step(announcements(st.wanted), start.Add(st.at))
				if got := say(due); got != st.due || again != st.again {
					t.Errorf("after %v: due %q, again in %v, want %q and %v", st.at, got, again, st.due, st.again)
				}
				held := strings.Contains(st.wanted, "local") && !strings.Contains(st.due, "local")
				if asked := len(s.Ports()) == 1 && s.Ports()[0] == 30000; asked != held {
					t.Errorf("after %v: asked at %v, but held: %v", st.at, s.Ports(), held)
				}
			}
		})
	}
}

func announcements(names string) (out []announce.Announcement) {
	for _, name := range strings.Fields(names) {
		a := announce.Announcement{Service: lb.ServiceKey{Namespace: "ns", Name: name}, Address: netip.MustParseAddr("192.0.2.1")}
		if name == "local" {
			a.HealthPort = 30000
		}
		out = append(out, a)
	}
	return out
}

func say(as []announce.Announcement) string {
	var names []string
	for _, a := range as {
		names = append(names, a.Service.Name)
	}
	return strings.Join(names, " ")
}
