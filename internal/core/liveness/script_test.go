// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/lb"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts runs the scenarios in testdata. A line is a command, a comment
// (#), or, after "= ", what the command above it answered:
//
//	start N        start the nodes n1 to nN, those that do not run
//	kill n1        end a process; power n1: its host; leave n1: with goodbye
//	freeze|thaw n1
//	sever A B      cut the links from A to B; n1,n2 names nodes, * all others
//	heal           mend all links
//	run 1s         let time pass: what happened meanwhile, after how long
//	cutoff         who believes to be cut off
//	packets        how many a node sent in a second of the last run
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{world: newWorld(1)}
			for line := range strings.Lines(string(want)) {
				if !strings.HasPrefix(line, "= ") {
					s.out.WriteString(line)
					if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
						s.do(t, words)
					}
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(s.out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want), s.out.String()); diff != "" {
				t.Errorf("scenario (-want +got):\n%s", diff)
			}
		})
	}
}

type script struct {
	*world
	out strings.Builder
	ran time.Duration
}

func (s *script) do(t *testing.T, words []string) {
	t.Helper()
	arg := append(words, "", "")
	switch words[0] {
	case "start":
		n, err := strconv.Atoi(arg[1])
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			name := lb.NodeName(fmt.Sprint("n", i+1))
			if old := s.nodes[name]; old == nil || !old.running {
				s.start(name)
			}
		}
	case "kill", "power":
		s.kill(lb.NodeName(arg[1]), words[0] == "power")
	case "leave":
		s.leave(lb.NodeName(arg[1]))
	case "freeze":
		s.freeze(lb.NodeName(arg[1]))
	case "thaw":
		s.thaw(lb.NodeName(arg[1]))
	case "sever":
		s.sever(s.set(arg[1], arg[2]), s.set(arg[2], arg[1]))
	case "heal":
		s.heal()
	case "run":
		d, err := time.ParseDuration(arg[1])
		if err != nil {
			t.Fatal(err)
		}
		s.ran, s.sent, s.events = d, 0, nil
		begun := s.now
		s.run(d)
		s.report(begun)
	case "cutoff":
		var who []lb.NodeName
		for _, n := range s.names() {
			if s.nodes[n].running && s.nodes[n].machine.CutOff() {
				who = append(who, n)
			}
		}
		fmt.Fprintf(&s.out, "= %v\n", who)
	case "packets":
		fmt.Fprintf(&s.out, "= %.0f\n", float64(s.sent)/float64(len(s.nodes))/s.ran.Seconds())
	default:
		t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) set(names, others string) []lb.NodeName {
	var out []lb.NodeName
	if names != "*" {
		for n := range strings.SplitSeq(names, ",") {
			out = append(out, lb.NodeName(n))
		}
		return out
	}
	not := s.set(others, "")
	return slices.DeleteFunc(s.names(), func(n lb.NodeName) bool { return slices.Contains(not, n) })
}

// report sums up who came or went, in whose eyes, and when.
func (s *script) report(begun time.Time) {
	type fact struct {
		subject lb.NodeName
		up      bool
	}
	var order []fact
	eyes := map[fact][]event{}
	for _, e := range s.events {
		f := fact{e.subject, e.up}
		if len(eyes[f]) == 0 {
			order = append(order, f)
		}
		eyes[f] = append(eyes[f], e)
	}
	since := func(e event) time.Duration { return e.at.Sub(begun).Round(time.Millisecond) }
	if len(order) > 9 {
		first, last := s.events[0], s.events[len(s.events)-1]
		fmt.Fprintf(&s.out, "= %d of %d nodes, %s to %s\n", len(order), len(s.nodes), since(first), since(last))
		return
	}
	for _, f := range order {
		es := eyes[f]
		word := "down"
		if f.up {
			word = "up"
		}
		var who []lb.NodeName
		for _, e := range es {
			who = append(who, e.observer)
		}
		slices.Sort(who)
		names := fmt.Sprint(who)
		if len(who) > 5 {
			names = fmt.Sprint(len(who), " nodes")
		}
		fmt.Fprintf(&s.out, "= %s %s for %s, %v to %v\n", f.subject, word, names, since(es[0]), since(es[len(es)-1]))
	}
}
