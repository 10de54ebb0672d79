// SPDX-License-Identifier: Apache-2.0

package internal_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// Each tree breaks one rule, so that the check is known to find it; the last ones break none.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		path string
		code string // after the licence line and the package comment
		want []string
	}{
		{"core imports kube", "internal/core/ipam/x.go", `package ipam; import _ "github.com/heraldlb/herald/internal/kube"`,
			[]string{"internal/core/ipam imports github.com/heraldlb/herald/internal/kube"}},
		{"core imports a library", "internal/core/ipam/x.go", `package ipam; import _ "go4.org/netipx"`,
			[]string{"only the standard library is allowed"}},
		{"core logs", "internal/core/ipam/x.go", `package ipam; import _ "log/slog"`, []string{"log/slog, which does I/O"}},
		{"core locks", "internal/core/ipam/x.go", `package ipam; import _ "sync"`, []string{"sync, which does I/O"}},
		{"core does network", "internal/core/l2/x.go", `package l2; import _ "net"`, []string{"net, which does I/O"}},
		{"core reads the clock", "internal/core/l2/x.go", "package l2; import \"time\"; var x = time.Now()", []string{"time.Now in internal/core/l2"}},
		{"core reads the clock by another name", "internal/core/l2/x.go", "package l2; import t \"time\"; var x = t.Now()",
			[]string{"time.Now in internal/core/l2"}},
		{"core starts a goroutine", "internal/core/l2/x.go", "package l2; func f() { go f() }", []string{"a goroutine in internal/core/l2"}},
		{"snapshot reads the clock", "internal/kube/snapshot/x.go", "package snapshot; import \"time\"; var x = time.Now()",
			[]string{"time.Now in internal/kube/snapshot"}},
		{"snapshot has a client", "internal/kube/snapshot/x.go", `package snapshot; import _ "k8s.io/client-go/kubernetes"`,
			[]string{"k8s.io/client-go/kubernetes, which only controller may", "imports k8s.io/client-go/kubernetes"}},
		{"kube has a clientset", "internal/kube/x.go", `package kube; import _ "k8s.io/client-go/kubernetes/typed/core/v1"`,
			[]string{"k8s.io/client-go/kubernetes/typed/core/v1, which only controller may"}},
		{"speaker has a manager", "speaker/x.go", `package speaker; import _ "sigs.k8s.io/controller-runtime/pkg/client"`,
			[]string{"sigs.k8s.io/controller-runtime/pkg/client, which only controller may"}},
		{"driver imports driver", "internal/driver/rawl2/x.go", `package rawl2; import _ "github.com/heraldlb/herald/internal/driver/links"`,
			[]string{"internal/driver/rawl2 imports github.com/heraldlb/herald/internal/driver/links"}},
		{"driver imports kube", "internal/driver/rawl2/x.go", `package rawl2; import _ "github.com/heraldlb/herald/internal/kube"`,
			[]string{"imports github.com/heraldlb/herald/internal/kube"}},
		{"driver knows Kubernetes", "internal/driver/rawl2/x.go", `package rawl2; import _ "k8s.io/api/core/v1"`,
			[]string{"imports k8s.io/api/core/v1"}},
		{"controller imports speaker", "controller/x.go", `package controller; import _ "github.com/heraldlb/herald/speaker"`,
			[]string{"controller imports github.com/heraldlb/herald/speaker"}},
		{"speaker imports controller", "speaker/x.go", `package speaker; import _ "github.com/heraldlb/herald/controller"`,
			[]string{"speaker imports github.com/heraldlb/herald/controller"}},
		{"a test of the speaker, too", "speaker/x_test.go", `package speaker; import _ "github.com/heraldlb/herald/controller"`,
			[]string{"speaker imports github.com/heraldlb/herald/controller"}},
		{"lab imports the product", "e2etest/lab/x.go", `package lab; import _ "github.com/heraldlb/herald/internal/core/lb"`,
			[]string{"e2etest/lab imports"}},
		{"second importer of memberlist", "speaker/x.go", `package speaker; import _ "github.com/hashicorp/memberlist"`,
			[]string{"which only internal/driver/gossip may"}},
		{"second importer of GoBGP", "internal/driver/bgptransport/x.go", `package bgptransport; import _ "github.com/osrg/gobgp/v3/api"`,
			[]string{"which only internal/driver/gobgp may"}},
		{"second importer of netlink", "speaker/x.go", `package speaker; import _ "github.com/vishvananda/netlink"`,
			[]string{"which only internal/driver/links and internal/netnstest may"}},
		{"init", "speaker/x.go", "package speaker; func init() {}", []string{"func init"}},
		{"exit in a library", "speaker/x.go", "package speaker; import \"os\"; func f() { os.Exit(1) }", []string{"os.Exit outside package main"}},
		{"own context in a library", "speaker/x.go", "package speaker; import \"context\"; var c = context.Background()",
			[]string{"context.Background outside package main"}},
		{"undeclared directory", "pkg/util/x.go", "package util", []string{"no layer is declared for directory pkg/util"}},

		{"core and core", "internal/core/ipam/x.go", `package ipam; import _ "github.com/heraldlb/herald/internal/core/lb"`, nil},
		{"core with addresses", "internal/core/ipam/x.go", `package ipam; import _ "net/netip"`, nil},
		{"core's tests compare", "internal/core/ipam/x_test.go", `package ipam; import _ "github.com/google/go-cmp/cmp"`, nil},
		{"core with durations", "internal/core/l2/x.go", "package l2; import \"time\"; const x = time.Second", nil},
		{"a method called init", "speaker/x.go", "package speaker; type t struct{}; func (t) init() {}", nil},
		{"a field called Now", "internal/core/l2/x.go", "package l2; type t struct{ Now int }; func f(time t) int { return time.Now }", nil},
		{"driver's tests in a namespace", "internal/driver/rawl2/x_test.go",
			`package rawl2; import _ "github.com/heraldlb/herald/internal/netnstest"`, nil},
		{"its importer", "internal/driver/gossip/x.go", `package gossip; import _ "github.com/hashicorp/memberlist"`, nil},
		{"controller has a manager", "controller/x.go", `package controller; import _ "sigs.k8s.io/controller-runtime/pkg/manager"`, nil},
		{"kube has informers", "internal/kube/x.go", `package kube; import _ "k8s.io/client-go/tools/cache"`, nil},
		{"exit in a program", "cmd/speaker/main.go", "package main; import \"os\"; func main() { os.Exit(1) }", nil},
		{"the lab with netlink", "e2etest/lab/x.go", `package lab; import _ "github.com/vishvananda/netlink"`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := "// SPDX-License-Identifier: Apache-2.0\n\n// Package x is a test case.\n" + tc.code + "\n"
			wantFindings(t, fstest.MapFS{tc.path: {Data: []byte(text)}}, tc.want)
		})
	}
}

