// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
)

// quotas turns the quotas of a pool into those of the planner. One whose
// selector cannot be understood makes the pool invalid.
func (s *subject) quotas(in []v1beta1.NamespaceQuota) []lb.Quota {
	var out []lb.Quota
	for i := range in {
		field := fmt.Sprintf("spec.quotas[%d].namespaceSelectors", i)
		out = append(out, lb.Quota{
			Namespaces:         sorted(in[i].Namespaces),
			NamespaceSelectors: s.selectors(field, in[i].NamespaceSelectors),
			IPv4:               limit(in[i].IPv4),
			IPv6:               limit(in[i].IPv6),
		})
	}
	return out
}

func limit(n *int32) int64 {
	if n == nil {
		return lb.NoLimit
	}
	return int64(*n)
}

// reservations turns the objects of all namespaces into reservations, oldest
// first. What is wrong with one is said by the plan, in the object's own
// status: its owner is a user, and it is no part of Herald's configuration.
func reservations(objs []*v1alpha1.IPReservation) []lb.Reservation {
	var out []lb.Reservation
	for _, obj := range objs {
		if obj.DeletionTimestamp == nil {
			out = append(out, reservation(obj))
		}
	}
	slices.SortFunc(out, func(a, b lb.Reservation) int { return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key)) })
	return out
}

func reservation(obj *v1alpha1.IPReservation) lb.Reservation {
	r := lb.Reservation{
		Key:      lb.ReservationKey{Namespace: obj.Namespace, Name: obj.Name},
		Created:  obj.CreationTimestamp.Time,
		Pool:     obj.Spec.Pool,
		IPv4:     number(obj.Spec.IPv4),
		IPv6:     number(obj.Spec.IPv6),
		Services: sorted(obj.Spec.Services),
	}
	var wrong []string
	for i, text := range obj.Spec.Addresses {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || a.Zone() != "" || a.Is4In6() {
			wrong = append(wrong, fmt.Sprintf("spec.addresses[%d] %q: it is no address: write it as 192.0.2.10 or 2001:db8::10", i, shorten(text)))
			continue
		}
		if !slices.Contains(r.Addresses, a) {
			r.Addresses = append(r.Addresses, a)
		}
	}
	scratch := builder{}
	sub := scratch.subject("", obj)
	r.ServiceSelectors = sub.selectors("spec.serviceSelectors", obj.Spec.ServiceSelectors)
	for _, p := range scratch.problems {
		wrong = append(wrong, p.Reason.Text)
	}
	r.Invalid = strings.Join(wrong, "; ")
	r.Held = held(obj)
	return r
}

func number(n *int32) int {
	if n == nil {
		return 0
	}
	return max(0, int(*n))
}

// held reads back what the controller has recorded. What cannot be read was
// not written by it.
func held(obj *v1alpha1.IPReservation) []lb.HeldAddress {
	var out []lb.HeldAddress
	for _, h := range obj.Status.Addresses {
		if a, err := netip.ParseAddr(h.Address); err == nil && a.Zone() == "" {
			out = append(out, lb.HeldAddress{Address: a.Unmap(), Last: sorted(h.LastUsedBy)})
		}
	}
	slices.SortFunc(out, func(a, b lb.HeldAddress) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(out, func(a, b lb.HeldAddress) bool { return a.Address == b.Address })
}
