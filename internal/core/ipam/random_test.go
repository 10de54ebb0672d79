// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

var (
	seed     = flag.Uint64("seed", 0, "repeat the random run with this seed")
	clusters = flag.Int("clusters", 50, "number of random clusters")
)

// TestRandom edits random clusters, plans after each edit, and compares with
// the dumb implementation and with what must always hold.
func TestRandom(t *testing.T) {
	t.Parallel()
	first, n := uint64(time.Now().UnixNano()), *clusters
	if *seed != 0 {
		first, n = *seed, 1
	}
	for i := range n {
		s := first + uint64(i)
		w := newWorld(s)
		for step := range 12 {
			w.edit()
			snap := w.snapshot()
			r := ipam.Plan(snap)
			check(t, w, snap, r)
			if t.Failed() {
				t.Fatalf("step %d; repeat with: go test -run TestRandom -seed %d\n%s", step, s, format(r))
			}
			w.assign(r)
		}
	}
}

func check(t *testing.T, w *world, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	checkDumb(t, snap, r)
	checkSettled(t, snap, r)
	checkShuffled(t, w, snap, r)
	checkAddresses(t, snap, r)
	checkShared(t, snap, r)
	checkOldestFirst(t, snap, r)
	checkUnrelated(t, w, after(snap, r))
}

// outcome is what both implementations must agree on.
type outcome struct {
	Key       string
	Addresses []netip.Addr
	Pools     []string
	Cleared   []netip.Addr
	Code      reason.Code
}

func checkDumb(t *testing.T, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	if len(snap.Pools) == 0 {
		return
	}
	want := map[string]outcome{}
	dumb := dumbPlan(snap)
	checkReservations(t, dumb, r)
	for _, s := range dumb.svcs {
		o := outcome{Key: s.Key.String(), Cleared: s.cleared, Code: s.code}
		unknown := false
		for _, f := range s.families {
			h := s.has[f]
			if !h.addr.IsValid() {
				continue
			}
			o.Addresses = append(o.Addresses, h.addr)
			unknown = unknown || h.pool == ""
			if !slices.Contains(o.Pools, h.pool) {
				o.Pools = append(o.Pools, h.pool)
			}
		}
		if unknown {
			o.Pools = s.AssignedPools
		}
		if s.Deleting {
			o.Addresses, o.Pools = s.Assigned, s.AssignedPools
		}
		want[o.Key] = o
	}
	for _, d := range r.Services {
		got := outcome{Key: d.Key.String(), Addresses: d.Addresses, Pools: d.Pools}
		if d.Trouble() == ipam.NoTrouble {
			got.Code = d.Reason.Code
		}
		for _, c := range d.Cleared {
			got.Cleared = append(got.Cleared, c.Address)
		}
		if diff := cmp.Diff(want[got.Key], got, exact...); diff != "" {
			t.Errorf("%s differs from the dumb plan (-want +got):\n%s", d.Key, diff)
		}
	}
}

// checkShuffled: the order of the snapshot does not matter.
func checkShuffled(t *testing.T, w *world, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	snap.Pools, snap.Services, snap.Namespaces = slices.Clone(snap.Pools), slices.Clone(snap.Services), slices.Clone(snap.Namespaces)
	snap.Reservations = slices.Clone(snap.Reservations)
	w.Shuffle(len(snap.Reservations), func(i, j int) {
		snap.Reservations[i], snap.Reservations[j] = snap.Reservations[j], snap.Reservations[i]
	})
	w.Shuffle(len(snap.Pools), func(i, j int) { snap.Pools[i], snap.Pools[j] = snap.Pools[j], snap.Pools[i] })
	w.Shuffle(len(snap.Services), func(i, j int) { snap.Services[i], snap.Services[j] = snap.Services[j], snap.Services[i] })
	w.Shuffle(len(snap.Namespaces), func(i, j int) {
		snap.Namespaces[i], snap.Namespaces[j] = snap.Namespaces[j], snap.Namespaces[i]
	})
	if diff := cmp.Diff(r, ipam.Plan(snap), exact...); diff != "" {
		t.Errorf("the order of the snapshot matters (-sorted +shuffled):\n%s", diff)
	}
}