func TestCheckPackages(t *testing.T) {
	t.Parallel()
	const licence = "// SPDX-License-Identifier: Apache-2.0\n\n"
	for _, tc := range []struct {
		name string
		tree map[string]string
		want []string
	}{
		{"no comment", map[string]string{"speaker/x.go": licence + "package speaker\n"}, []string{"package speaker has no package comment"}},
		{"no comment on a program", map[string]string{"e2etest/cmd/lab/x.go": licence + "package main\n"},
			[]string{"package main has no package comment"}},
		{"the licence is no comment", map[string]string{"speaker/x.go": "// SPDX-License-Identifier: Apache-2.0\npackage speaker\n"},
			[]string{"package speaker has no package comment"}},
		{"no licence", map[string]string{"speaker/x.go": "// Package speaker speaks.\npackage speaker\n"}, []string{"does not begin with"}},
		{"comment in another file", map[string]string{
			"speaker/a.go": licence + "package speaker\n", "speaker/doc.go": licence + "// Package speaker speaks.\npackage speaker\n",
			"speaker/a_test.go": licence + "package speaker_test\n",
		}, nil},
		{"not ours to read", map[string]string{"bin/x.go": "package x", ".git/x.go": "package x", "api/testdata/x.go": "package x"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{}
			for p, text := range tc.tree {
				tree[p] = &fstest.MapFile{Data: []byte(text)}
			}
			wantFindings(t, tree, tc.want)
		})
	}
}

func TestOversized(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{
		"a/big.go":       {Data: []byte("package a\n" + strings.Repeat("//\n", 400))},
		"a/func.go":      {Data: []byte("package a\nfunc f() {\n" + strings.Repeat("//\n", 60) + "}\n")},
		"a/interface.go": {Data: []byte("package a\ntype i interface { a(); b(); c(); d(); e(); f() }\n")},
		"a/small.go":     {Data: []byte("package a\nfunc g() {}\ntype j interface { a() }\n")},
		"a/generated.go": {Data: []byte("// Code generated by x; DO NOT EDIT.\n\npackage a\n" + strings.Repeat("//\n", 400))},
	}
	files, err := load(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a/big.go has 401 lines (400)",
		"a/func.go:2: func f has 62 lines (60)",
		"a/interface.go:2: an interface has 6 methods (5)",
	}
	if diff := cmp.Diff(want, oversized(files)); diff != "" {
		t.Errorf("oversized (-want +got):\n%s", diff)
	}
}

// wantFindings checks that the tree has exactly the findings in want, each given by a part of its text, with a reason.
func wantFindings(t *testing.T, tree fstest.MapFS, want []string) {
	t.Helper()
	files, err := load(tree)
	if err != nil {
		t.Fatal(err)
	}
	got := check(files, houseRules())
	if len(got) != len(want) {
		t.Fatalf("findings: want %d like %q, got %d: %v", len(want), want, len(got), got)
	}
	for i, w := range want {
		if !strings.Contains(got[i].what, w) {
			t.Errorf("finding %d: want a text with %q, got %q", i, w, got[i])
		}
		if got[i].why == "" {
			t.Errorf("finding %d says no reason: %q", i, got[i])
		}
	}
}
