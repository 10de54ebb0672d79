// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// update rewrites testdata/rbac.txt.
var update = flag.Bool("update", false, "write what is rendered into testdata")

// What the programs may do is a list that people can read, so that a new permission is a visible change of it.
func TestRBAC(t *testing.T) {
	t.Parallel()
	const golden = "testdata/rbac.txt"
	objs := render(t)
	var lines []string
	for _, r := range find[*rbacv1.ClusterRole](objs) {
		lines = append(lines, permissions(r.Name, "everywhere", r.Rules)...)
	}
	for _, r := range find[*rbacv1.Role](objs) {
		lines = append(lines, permissions(r.Name, "own namespace", r.Rules)...)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("permissions (-%s +rendered), go test ./chart -update if they are meant:\n%s", golden, diff)
	}
	for _, forbidden := range []string{"*", "impersonate", "escalate", "bind"} {
		if slices.Contains(strings.Fields(got), forbidden) {
			t.Errorf("a permission with %q", forbidden)
		}
	}
}

// permissions returns one line per resource.
func permissions(who, where string, rules []rbacv1.PolicyRule) []string {
	var lines []string
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				name := resource
				if group != "" {
					name += "." + group
				}
				if len(r.ResourceNames) > 0 {
					name += " " + strings.Join(r.ResourceNames, ",")
				}
				lines = append(lines, fmt.Sprintf("%-22s %-14s %-45s %s\n", who, where, name, strings.Join(r.Verbs, " ")))
			}
		}
	}
	return lines
}
