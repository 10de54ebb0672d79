// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// checkReservations compares what reservations hold with the dumb plan, and
// what Services have got with what is reserved.
func checkReservations(t *testing.T, d *dumb, r ipam.Result) {
	t.Helper()
	want, got := map[string][]netip.Addr{}, map[string][]netip.Addr{}
	wantLast, gotLast := map[string][]string{}, map[string][]string{}
	for _, x := range d.reservations {
		want[x.Key.String()] = x.sorted()
		for _, a := range x.sorted() {
			wantLast[x.Key.String()+" "+a.String()] = d.last(x, a)
		}
	}
	for _, h := range r.Reservations {
		for _, a := range h.Addresses {
			got[h.Key.String()] = append(got[h.Key.String()], a.Address)
			gotLast[h.Key.String()+" "+a.Address.String()] = slices.Sorted(slices.Values(a.Last))
		}
		if _, ok := got[h.Key.String()]; !ok {
			got[h.Key.String()] = nil
		}
		short := h.Reason.Code == reason.ReservationShort || h.Reason.Code == reason.ReservationQuota
		if complete := len(h.Addresses) >= h.Wanted; (complete && short) || (!complete && h.Reason.Good()) {
			t.Errorf("reservation %s has %d of %d: %s", h.Key, len(h.Addresses), h.Wanted, h.Reason)
		}
	}
	if diff := cmp.Diff(want, got, exact...); diff != "" {
		t.Errorf("reservations differ from the dumb plan (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantLast, gotLast, exact...); diff != "" {
		t.Errorf("last users differ from the dumb plan (-want +got):\n%s", diff)
	}
	for _, dec := range r.Services {
		svc := d.snap.Services[slices.IndexFunc(d.snap.Services, func(s lb.Service) bool { return s.Key == dec.Key })]
		for _, a := range dec.Added {
			if h := d.holder(a); h != nil && !h.admits(&dumbService{Service: &svc}) {
				t.Errorf("%s was given %s, which is reserved by %s", dec.Key, a, h.Key)
			}
			if p := d.home(a); p != nil {
				checkQuota(t, d, dec, p, a)
			}
		}
	}
}

// checkQuota: who was given an address is within the quota of its namespace,
// however it was given.
func checkQuota(t *testing.T, d *dumb, dec ipam.Decision, p *lb.Pool, a netip.Addr) {
	t.Helper()
	if r := d.holder(a); r != nil && slices.ContainsFunc(r.Held, func(h lb.HeldAddress) bool { return h.Address == a }) {
		return // counted when it was reserved; the quota may have shrunk since
	}
	limit := p.Limit(d.namespace(dec.Key.Namespace), lb.FamilyOf(a))
	before := 0 // what the namespace kept, which no quota takes away
	for _, s := range d.svcs {
		if s.Key.Namespace == dec.Key.Namespace && s.has[lb.FamilyOf(a)].pool == p.Name && slices.Contains(s.Assigned, s.has[lb.FamilyOf(a)].addr) {
			before++
		}
	}
	if n := len(d.holdings(dec.Key.Namespace, p, lb.FamilyOf(a))); limit >= 0 && int64(n) > limit && before == 0 {
		t.Errorf("%s was given %s, and its namespace has %d of pool %s, more than %d", dec.Key, a, n, p.Name, limit)
	}
}

// editReservation makes one of four reservations anew, or deletes it.
func (w *world) editReservation() {
	name := fmt.Sprintf("n%d/r%d", w.IntN(2), w.IntN(2))
	if w.IntN(4) == 0 {
		must(w.cluster.edit("delete reservation " + name))
		return
	}
	line := "reservation " + name
	if w.IntN(2) == 0 {
		line += w.maybe(1, "addresses="+w.four(), "addresses="+w.four()+","+w.six(), "addresses="+w.six())
	} else {
		line += fmt.Sprintf(" pool=p%d 4=%d 6=%d", w.IntN(5), w.IntN(3), w.IntN(2))
	}
	line += w.maybe(2, "services=s0", "services=s1,s2", "with=tier=web", "services=s3 with=tier=db")
	line += w.maybe(8, "invalid=wrong")
	must(w.cluster.edit(line))
}

// editMemory remembers or forgets what a Service had.
func (w *world) editMemory() {
	name := fmt.Sprintf("n%d/s%d", w.IntN(3), w.IntN(6))
	if w.IntN(3) == 0 {
		must(w.cluster.edit("forget " + name))
		return
	}
	must(w.cluster.edit("remember " + name + w.maybe(1, w.four(), w.six(), w.six()+","+w.four())))
}

// noneOf is an address of the family that no pool has.
func noneOf(f lb.Family) netip.Addr {
	if f == lb.IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
