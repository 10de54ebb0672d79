// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// cells is how many kinds of sessions are tested with routers: 15 with FRR, 14 with BIRD.
const cells = 29

// TestMatrix: every cell of the table of routers in the scenarios' README is a step of the scenario that it names.
func TestMatrix(t *testing.T) {
	t.Parallel()
	const dir = "../scenarios"
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(line, "|")
		if len(columns) != 6 || columns[2] == " FRR " || strings.HasPrefix(line, "|-") {
			continue
		}
		cell := strings.TrimSpace(columns[1])
		for i, router := range []string{"FRR", "BIRD"} {
			file := strings.TrimSpace(columns[2+i])
			if file == "" {
				continue
			}
			found++
			a, err := txtar.ParseFile(filepath.Join(dir, file+".txtar"))
			if err != nil {
				t.Errorf("%s, %s: %v", cell, router, err)
			} else if !hasStep(string(a.Comment), cell, router) {
				t.Errorf("%s.txtar: no comment begins with %q and names %s", file, "# "+cell+",", router)
			}
		}
	}
	if found != cells {
		t.Errorf("the table has %d cells, want %d", found, cells)
	}
}

// hasStep reports whether a scenario has a comment such as "# cell, FRR and BIRD: ...".
func hasStep(scenario, cell, router string) bool {
	for line := range strings.Lines(scenario) {
		rest, ok := strings.CutPrefix(line, "# "+cell+", ")
		routers, _, _ := strings.Cut(rest, ":")
		if ok && strings.Contains(routers, router) {
			return true
		}
	}
	return false
}
