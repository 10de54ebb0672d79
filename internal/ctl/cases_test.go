// SPDX-License-Identifier: Apache-2.0

package ctl_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

var update = flag.Bool("update", false, "write what is said into the cases")

// now is when the reading is made.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestCases runs testdata/*.txtar. Each file has a sentence on top, then
// sections: one or more named cluster, whose objects are in an API server, and
// for each question a section named as on the command line, with the answer:
//
//	-- three nodes --               stands for the objects of three-nodes.yaml
//	-- cluster --                   YAML, as kubectl apply takes it
//	-- explain service shop/web --
//	-- addresses -o wide --
//
// The same question is asked again of a dump, in both formats, and must have
// the same answer.
func TestCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runCase(t, file)
		})
	}
}

func runCase(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(archive.Comment)) == "" {
		t.Error("the case has no sentence on top")
	}
	var objects strings.Builder
	asked := 0
	for i := range archive.Files {
		f := &archive.Files[i]
		if f.Name == "cluster" || f.Name == "three nodes" {
			objects.WriteString("---\n" + string(f.Data))
			if f.Name == "three nodes" {
				objects.WriteString(threeNodes(t))
			}
			continue
		}
		asked++
		args := strings.Fields(f.Name)
		live := read(t, objects.String(), args)
		got := answer(t, live, args)
		for _, format := range []string{"yaml", "json"} {
			if diff := cmp.Diff(got, answer(t, reload(t, live, format), args)); diff != "" {
				t.Errorf("%s: a dump in %s says something else (-live +dump):\n%s", f.Name, format, diff)
			}
		}
		if *update {
			f.Data = []byte(got)
		} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	if asked == 0 {
		t.Error("the case asks nothing")
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func threeNodes(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/three-nodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// read reads the cluster as the command of that name does.
func read(t *testing.T, objects string, args []string) *ctl.Cluster {
	t.Helper()
	opt := ctl.ReadOptions{Now: now}
	if args[0] == "explain" {
		opt.Also = key(args[2])
	}
	c, err := ctl.Read(t.Context(), newFakeServer(t, objects), opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reload sends the cluster through a file.
func reload(t *testing.T, c *ctl.Cluster, format string) *ctl.Cluster {
	t.Helper()
	var b bytes.Buffer
	if err := ctl.Write(&b, c, format); err != nil {
		t.Fatal(err)
	}
	out, err := ctl.Load(&b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func key(text string) lb.ServiceKey {
	ns, name, _ := strings.Cut(text, "/")
	return lb.ServiceKey{Namespace: ns, Name: name}
}

// answer answers one question; an error is an answer too.
func answer(t *testing.T, c *ctl.Cluster, args []string) string {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch args[0] {
	case "explain":
		err = ctl.Look(c).Explain(&b, key(args[2]))
	case "addresses":
		f, output := ctl.Filter{}, "table"
		for i := 1; i+1 < len(args); i += 2 {
			switch args[i] {
			case "-n":
				f.Namespace = args[i+1]
			case "--pool":
				f.Pool = args[i+1]
			case "-o":
				output = args[i+1]
			}
		}
		var list []ctl.Address
		if list, err = ctl.Look(c).Addresses(f); err == nil {
			err = ctl.PrintAddresses(&b, list, output)
		}
	case "bgp":
		err = answerBGP(&b, ctl.Look(c), args[1:])
	case "l2":
		err = answerL2(&b, ctl.Look(c), args[1:])
	default:
		t.Fatalf("no such question: %s", args[0])
	}
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	return b.String()
}

// answerL2 answers heraldctl l2 owners [--node N] [-n NS] [-o FORMAT], and says
// what l2 move NS/NAME --to NODE and l2 balance would do.
func answerL2(w io.Writer, v *ctl.View, args []string) error {
	switch args[0] {
	case "move":
		m, done, err := v.Move(key(args[1]), args[3])
		if err == nil {
			fmt.Fprintf(w, "%s from %s to %s, done: %v\n", m.Service, m.From, m.To, done)
		}
		return err
	case "balance":
		for _, m := range v.Balance() {
			fmt.Fprintf(w, "%s from %s to %s\n", m.Service, m.From, m.To)
		}
		return nil
	}
	f, output := ctl.OwnersFilter{}, "table"
	for i := 1; i+1 < len(args); i += 2 {
		switch args[i] {
		case "-n":
			f.Namespace = args[i+1]
		case "--node":
			f.Node = args[i+1]
		case "-o":
			output = args[i+1]
		}
	}
	list, err := v.Owners(f)
	if err != nil {
		return err
	}
	return ctl.PrintOwners(w, list, v.Shares(), output)
}

// answerBGP answers heraldctl bgp sessions, routes and explain.
func answerBGP(w io.Writer, v *ctl.View, args []string) error {
	f, output := ctl.BGPFilter{}, "table"
	question := args[0]
	if len(args)%2 == 0 { // NAMESPACE/NAME
		f.Service = key(args[1])
		args = args[1:]
	}
	for i := 1; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--node":
			f.Node = args[i+1]
		case "--peer":
			f.Peer = args[i+1]
		case "-o":
			output = args[i+1]
		}
	}
	switch question {
	case "sessions":
		list, err := v.Sessions(f)
		if err != nil {
			return err
		}
		return ctl.PrintSessions(w, list, output)
	case "explain":
		list, err := v.ExplainBGP(f)
		if err != nil {
			return err
		}
		return ctl.PrintPaths(w, list, output)
	}
	list, err := v.Routes(f)
	if err != nil {
		return err
	}
	return ctl.PrintRoutes(w, list, output)
}
