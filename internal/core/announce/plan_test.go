// SPDX-License-Identifier: Apache-2.0

package announce_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

var update = flag.Bool("update", false, "rewrite the plans in testdata")

// TestPlan runs the cases in testdata: a small cluster in words, and the plan
// that is made of it.
func TestPlan(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) != 2 || archive.Files[0].Name != "cluster" || archive.Files[1].Name != "plan" {
				t.Fatalf("%s: want the sections cluster and plan", file)
			}
			s := parse(t, string(archive.Files[0].Data))
			r := announce.Plan(s, "n1")
			got := render(s, &r)
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// parse reads a cluster. Each line is a kind, a name and key=value words:
//
//	node n1 zone=a                             labels; also: excluded unavailable
//	pool p 192.0.2.0-192.0.2.9,2001:db8::-2001:db8::9   also: frozen
//	l2 ad pools=p,q nodes=zone:a services=app:web interfaces=eth0 prefer=50*zone:a
//	service ns/name 192.0.2.1,2001:db8::1 app=web   also: local eps=n1*2,n2,n3~ from=p (~ is draining) move=n1@TIME
func parse(t *testing.T, text string) *lb.Snapshot {
	t.Helper()
	s := &lb.Snapshot{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch kind, name, rest := words[0], words[1], words[2:]; kind {
		case "node":
			s.Nodes = append(s.Nodes, parseNode(name, rest))
		case "pool":
			s.Pools = append(s.Pools, parsePool(name, rest))
		case "l2":
			s.L2Advertisements = append(s.L2Advertisements, parseL2(t, name, rest))
		case "service":
			s.Services = append(s.Services, parseService(t, name, rest))
		default:
			t.Fatalf("unknown kind %q", kind)
		}
	}
	return s
}

func parseNode(name string, words []string) lb.Node {
	n := lb.Node{Name: lb.NodeName(name), Labels: map[string]string{}}
	for _, w := range words {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "excluded":
			n.Excluded = true
		case "unavailable":
			n.NetworkUnavailable = true
		default:
			n.Labels[k] = v
		}
	}
	return n
}

func parsePool(name string, words []string) lb.Pool {
	p := lb.Pool{Name: name}
	for _, w := range words {
		if w == "frozen" {
			p.Frozen = true
			continue
		}
		for r := range strings.SplitSeq(w, ",") {
			from, to, _ := strings.Cut(r, "-")
			p.Ranges = append(p.Ranges, lb.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)})
		}
	}
	return p
}

func parseL2(t *testing.T, name string, words []string) lb.L2Advertisement {
	t.Helper()
	ad := lb.L2Advertisement{Name: name, Scope: lb.Scope{AllPools: true}}
	for _, w := range words {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "pools":
			ad.AllPools, ad.Pools = false, strings.Split(v, ",")
		case "nodes":
			ad.NodeSelectors = append(ad.NodeSelectors, parseSelector(v))
		case "services":
			ad.ServiceSelectors = append(ad.ServiceSelectors, parseSelector(v))
		case "interfaces":
			ad.Interfaces = strings.Split(v, ",")
		case "prefer":
			weight, sel, _ := strings.Cut(v, "*")
			n, err := strconv.Atoi(weight)
			if err != nil {
				t.Fatal(err)
			}
			ad.Preferred = append(ad.Preferred, lb.Preference{Weight: n, Selector: parseSelector(sel)})
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	return ad
}

func parseSelector(s string) lb.Selector {
	k, v, _ := strings.Cut(s, ":")
	return lb.Selector{Requirements: []lb.Requirement{{Key: k, Op: lb.In, Values: []string{v}}}}
}

func parseService(t *testing.T, name string, words []string) lb.Service {
	t.Helper()
	ns, base, _ := strings.Cut(name, "/")
	svc := lb.Service{Key: lb.ServiceKey{Namespace: ns, Name: base}, Labels: map[string]string{}}
	for _, w := range words {
		k, v, hasValue := strings.Cut(w, "=")
		switch {
		case k == "local":
			svc.Local = true
		case k == "move":
			node, at, _ := strings.Cut(v, "@")
			when, err := time.Parse(time.RFC3339, at)
			if err != nil {
				t.Fatal(err)
			}
			svc.Move = lb.Move{To: lb.NodeName(node), At: when}
		case k == "from":
			svc.AssignedPools = strings.Split(v, ",")
		case k == "eps":
			for e := range strings.SplitSeq(v, ",") {
				if node, draining := strings.CutSuffix(e, "~"); draining {
					svc.Endpoints = append(svc.Endpoints, lb.NodeEndpoints{Node: lb.NodeName(node), Draining: 1})
					continue
				}
				node, count, many := strings.Cut(e, "*")
				n := 1
				if many {
					var err error
					if n, err = strconv.Atoi(count); err != nil {
						t.Fatal(err)
					}
				}
				svc.Endpoints = append(svc.Endpoints, lb.NodeEndpoints{Node: lb.NodeName(node), Count: n})
			}
		case hasValue:
			svc.Labels[k] = v
		default:
			for ip := range strings.SplitSeq(w, ",") {
				svc.Assigned = append(svc.Assigned, netip.MustParseAddr(ip))
			}
		}
	}
	return svc
}

// render writes a plan as text: the groups, then every reason why not.
func render(s *lb.Snapshot, r *announce.Result) string {
	var b strings.Builder
	for _, g := range r.Groups {
		fmt.Fprintf(&b, "group %v: answer for %v, used by %v\n", g.Key, g.Addresses, g.Services)
		for _, c := range g.Candidates {
			fmt.Fprintf(&b, "    %s", c.Node)
			if c.Score != 0 {
				fmt.Fprintf(&b, " score %d", c.Score)
			}
			if c.Interfaces != nil {
				fmt.Fprintf(&b, " on %v", c.Interfaces)
			}
			b.WriteString("\n")
		}
		for _, c := range g.Draining {
			fmt.Fprintf(&b, "    draining: %s\n", c.Node)
		}
		if m := g.Move; m.To != "" {
			fmt.Fprintf(&b, "    to be moved to %s, asked for at %s\n", m.To, m.At.Format(time.RFC3339))
		}
		for i, nodes := range g.Covers {
			fmt.Fprintf(&b, "  %v only by", g.Addresses[i])
			for _, c := range nodes {
				fmt.Fprintf(&b, " %s%v", c.Node, c.Interfaces)
			}
			b.WriteString("\n")
		}
	}
	for _, svc := range s.Services {
		if v := r.Verdict(svc.Key); v.Code != "" {
			fmt.Fprintf(&b, "%v: %v\n", svc.Key, v)
		}
		if _, ok := r.Group(svc.Key); !ok {
			continue
		}
		for _, n := range s.Nodes {
			if why := r.Explain(svc.Key, n.Name); why.Code != "" {
				fmt.Fprintf(&b, "%v, %s: %v\n", svc.Key, n.Name, why)
			}
		}
	}
	return b.String()
}
