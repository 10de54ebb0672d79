// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// holding returns what the reservation holds that holds the address.
func (v *View) holding(a netip.Addr) *ipam.Holding {
	for i := range v.ipam.Reservations {
		h := &v.ipam.Reservations[i]
		if slices.ContainsFunc(h.Addresses, func(x ipam.Held) bool { return x.Address == a }) {
			return h
		}
	}
	return nil
}

// unused lists the reserved addresses that no Service has.
func (v *View) unused() []Address {
	var out []Address
	for _, h := range v.ipam.Reservations {
		for _, a := range h.Addresses {
			if v.assigned(a.Address) {
				continue
			}
			out = append(out, Address{
				Address: a.Address, Namespace: h.Key.Namespace, Pool: a.Pool, Reservation: h.Key.String(),
				Quota: v.quota(a.Pool, h.Key.Namespace, lb.FamilyOf(a.Address)),
			})
		}
	}
	return out
}

// assigned reports whether a Service shows the address. The plan may be about
// to give it.
func (v *View) assigned(a netip.Addr) bool {
	return slices.ContainsFunc(v.snap.Services, func(s lb.Service) bool { return slices.Contains(s.Assigned, a) })
}

// quota is "used/limit" of a namespace, or empty if it is not limited.
func (v *View) quota(pool, namespace string, f lb.Family) string {
	for i := range v.snap.Pools {
		p := &v.snap.Pools[i]
		if p.Name != pool {
			continue
		}
		limit := p.Limit(v.namespace(namespace), f)
		if limit == lb.NoLimit {
			return ""
		}
		return fmt.Sprintf("%d/%d", v.holds(pool, namespace, f), limit)
	}
	return ""
}

func (v *View) namespace(name string) lb.Namespace {
	if i := slices.IndexFunc(v.snap.Namespaces, func(n lb.Namespace) bool { return n.Name == name }); i >= 0 {
		return v.snap.Namespaces[i]
	}
	return lb.Namespace{Name: name}
}

// holds is how much of its quota a namespace has used.
func (v *View) holds(pool, namespace string, f lb.Family) int64 {
	for _, u := range v.ipam.Pools {
		if u.Name != pool {
			continue
		}
		for _, q := range u.Quotas {
			if q.Namespace == namespace && q.Family == f {
				return q.Used
			}
		}
	}
	return 0
}

// usedFor is used, and what of its quota the namespace of the Service has used.
func (v *View) usedFor(svc *lb.Service, pool string) string {
	text := v.used(pool)
	for _, f := range svc.Families {
		if q := v.quota(pool, svc.Key.Namespace, f); q != "" {
			text += fmt.Sprintf(", quota of namespace %s: %s %s", svc.Key.Namespace, q, f)
		}
	}
	return text
}

// reservations tells what is reserved for the Service, and what is wrong with
// it, and whose an address is that it asks for in vain.
func (t *tale) reservations() {
	var lines []string
	for i := range t.view.snap.Reservations {
		r := &t.view.snap.Reservations[i]
		if r.Key.Namespace != t.key.Namespace || !r.Admits(t.key.Name, t.svc.Labels) {
			continue
		}
		j := slices.IndexFunc(t.view.ipam.Reservations, func(h ipam.Holding) bool { return h.Key == r.Key })
		h := &t.view.ipam.Reservations[j]
		lines = append(lines, fmt.Sprintf("IPReservation %s\t%s", r.Key, reservedText(h)))
		if h.Reason.Code != reason.ObjectValid {
			lines = append(lines, "\t"+h.Reason.String())
		}
		if !h.Reason.Good() {
			t.fixFor(h.Reason.Code)
		}
	}
	t.section("Reserved for it", lines...)
}

func reservedText(h *ipam.Holding) string {
	const most = 10
	var parts []string
	for i := range h.Addresses[:min(most, len(h.Addresses))] {
		a := &h.Addresses[i]
		switch {
		case len(a.UsedBy) > 0:
			parts = append(parts, fmt.Sprintf("%s (used by %s)", a.Address, enumerate(a.UsedBy, 3)))
		case len(a.Last) > 0:
			parts = append(parts, fmt.Sprintf("%s (free, last used by %s)", a.Address, enumerate(a.Last, 3)))
		default:
			parts = append(parts, fmt.Sprintf("%s (free)", a.Address))
		}
	}
	if more := len(h.Addresses) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	if len(parts) == 0 {
		return "holds nothing"
	}
	return "holds " + strings.Join(parts, ", ")
}
