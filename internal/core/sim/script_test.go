// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/sim"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts runs the scenarios in testdata. A line is a command, a comment
// (#), or, after "= ", what the command above it answered:
//
//	heartbeats           the liveness machine finds out who is dead; comes first
//	start n1 n2          start speakers, new or stopped ones
//	kill|leave|freeze|thaw n1
//	partition n1 n2      separate these from the others; without names: heal
//	block n1 n2          lose everything from n1 to n2
//	move A n1            wish to have A answered by n1
//	interfaces n1 eth0   usable interfaces of a node, from now on
//	groups A B+C A/n1,n2 one group each; + joins addresses, / limits the candidates
//	run 1s               let time pass
//	owners               who answers for what
//	report               longest overlap and gap, and moves, since the last report
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
			got := runScript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("scenario (-want +got):\n%s", diff)
			}
		})
	}
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	cfg := sim.DefaultConfig(1)
	if *trace {
		cfg.Trace = func(at time.Duration, what string) { fmt.Println(at, what) }
	}
	c := sim.New(cfg)
	var nodes []lb.NodeName
	var out strings.Builder
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "= ") {
			continue
		}
		out.WriteString(line)
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		var names []lb.NodeName
		for _, w := range words[1:] {
			names = append(names, lb.NodeName(w))
		}
		switch words[0] {
		case "heartbeats":
			cfg.Liveness, cfg.Detect = true, slowGossip
			c = sim.New(cfg)
		case "start":
			nodes = append(nodes, names...)
			slices.Sort(nodes)
			nodes = slices.Compact(nodes)
			c.Start(names...)
		case "kill":
			c.Kill(names[0])
		case "leave":
			c.Leave(names[0])
		case "freeze":
			c.Freeze(names[0])
		case "thaw":
			c.Thaw(names[0])
		case "partition":
			c.Partition(names...)
		case "block":
			c.Block(names[:1], names[1:])
		case "move":
			c.Move(netip.MustParseAddr(words[1]), names[1])
		case "interfaces":
			c.SetInterfaces(names[0], words[2:]...)
		case "groups":
			c.SetGroups(parseGroups(words[1:], nodes))
		case "run":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				t.Fatal(err)
			}
			c.Run(d)
		case "owners":
			for _, ip := range c.Addresses() {
				fmt.Fprintf(&out, "= %v %v\n", ip, c.Answering(ip))
			}
		case "report":
			r := c.Report()
			fmt.Fprintf(&out, "= overlap %v, dark %v, moves %d\n", r.Overlap.Round(time.Millisecond), r.Dark.Round(time.Millisecond), r.Moves)
		default:
			t.Fatalf("unknown command %q", words[0])
		}
	}
	return out.String()
}

func parseGroups(words []string, nodes []lb.NodeName) []announce.Group {
	var out []announce.Group
	for _, w := range words {
		addresses, limit, limited := strings.Cut(w, "/")
		var g announce.Group
		for a := range strings.SplitSeq(addresses, "+") {
			g.Addresses = append(g.Addresses, netip.MustParseAddr(a))
		}
		g.Key = g.Addresses[0]
		slices.SortFunc(g.Addresses, netip.Addr.Compare)
		for _, n := range nodes {
			if !limited || slices.Contains(strings.Split(limit, ","), string(n)) {
				g.Candidates = append(g.Candidates, announce.Candidate{Node: n})
			}
		}
		out = append(out, g)
	}
	return out
}
