// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/checker"
	"github.com/heraldlb/herald/e2etest/lab"
)

func TestParseLab(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args string
		key  string
		want lab.Options
		err  string
	}{
		"defaults": {"", "a", lab.Options{}, ""},
		"everything": {
			"name=b nodes=2 clients=3 proxy=iptables families=dual namespace=lb grace=10s set=x=y install=no", "b",
			lab.Options{Nodes: 2, Clients: 3, ProxyMode: "iptables", Families: "dual", Namespace: "lb", MonitorGrace: "10s",
				ChartValues: []string{"x=y"}, NoInstall: true}, ""},
		"cables": {"behind=client1=tor behind=far=tor link=node1=tor", "a",
			lab.Options{Behind: map[string]string{"client1": "tor", "far": "tor"}, Links: []lab.Link{{Node: "node1", Router: "tor"}}}, ""},
		"half a cable":   {"link=node1", "", lab.Options{}, `want NODE=ROUTER`},
		"behind nothing": {"behind=client1=", "", lab.Options{}, `want HOST=ROUTER`},
		"not a number":   {"nodes=many", "", lab.Options{}, `"nodes=many"`},
		"unknown option": {"color=red", "", lab.Options{}, "no such option"},
		"no value":       {"nodes", "", lab.Options{}, "want KEY=VALUE"},
		"not a time":     {"grace=10", "", lab.Options{}, "missing unit"},
		"neither nor":    {"install=maybe", "", lab.Options{}, "want yes or no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, got, err := parseLab(strings.Fields(tc.args))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil || key != tc.key {
				t.Fatalf("key %q, error %v; want %q", key, err, tc.key)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTrial(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		args []string
		out  string
		err  error
		ok   bool
	}{
		"success":                         {[]string{"kubectl"}, "", nil, true},
		"failure":                         {[]string{"kubectl"}, "", boom, false},
		"match":                           {[]string{"-match", "^b$", "kubectl"}, "a\nb\n", nil, true},
		"no match":                        {[]string{"-match", "^c$", "kubectl"}, "a\nb\n", nil, false},
		"match, but not this":             {[]string{"-match", "a", "-not", "b", "kubectl"}, "a\nb\n", nil, false},
		"must fail and does":              {[]string{"!", "kubectl"}, "", boom, true},
		"must fail and does not":          {[]string{"!", "kubectl"}, "", nil, false},
		"must fail saying":                {[]string{"-match", "boom", "!", "kubectl"}, "", boom, true},
		"must fail saying something else": {[]string{"-match", "bang", "!", "kubectl"}, "", boom, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, err := parseTrial(tc.args, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.check(tc.out, tc.err); (err == nil) != tc.ok {
				t.Errorf("check says %v, want success %v", err, tc.ok)
			}
		})
	}
	for _, bad := range [][]string{{}, {"!"}, {"-for", "soon", "kubectl"}, {"-match", "(", "kubectl"}, {"-maybe", "x", "kubectl"}, {"-for"}} {
		if _, err := parseTrial(bad, time.Second); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	tries := 0
	if err := poll(t.Context(), time.Minute, func() error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("error %v after %d tries, want success after 3", err, tries)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := poll(ctx, time.Minute, func() error { return errors.New("the reason") }); err == nil ||
		!strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v does not show the last try", err)
	}
}

type fakeOverlaps struct {
	d     time.Duration
	heard int
}

func (f fakeOverlaps) Overlaps() ([]checker.Overlap, error) {
	return []checker.Overlap{{From: time.Unix(0, 0), To: time.Unix(0, 0).Add(f.d)}}, nil
}
func (f fakeOverlaps) Explain(o checker.Overlap) string { return fmt.Sprint(o.Duration()) }
func (f fakeOverlaps) Heard() int                       { return f.heard }

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		saw, limit time.Duration
		expected   bool
		ok         bool
	}{
		{0, defaultOverlap, false, true},
		{100 * time.Millisecond, defaultOverlap, false, true},
		{101 * time.Millisecond, defaultOverlap, false, false},
		{101 * time.Millisecond, time.Second, false, true},
		{5 * time.Second, defaultOverlap, true, true},
		{50 * time.Millisecond, defaultOverlap, true, false},
	} {
		s := &session{opts: Options{Trace: io.Discard}, limit: tc.limit, expected: tc.expected, announced: true}
		if err := s.judge(fakeOverlaps{tc.saw, 1}); (err == nil) != tc.ok {
			t.Errorf("overlap %v, limit %v, expected %v: %v, want success %v", tc.saw, tc.limit, tc.expected, err, tc.ok)
		}
	}
	s := &session{opts: Options{Trace: io.Discard}, limit: defaultOverlap, announced: true}
	if err := s.judge(fakeOverlaps{0, 0}); err == nil {
		t.Error("a checker that heard nobody proves nothing")
	}
}

func TestLabName(t *testing.T) {
	t.Parallel()
	if got := labName("a-scenario-with-a-very-long-name", "a"); len(got) > 32 || !strings.HasPrefix(got, "a-scenario-with-") {
		t.Errorf("%q is no name for a lab", got)
	}
}
