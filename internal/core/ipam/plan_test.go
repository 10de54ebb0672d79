// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestNonsense gives Plan what no careful caller would: it must neither panic
// nor hand out anything from it, and still settle.
func TestNonsense(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	long := strings.Repeat("ä", 100_000)
	base := lb.Service{Families: []lb.Family{lb.IPv4, lb.IPv4, 0}}
	odd := []func(*lb.Service){
		func(*lb.Service) {},
		func(s *lb.Service) { s.Families = nil },
		func(s *lb.Service) { s.Assigned = []netip.Addr{{}, netip.MustParseAddr("::ffff:192.0.2.1")} },
		func(s *lb.Service) { s.Assigned = []netip.Addr{netip.MustParseAddr("fe80::1%eth0"), four, six, four} },
		func(s *lb.Service) { s.Request.Addresses = []netip.Addr{{}} },
		func(s *lb.Service) { s.Request.Addresses = []netip.Addr{four, four, six} },
		func(s *lb.Service) { s.Request.Pool = long },
		func(s *lb.Service) { s.Request.Invalid = long },
		func(s *lb.Service) { s.SharingKey, s.Assigned = long, []netip.Addr{four} },
		func(s *lb.Service) { s.AssignedPools = []string{"", long, "empty"} },
	}
	snap := lb.Snapshot{Pools: []lb.Pool{
		{Name: "empty", AutoAssign: true},
		{Name: "backwards", AutoAssign: true, Ranges: []lb.Range{{From: six, To: six.Prev()}}},
		{Name: "mixed", AutoAssign: true, Ranges: []lb.Range{{From: four, To: six}}},
		{Name: "zero", AutoAssign: true, Pin: &lb.Pin{Priority: -1}, Ranges: []lb.Range{{}}},
		{Name: "", Frozen: true},
	}}
	for i, f := range odd {
		svc := base
		svc.Key.Name = string(rune('a' + i))
		f(&svc)
		snap.Services = append(snap.Services, svc)
	}
	odder := []lb.Reservation{
		{},
		{Pool: "mixed", IPv4: -1, IPv6: 1 << 30},
		{Pool: long, IPv4: 3, Held: []lb.HeldAddress{{}, {Address: four}, {Address: four}, {Address: six, Last: []string{long}}}},
		{Addresses: []netip.Addr{{}, four, four, netip.MustParseAddr("fe80::1%eth0")}, Held: []lb.HeldAddress{{Address: netip.MustParseAddr("::ffff:192.0.2.1")}}},
		{Invalid: long, Held: []lb.HeldAddress{{}, {Address: six}}},
	}
	for i, res := range odder {
		res.Key.Name = string(rune('a' + i))
		snap.Reservations = append(snap.Reservations, res)
	}
	snap.Remembered = []lb.Remembered{{}, {Addresses: []netip.Addr{{}, four, four, six}}, {Key: lb.ServiceKey{Name: "a"}, Addresses: []netip.Addr{four}}}
	snap.Pools[0].Quotas = []lb.Quota{{}, {IPv4: -9, IPv6: 1 << 62}}
	r := ipam.Plan(snap)
	checkSettled(t, snap, r)
	for _, h := range r.Reservations {
		if n := len(h.Reason.Text); n == 0 || n > 1010 {
			t.Errorf("%s: reason with a text of %d bytes", h.Key, n)
		}
	}
	for _, d := range r.Services {
		if len(d.Added) > 0 {
			t.Errorf("%s was given %v", d.Key, d.Added)
		}
		if n := len(d.Reason.Text); n == 0 || n > 1010 {
			t.Errorf("%s: reason with a text of %d bytes", d.Key, n)
		}
		for _, c := range d.Cleared {
			if len(c.Why) == 0 || len(c.Why) > 1010 {
				t.Errorf("%s: cleared with a text of %d bytes", d.Key, len(c.Why))
			}
		}
	}
}

// TestInputUnchanged: a snapshot is shared with other readers.
func TestInputUnchanged(t *testing.T) {
	t.Parallel()
	build := func() lb.Snapshot {
		var c cluster
		must(c.edit(`
pool web 192.0.2.20/30 192.0.2.0/30 2001:db8::/64
pool bad frozen
pool gold 192.0.2.8/30 priority=1 with=tier=gold
service shop/z key=k families=6,4 policy=prefer
service shop/b has=192.0.2.2,192.0.9.9 from=bad,bad
service shop/a labels=tier=gold born=1 has=2001:db8::7 from=web
`))
		s := c.snapshot()
		s.Services[0], s.Services[2] = s.Services[2], s.Services[0]
		s.Pools[0], s.Pools[2] = s.Pools[2], s.Pools[0]
		return s
	}
	got := build()
	r := ipam.Plan(got)
	for _, d := range r.Services { // results may be changed by their owner
		clear(d.Addresses)
		clear(d.Pools)
	}
	if diff := cmp.Diff(build(), got, exact...); diff != "" {
		t.Errorf("Plan changed its snapshot (-before +after):\n%s", diff)
	}
}
