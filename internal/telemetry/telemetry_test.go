// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/telemetry"
)

func get(t *testing.T, m *telemetry.Metrics, p *telemetry.PlanPage, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	telemetry.Pages(m.Registry, p).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestPlanPageForTheHostOnly(t *testing.T) {
	t.Parallel()
	m, p := telemetry.NewControllerMetrics(), &telemetry.PlanPage{HostOnly: true}
	p.Set(func() telemetry.PlanView { return telemetry.PlanView{Plan: "the plan"} })
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 9120}
	for from, want := range map[string]int{
		"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "192.0.2.9:1": 200,
		"192.0.2.1:1": 403, "[fe80::1%eth0]:1": 403, "nonsense": 403,
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/debug/plan", nil)
		r.RemoteAddr = from
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		telemetry.Pages(m.Registry, p).ServeHTTP(w, r)
		if w.Code != want || (want != 200 && strings.Contains(w.Body.String(), "the plan")) {
			t.Errorf("from %s: status %d, want %d", from, w.Code, want)
		}
	}
}

func TestTableSeriesGoAway(t *testing.T) {
	t.Parallel()
	m := telemetry.NewControllerMetrics()
	m.Allocator.InUse.Set([]telemetry.Row{{Labels: []string{"b"}, Value: 2}, {Labels: []string{"a"}, Value: 1}})
	m.Allocator.InUse.Set([]telemetry.Row{{Labels: []string{"b"}, Value: 3}})
	_, body := get(t, m, &telemetry.PlanPage{}, "/metrics")
	if !strings.Contains(body, `metallb_allocator_addresses_in_use_total{pool="b"} 3`) {
		t.Error("the series of pool b is not there")
	}
	if strings.Contains(body, `pool="a"`) {
		t.Error("the series of pool a is still there")
	}
	want := []telemetry.Row{{Labels: []string{"b"}, Value: 3}}
	if diff := cmp.Diff(want, m.Allocator.InUse.Rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestL2Counters(t *testing.T) {
	t.Parallel()
	owned := []l2.AddressState{
		{IP: netip.MustParseAddr("192.0.2.1"), RequestsReceived: 7, ResponsesSent: 6, GratuitousSent: 5},
		{IP: netip.MustParseAddr("192.0.2.2")},
	}
	m := telemetry.NewSpeakerMetrics(func() l2.State { return l2.State{Addresses: owned} })
	_, body := get(t, m, &telemetry.PlanPage{}, "/metrics")
	for _, want := range []string{
		`metallb_layer2_requests_received{ip="192.0.2.1"} 7`, `metallb_layer2_responses_sent{ip="192.0.2.1"} 6`,
		`metallb_layer2_gratuitous_sent{ip="192.0.2.1"} 5`, `metallb_layer2_responses_sent{ip="192.0.2.2"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	owned = owned[1:]
	if _, body := get(t, m, &telemetry.PlanPage{}, "/metrics"); strings.Contains(body, "192.0.2.1") {
		t.Error("an address that is gone still has a series")
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	m := telemetry.NewControllerMetrics()
	m.Client.Round(time.Millisecond, errors.New("no"))
	_, body := get(t, m, &telemetry.PlanPage{}, "/metrics")
	for _, want := range []string{
		"metallb_k8s_client_updates_total 1", "metallb_k8s_client_update_errors_total 1",
		"metallb_k8s_client_config_loaded_bool 0", "metallb_k8s_client_config_stale_bool 1",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	m.Client.Round(time.Millisecond, nil)
	_, body = get(t, m, &telemetry.PlanPage{}, "/metrics")
	for _, want := range []string{"metallb_k8s_client_config_loaded_bool 1", "metallb_k8s_client_config_stale_bool 0"} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
}

func TestPlanPage(t *testing.T) {
	t.Parallel()
	m, p := telemetry.NewControllerMetrics(), &telemetry.PlanPage{}
	if code, _ := get(t, m, p, "/debug/plan"); code != 503 {
		t.Errorf("without a plan: status %d, want 503", code)
	}
	snap := &lb.Snapshot{Peers: []lb.Peer{{Name: "r1", Password: "opensesame", Address: netip.MustParseAddr("192.0.2.1")}}}
	p.Set(func() telemetry.PlanView { return telemetry.PlanView{Snapshot: snap, Plan: []string{"x"}} })
	code, body := get(t, m, p, "/debug/plan")
	if code != 200 || !json.Valid([]byte(body)) || !strings.Contains(body, `"192.0.2.1"`) {
		t.Errorf("status %d, body %s", code, body)
	}
	if strings.Contains(body, "opensesame") {
		t.Error("the page shows a password")
	}
	if snap.Peers[0].Password != "opensesame" {
		t.Error("the snapshot itself was changed")
	}
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"all": "d i w e", "debug": "d i w e", "info": "i w e", "": "i w e", "Warn": "w e", "error": "e", "none": ""} {
		level, err := telemetry.ParseLevel(in)
		if err != nil {
			t.Errorf("ParseLevel(%q): %v", in, err)
		}
		var b bytes.Buffer
		log := telemetry.NewLogger(&b, level)
		log.Debug("d")
		log.Info("i")
		log.Warn("w")
		log.Error("e")
		var got []string
		for line := range strings.Lines(b.String()) {
			var rec struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatalf("not JSON: %q", line)
			}
			got = append(got, rec.Msg)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("level %q lets through %q, want %q", in, s, want)
		}
	}
	if _, err := telemetry.ParseLevel("loud"); err == nil {
		t.Error("ParseLevel(loud) did not fail")
	}
}
