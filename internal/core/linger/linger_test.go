// SPDX-License-Identifier: Apache-2.0

package linger_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/linger"
)

var vip = netip.MustParseAddr("192.0.2.1")

func nodes(names string) (out []announce.Candidate) {
	for _, n := range strings.Fields(names) {
		out = append(out, announce.Candidate{Node: lb.NodeName(n), Score: 50})
	}
	return out
}

func local(candidates, draining string) announce.Group {
	return announce.Group{Key: vip, Addresses: []netip.Addr{vip}, Local: true, Candidates: nodes(candidates), Draining: nodes(draining)}
}

// say writes candidates in the order in which ownership asks them: by score. Equals stand together.
func say(cs []announce.Candidate) string {
	var ripe, fresh, draining []string
	for _, c := range cs {
		switch {
		case c.Score == 50:
			ripe = append(ripe, string(c.Node))
		case c.Score > 50-2<<24:
			fresh = append(fresh, string(c.Node))
		default:
			draining = append(draining, string(c.Node))
		}
	}
	return strings.Join(ripe, " ") + "|" + strings.Join(fresh, " ") + "|" + strings.Join(draining, " ")
}

func TestApply(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	type step struct {
		at         time.Duration
		candidates string
		draining   string
		want       string        // ripe|fresh|draining
		next       time.Duration // -1: never
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a single Pod is replaced", []step{
			{0, "n1", "", "n1||", -1},
			{10 * time.Second, "n2", "n1", "n2||n1", 12 * time.Second},
			{11999 * time.Millisecond, "n2", "n1", "n2||n1", 12 * time.Second},
			{12 * time.Second, "n2", "n1", "n2||", -1},
		}},
		{"its end comes earlier", []step{
			{0, "n1", "", "n1||", -1},
			{10 * time.Second, "n2", "n1", "n2||n1", 12 * time.Second},
			{11 * time.Second, "n2", "", "n2||", -1},
		}},
		{"another node has served for long", []step{
			{0, "n1 n2", "", "n1 n2||", -1},
			{10 * time.Second, "n2", "n1", "n2||", -1},
		}},
		{"the new one comes last", []step{
			{0, "n1 n2", "", "n1 n2||", -1},
			{10 * time.Second, "n2 n3", "n1", "n2|n3|", 12 * time.Second},
			{12 * time.Second, "n2 n3", "n1", "n2 n3||", -1},
		}},
		{"at the beginning all are equal", []step{
			{0, "n1 n2", "", "n1 n2||", -1},
			{time.Second, "n1 n2 n3", "", "n1 n2 n3||", -1},
			{2 * time.Second, "n1 n2 n3", "", "n1 n2|n3|", 3 * time.Second},
		}},
		{"who was away starts anew", []step{
			{0, "n1 n2", "", "n1 n2||", -1},
			{10 * time.Second, "n1", "", "n1||", -1},
			{20 * time.Second, "n1 n2", "", "n1|n2|", 22 * time.Second},
		}},
		{"nobody", []step{{0, "", "", "||", -1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m linger.Machine
			for _, s := range tt.steps {
				plan := []announce.Group{local(s.candidates, s.draining)}
				out, next := m.Apply(start.Add(s.at), plan)
				if got := say(out[0].Candidates); got != s.want {
					t.Errorf("after %v: %s, want %s", s.at, got, s.want)
				}
				want := time.Time{}
				if s.next >= 0 {
					want = start.Add(s.next)
				}
				if !next.Equal(want) {
					t.Errorf("after %v: next look at %v, want %v", s.at, next, want)
				}
				if diff := cmp.Diff(nodes(s.candidates), plan[0].Candidates); diff != "" {
					t.Errorf("after %v: the plan was changed (-want +got):\n%s", s.at, diff)
				}
			}
		})
	}
}

// TestApplyLeavesOthers: with externalTrafficPolicy Cluster it does not depend on the candidates' endpoints what they can do.
func TestApplyLeavesOthers(t *testing.T) {
	t.Parallel()
	var m linger.Machine
	other := local("n1", "")
	other.Local = false
	for i, candidates := range []string{"n1", "n1 n2", "n1 n2 n3"} {
		other.Candidates = nodes(candidates)
		out, next := m.Apply(time.Unix(1_000_000+int64(3*i), 0), []announce.Group{other})
		if diff := cmp.Diff(nodes(candidates), out[0].Candidates); diff != "" || !next.IsZero() {
			t.Errorf("next %v (-want +got):\n%s", next, diff)
		}
	}
}
