// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

var update = flag.Bool("update", false, "write what Plan says into the cases")

// TestCases runs testdata/*.txtar. Each file is one rule, with a sentence on
// top and then pairs of sections:
//
//	-- cluster --  pools, namespaces and Services; later sections edit it
//	-- want --     the plan
//
// What a plan assigns is what the next section begins with. See parse_test.go
// for the lines of a cluster.
func TestCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	seen := &codes{seen: map[reason.Code]bool{}}
	t.Run("files", func(t *testing.T) {
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				runCase(t, file, seen)
			})
		}
	})
	if t.Failed() || strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // not all cases have run
	}
	for _, i := range reason.All() {
		ours := i.Subject == reason.Allocated && i.Code != reason.AddressFreeing // the writer's
		if ours = ours || slices.Contains(ofReservations(), i.Code); ours && !seen.seen[i.Code] {
			t.Errorf("no case has the reason %s", i.Code)
		}
	}
}

// ofReservations lists the reasons that a plan gives reservations.
func ofReservations() []reason.Code {
	return []reason.Code{
		reason.ObjectValid, reason.UnknownReference, reason.BadField, reason.AddressOutsidePool,
		reason.ReservedByOther, reason.ReservationShort, reason.ReservationQuota, reason.ReservationWaits,
	}
}

// codes collects the reasons that cases have come across.
type codes struct {
	mu   sync.Mutex // guards seen
	seen map[reason.Code]bool
}

func (c *codes) note(r ipam.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range r.Services {
		c.seen[d.Reason.Code] = true
	}
	for _, h := range r.Reservations {
		c.seen[h.Reason.Code] = true
	}
}

func runCase(t *testing.T, file string, seen *codes) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(archive.Comment)) == "" {
		t.Error("the case has no sentence on top")
	}
	var c cluster
	for i := 0; i < len(archive.Files); i += 2 {
		if i+1 == len(archive.Files) || archive.Files[i+1].Name != "want" {
			t.Fatalf("section %d is not followed by one named want", i)
		}
		if err := c.edit(string(archive.Files[i].Data)); err != nil {
			t.Fatal(err)
		}
		snap := c.snapshot()
		result := ipam.Plan(snap)
		seen.note(result)
		got := format(result)
		if *update {
			archive.Files[i+1].Data = []byte(got)
		} else if diff := cmp.Diff(string(archive.Files[i+1].Data), got); diff != "" {
			t.Errorf("section %d (-want +got):\n%s", i+1, diff)
		}
		checkSettled(t, snap, result)
		c.assign(result)
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// checkSettled fails unless a second plan changes nothing and says the same.
func checkSettled(t *testing.T, snap lb.Snapshot, first ipam.Result) {
	t.Helper()
	want := ipam.Result{Pools: first.Pools, Reservations: first.Reservations}
	for _, d := range first.Services {
		d.Added, d.Cleared = nil, nil
		want.Services = append(want.Services, d)
	}
	got := ipam.Plan(after(snap, first))
	if diff := cmp.Diff(want, got, exact...); diff != "" {
		t.Errorf("a second plan on the result of the first differs (-first +second):\n%s", diff)
	}
}

// after is the snapshot that follows when a plan has been written.
func after(snap lb.Snapshot, r ipam.Result) lb.Snapshot {
	snap.Services = slices.Clone(snap.Services)
	for i := range snap.Services {
		svc := &snap.Services[i]
		j, ok := slices.BinarySearchFunc(r.Services, svc.Key, func(d ipam.Decision, k lb.ServiceKey) int { return d.Key.Compare(k) })
		if !ok {
			panic("no decision for " + svc.Key.String())
		}
		svc.Assigned, svc.AssignedPools = r.Services[j].Addresses, r.Services[j].Pools
	}
	snap.Reservations = recorded(snap.Reservations, r)
	return snap
}

// exact compares addresses by value and takes nil for empty.
var exact = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// format writes a plan as in the sections named want.
func format(r ipam.Result) string {
	var b strings.Builder
	for _, d := range r.Services {
		b.WriteString(d.Key.String())
		for _, a := range d.Addresses {
			fmt.Fprintf(&b, " %s", a)
		}
		if len(d.Pools) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(d.Pools, ","))
		}
		fmt.Fprintf(&b, "%s\n  %s\n", troubleText(&d), d.Reason)
		for _, name := range d.Deprecated {
			fmt.Fprintf(&b, "  deprecated: %s\n", name)
		}
		for _, a := range d.Added {
			fmt.Fprintf(&b, "  + %s\n", a)
		}
		for _, c := range d.Cleared {
			fmt.Fprintf(&b, "  - %s: %s\n", c.Address, c.Why)
		}
	}
	formatReservations(&b, r)
	for _, u := range r.Pools {
		fmt.Fprintf(&b, "pool %s: %d Services%s%s\n", u.Name, u.Services, countText("IPv4", u.IPv4), countText("IPv6", u.IPv6))
		for _, q := range u.Quotas {
			fmt.Fprintf(&b, "  quota of %s: %s %d of %d\n", q.Namespace, q.Family, q.Used, q.Limit)
		}
	}
	return b.String()
}

func troubleText(d *ipam.Decision) string {
	switch d.Trouble() {
	case ipam.NotAllocated:
		return " AllocationFailed"
	case ipam.BadRequest:
		return " LoadBalancerFailed"
	case ipam.SecondMissing:
		return " AdditionalAssignFailed"
	}
	return ""
}

func countText(family string, c ipam.Count) string {
	if c == (ipam.Count{}) {
		return ""
	}
	if c.Reserved > 0 {
		return fmt.Sprintf(", %s %d of %d used, %d reserved, %d free", family, c.Assigned, c.Total, c.Reserved, c.Available)
	}
	return fmt.Sprintf(", %s %d of %d used, %d free", family, c.Assigned, c.Total, c.Available)
}
