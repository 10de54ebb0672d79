// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"debug/elf"
	"debug/gosym"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLinked looks at what the linker put into this test, which is the whole
// speaker but for its command line. The rule about imports in internal/ sees
// only our own files; a library can bring these along as well.
func TestLinked(t *testing.T) {
	t.Parallel()
	heavy := []string{"sigs.k8s.io/controller-runtime", "k8s.io/client-go/kubernetes", "k8s.io/client-go/informers"}
	packages := linkedPackages(t)
	if !slices.Contains(packages, "k8s.io/client-go/rest") {
		t.Fatalf("client-go/rest is not among the %d packages found: this test no longer sees anything", len(packages))
	}
	for _, p := range packages {
		if slices.ContainsFunc(heavy, func(h string) bool { return p == h || strings.HasPrefix(p, h+"/") }) {
			t.Errorf("%s is linked (why: it registers all of Kubernetes' API; every node would pay 10 MB for it)", p)
		}
	}
}

// linkedPackages returns the packages of which this executable has a function.
func linkedPackages(t *testing.T) []string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	text, lines := f.Section(".text"), f.Section(".gopclntab")
	if text == nil || lines == nil {
		t.Fatal("the executable has no .text or no .gopclntab")
	}
	data, err := lines.Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var packages []string
	for i := range table.Funcs {
		if p := table.Funcs[i].PackageName(); !seen[p] {
			seen[p] = true
			packages = append(packages, p)
		}
	}
	return packages
}