// checkAddresses: nothing new from where nothing may be given, at most one
// address of each family, and the bookkeeping adds up.
func checkAddresses(t *testing.T, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	d := &dumb{snap: snap}
	for i, svc := range byKey(snap.Services) {
		dec := r.Services[i]
		if svc.Deleting {
			if !slices.Equal(svc.Assigned, dec.Addresses) || len(dec.Added)+len(dec.Cleared) > 0 {
				t.Errorf("%s is being deleted, but changes from %v to %v", svc.Key, svc.Assigned, dec.Addresses)
			}
			continue
		}
		for _, a := range dec.Added {
			p := d.home(a)
			if p == nil || !d.admits(p, &dumbService{Service: &svc}) {
				t.Errorf("%s was given %s, which it may not have", svc.Key, a)
			}
		}
		var families []lb.Family
		had, lost := map[netip.Addr]bool{}, map[netip.Addr]bool{} // an address may be listed twice
		for _, a := range svc.Assigned {
			had[a], lost[a] = true, true
		}
		for _, a := range dec.Addresses {
			families = append(families, lb.FamilyOf(a))
			if had[a] == slices.Contains(dec.Added, a) {
				t.Errorf("%s: had %s: %v, Added %v", svc.Key, a, had[a], dec.Added)
			}
			delete(lost, a)
		}
		want := slices.DeleteFunc(slices.Clone(svc.Families), func(f lb.Family) bool { return !slices.Contains(families, f) })
		if len(snap.Pools) > 0 && !slices.Equal(families, want) {
			t.Errorf("%s: families %v have addresses of %v", svc.Key, svc.Families, families)
		}
		if len(lost) != len(dec.Cleared) {
			t.Errorf("%s: lost %v, Cleared %v", svc.Key, lost, dec.Cleared)
		}
		if dec.Reason.Text == "" || len(dec.Reason.Text) > 1010 {
			t.Errorf("%s: reason with a text of %d bytes", svc.Key, len(dec.Reason.Text))
		}
	}
	for _, u := range r.Pools {
		if p := d.pool(u.Name); !p.Frozen && u.IPv4.Total != int64(len(addresses(p, lb.IPv4))) {
			t.Errorf("pool %s has %d addresses, not %d", u.Name, len(addresses(p, lb.IPv4)), u.IPv4.Total)
		}
	}
}

func byKey(services []lb.Service) []lb.Service {
	return slices.SortedFunc(slices.Values(services), func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
}

// checkShared: Services that have the same address are allowed to.
func checkShared(t *testing.T, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	if len(snap.Pools) == 0 {
		return // then nothing is touched, not even this
	}
	holders := map[netip.Addr][]lb.Service{}
	for i, svc := range byKey(snap.Services) {
		if svc.Deleting {
			continue // two may have the same address, and only one can be told
		}
		for _, a := range r.Services[i].Addresses {
			for _, o := range holders[a] {
				common := slices.ContainsFunc(svc.Ports, func(p lb.Port) bool { return slices.Contains(o.Ports, p) })
				if svc.SharingKey == "" || svc.SharingKey != o.SharingKey || svc.BackendKey != o.BackendKey || common {
					t.Errorf("%s and %s both have %s", o.Key, svc.Key, a)
				}
			}
			holders[a] = append(holders[a], svc)
		}
	}
}

// checkOldestFirst: a Service that waits without asking for anything has not
// been passed over by a younger one, but for its quota, and for what is
// reserved for the younger one.
func checkOldestFirst(t *testing.T, snap lb.Snapshot, r ipam.Result) {
	t.Helper()
	if len(snap.Pools) == 0 {
		return
	}
	d := dumbPlan(snap)
	services := byKey(snap.Services)
	for i, old := range services {
		ask := old.Request
		if old.Deleting || len(r.Services[i].Addresses) > 0 || len(old.Families) != 1 || ask.Invalid != "" || ask.Pool != "" || len(ask.Addresses) > 0 {
			continue
		}
		for _, p := range d.choice(&dumbService{Service: &old}) {
			for j, young := range services {
				older := young.Created.Before(old.Created) || (young.Created.Equal(old.Created) && j < i)
				if older || young.SharingKey != "" {
					continue
				}
				for _, a := range r.Services[j].Added {
					if slices.Contains(addresses(p, old.Families[0]), a) && d.holder(a) == nil && d.quotaAllows(old.Key.Namespace, p, noneOf(old.Families[0])) {
						t.Errorf("%s waits, and the younger %s was given %s of pool %s", old.Key, young.Key, a, p.Name)
					}
				}
			}
		}
	}
}

// checkUnrelated: what concerns other objects moves nobody.
func checkUnrelated(t *testing.T, w *world, snap lb.Snapshot) {
	t.Helper()
	snap.Pools = slices.Clone(snap.Pools)
	if len(snap.Pools) > 0 {
		p := &snap.Pools[w.IntN(len(snap.Pools))]
		p.AutoAssign = !p.AutoAssign
		q := &snap.Pools[w.IntN(len(snap.Pools))]
		q.Frozen = true
		snap.Pools = append(snap.Pools, lb.Pool{Name: "a-first", AutoAssign: true, Ranges: []lb.Range{mustRange("203.0.113.0/24")}})
	}
	gone := w.IntN(len(snap.Services) + 1)
	snap.Services = slices.Clone(snap.Services)
	if gone < len(snap.Services) {
		snap.Services = slices.Delete(snap.Services, gone, gone+1)
	}
	for _, d := range ipam.Plan(snap).Services {
		for _, c := range d.Cleared {
			t.Errorf("unrelated edits cost %s its address %s: %s", d.Key, c.Address, c.Why)
		}
	}
}

func mustRange(s string) lb.Range {
	r, err := parseRange(s)
	if err != nil {
		panic(err)
	}
	return r
}

// world is a cluster that somebody edits at random.
type world struct {
	*rand.Rand
	cluster
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, seed))}
	must(w.cluster.edit("namespace n0 class=gold\nnamespace n1 class=iron\nnamespace n2"))
	for range 3 {
		w.editPool()
	}
	for range 8 {
		w.editService()
	}
	return w
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (w *world) edit() {
	for range 1 + w.IntN(3) {
		switch n := w.IntN(20); {
		case n < 5:
			w.editPool()
		case n < 6 && len(w.pools) > 0:
			must(w.cluster.edit("delete pool " + w.pools[w.IntN(len(w.pools))].Name))
		case n < 9 && len(w.services) > 0:
			must(w.cluster.edit("delete service " + w.services[w.IntN(len(w.services))].Key.String()))
		case n < 11:
			w.editReservation()
		case n < 12:
			w.editMemory()
		default:
			w.editService()
		}
	}
}

