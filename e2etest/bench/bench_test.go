// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	missed, err := Table(&out, []Result{
		{"alloc_burst_ratio_1000", 1.0449, "ratio"},
		{"controller_rss_mb_1000", 61.25, "MB"},
		{"l2_cable_cut_client_p50_ms", 843.4, "ms"},
		{"idle_writes_per_minute", 0, "writes/min"},
	}, Targets())
	if err != nil || missed != 1 {
		t.Errorf("%d missed, error %v; want 1", missed, err)
	}
	want := `NAME                        VALUE  UNIT        TARGET       
alloc_burst_ratio_1000      1.045  ratio       at most 1.1  ok
controller_rss_mb_1000      61.25  MB          at most 60   MISSED
l2_cable_cut_client_p50_ms  843    ms                       
idle_writes_per_minute      0      writes/min  at most 0    ok
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := WriteJSON(&out, []Result{{"a", 1.5, "ms"}, {"b", 0, "ratio"}}); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"a","value":1.5,"unit":"ms"}` + "\n" + `{"name":"b","value":0,"unit":"ratio"}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("JSON lines (-want +got):\n%s", diff)
	}
}

// Every target belongs to something that is measured.
func TestTargets(t *testing.T) {
	t.Parallel()
	var names []string
	for _, g := range groups() {
		names = append(names, g.names...)
	}
	for _, target := range Targets() {
		if !slices.Contains(names, target.Name) {
			t.Errorf("nothing measures %s", target.Name)
		}
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	count := func(o Options) (n int) {
		for _, g := range groups() {
			if o.wants(g) {
				n++
			}
		}
		return n
	}
	for name, tc := range map[string]struct {
		o    Options
		want int
	}{
		"all":                      {Options{}, 6},
		"by name":                  {Options{Run: regexp.MustCompile("arp_reply")}, 1},
		"by several names":         {Options{Run: regexp.MustCompile("arp_reply|cut")}, 2},
		"another's plans are ours": {Options{Manifests: []string{"x.yaml"}}, 5},
	} {
		if got := count(tc.o); got != tc.want {
			t.Errorf("%s: %d groups, want %d", name, got, tc.want)
		}
	}
}

func TestNsPerOp(t *testing.T) {
	t.Parallel()
	got := nsPerOp(`goos: linux
BenchmarkPlan10k-2   	      20	   5234567 ns/op	 1024 B/op
BenchmarkPlan10k/nodes=10-2   	      20	   6000000.5 ns/op
BenchmarkFill65k-2   	       1	 100000000 ns/op
PASS
`, "Plan10k")
	if diff := cmp.Diff([]float64{5234567, 6000000.5}, got); diff != "" {
		t.Errorf("ns/op (-want +got):\n%s", diff)
	}
}

func TestRSS(t *testing.T) {
	t.Parallel()
	got, err := rss("Name:\tspeaker\nVmHWM:\t   60000 kB\nVmRSS:\t   50000 kB\nThreads:\t9\n")
	if err != nil || got != 51.2 {
		t.Errorf("got %v MB, error %v; want 51.2", got, err)
	}
	if _, err := rss("Name:\tkthreadd\n"); err == nil {
		t.Error("a process without memory must be an error")
	}
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	want := map[string]string{"controller": "bin/mc", "speaker": "/src/bin/speaker"}
	got := programs(Options{Root: "/src", Images: map[string]string{"quay.io/metallb/controller": "bin/mc"}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	got, err := cpuTime("42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 1")
	if err != nil || got != 2*time.Second {
		t.Errorf("got %v, error %v; want 2s", got, err)
	}
	if _, err := cpuTime("42 (x) S 1"); err == nil {
		t.Error("want an error when the times are missing")
	}
	if got := variable("A=1\x00HOSTNAME=node1\x00B=2", "HOSTNAME"); got != "node1" {
		t.Errorf("host %q, want node1", got)
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	procs := map[int]process{
		1:  {0, "/sbin/init", "host"},
		10: {1, "/lab", "lab"},
		20: {10, "/speaker", "container"},
		30: {1, "/speaker", "elsewhere"},
	}
	for pid, want := range map[int]bool{20: true, 10: true, 30: false, 99: false} {
		if got := below(procs, pid, "lab"); got != want {
			t.Errorf("process %d is below the lab: %v, want %v", pid, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for run, ok := range map[string]bool{".": true, "rss|none": true, "zzz": false} {
		if err := (Options{Run: regexp.MustCompile(run)}).Validate(); (err == nil) != ok {
			t.Errorf("--run %s: %v", run, err)
		}
	}
	err := Options{Run: regexp.MustCompile("plan"), Manifests: []string{"other.yaml"}}.Validate()
	if want := `"plan" matches no value; there are: alloc_burst_ratio_1000, `; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("another implementation's plans: %v\nwant: %s...", err, want)
	}
}
