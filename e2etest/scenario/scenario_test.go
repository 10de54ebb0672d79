// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	breakFlag     = flag.Bool("break", false, "stop at the end of every scenario until the operator goes on")
	breakFailure  = flag.Bool("break-on-failure", false, "stop when a scenario fails until the operator goes on")
	printCommands = flag.Bool("commands", false, "print the commands of the scenarios, and run none (go test shows what is printed only with -v)")
)

func TestScenarios(t *testing.T) {
	if *printCommands {
		t.Skip("only the commands were asked for")
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("scenarios need root, and CI must not skip them")
		}
		t.Skip("SKIPPED: scenarios need root (network namespaces)")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	artefacts := os.Getenv("HERALD_ARTEFACTS")
	if artefacts == "" {
		artefacts = filepath.Join(os.TempDir(), "herald-scenarios")
	}
	o := Options{
		Dir:            filepath.Join(root, "e2etest", "scenarios"),
		Root:           root,
		Artefacts:      artefacts,
		Break:          *breakFlag,
		BreakOnFailure: *breakFailure,
	}
	if testing.Verbose() {
		o.Trace = os.Stderr
	}
	testscript.Run(t, Params(t.Context(), o))
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for name, c := range commands() {
		if c.help == "" || c.run == nil {
			t.Errorf("command %s has no help or does nothing", name)
		}
	}
	if *printCommands {
		Commands(os.Stdout)
	}
}