// maybe returns one of the options one time in n.
func (w *world) maybe(n int, options ...string) string {
	if w.IntN(n) > 0 {
		return ""
	}
	return " " + options[w.IntN(len(options))]
}

// editPool makes one of five pools anew. Their ranges never overlap: each has
// a third part of the address of its own.
func (w *world) editPool() {
	n := w.IntN(5)
	var b strings.Builder
	fmt.Fprintf(&b, "pool p%d", n)
	four, six := w.IntN(4) > 0, w.IntN(2) > 0
	if four {
		fmt.Fprintf(&b, " 10.0.%d.%d-10.0.%d.%d", n, w.IntN(3), n, 2+w.IntN(4))
		b.WriteString(w.maybe(4, fmt.Sprintf("10.0.%d.8/31", n), fmt.Sprintf("10.0.%d.254/31", n)))
	}
	if six || !four {
		fmt.Fprintf(&b, " 2001:db8:%d::/%d", n, 125+w.IntN(4))
	}
	b.WriteString(w.maybe(5, "autoassign=no"))
	b.WriteString(w.maybe(4, "buggy=avoid"))
	b.WriteString(w.maybe(6, "frozen"))
	b.WriteString(w.maybe(3, "priority=1", "priority=2", "pin"))
	b.WriteString(w.maybe(6, "namespaces=n0", "namespaces=n1,n2", "nswith=class=gold", "nswith=class!=gold"))
	b.WriteString(w.maybe(8, "with=tier=web", "with=tier=db"))
	b.WriteString(w.maybe(5, "quota=*:1:-", "quota=n0,n1:2:1", "quota={class=gold}:1:0 quota=*:2:2", "quota=n0:0:-"))
	must(w.cluster.edit(b.String()))
}

func (w *world) editService() {
	var b strings.Builder
	fmt.Fprintf(&b, "service n%d/s%d", w.IntN(3), w.IntN(6))
	b.WriteString(w.maybe(2, "families=6", "families=4,6 policy=prefer", "families=6,4 policy=require", "families=4,6 policy=require"))
	b.WriteString(w.maybe(2, "key=k", "key=k", "key=l"))
	b.WriteString(w.maybe(2, "ports=81", "ports=82", "ports=80,udp/80", "ports=81,83"))
	b.WriteString(w.maybe(6, "local=x", "local=y"))
	b.WriteString(w.maybe(3, "labels=tier=web", "labels=tier=db"))
	b.WriteString(w.maybe(6, "ask="+w.four(), "ask="+w.six(), "ask="+w.six()+","+w.four()))
	b.WriteString(w.maybe(8, "askpool=p0", "askpool=p1", "askpool=p2", "askpool=p9"))
	b.WriteString(w.maybe(20, "headless", "invalid=bad"))
	b.WriteString(w.maybe(12, "deleting"))
	b.WriteString(w.maybe(12, "has="+w.four(), "has="+w.four()+","+w.six(), "has="+w.six()+","+w.six()+","+w.four()))
	b.WriteString(w.maybe(12, "from=", "from=p0", "from=p1,p2", "from=p9"))
	b.WriteString(w.maybe(8, "born=3", "born=5"))
	must(w.cluster.edit(b.String()))
}

func (w *world) four() string { return fmt.Sprintf("10.0.%d.%d", w.IntN(5), w.IntN(9)) }
func (w *world) six() string  { return fmt.Sprintf("2001:db8:%d::%d", w.IntN(5), w.IntN(8)) }
