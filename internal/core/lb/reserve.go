// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// NoLimit in a Quota means that it does not limit the family.
const NoLimit = -1

// Quota limits how many addresses of a pool a namespace may hold. It limits
// each namespace on its own, not all of them together.
type Quota struct {
	// Namespaces and NamespaceSelectors form a union; both nil means every
	// namespace. A Quota whose selectors match nothing limits nobody.
	Namespaces         []string
	NamespaceSelectors []Selector
	// IPv4 and IPv6 are the most addresses of each family, or NoLimit.
	IPv4, IPv6 int64
}

// Limit returns how many addresses of the family the namespace may hold of the
// pool, or NoLimit. The most specific quota that limits the family decides: one
// that names the namespace, else one that selects it by labels, else one for
// all. Of equally specific ones, the lowest.
func (p *Pool) Limit(ns Namespace, f Family) int64 {
	best, limit := 0, int64(NoLimit)
	for i := range p.Quotas {
		q := &p.Quotas[i]
		n := q.IPv4
		if f == IPv6 {
			n = q.IPv6
		}
		s := q.specific(ns)
		switch {
		case n < 0 || s == 0 || s < best:
		case s > best || n < limit:
			best, limit = s, n
		}
	}
	return limit
}

// specific is 0 for a quota that is not for the namespace, else more for a more
// specific one.
func (q *Quota) specific(ns Namespace) int {
	switch {
	case slices.Contains(q.Namespaces, ns.Name):
		return 3
	case MatchesAny(q.NamespaceSelectors, ns.Labels):
		return 2
	case len(q.Namespaces) == 0 && len(q.NamespaceSelectors) == 0:
		return 1
	}
	return 0
}

// ReservationKey names an IPReservation.
type ReservationKey struct {
	Namespace string
	Name      string
}

// String returns "namespace/name".
func (k ReservationKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k ReservationKey) Compare(o ReservationKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Reservation keeps addresses for Services of its namespace.
type Reservation struct {
	Key     ReservationKey
	Created time.Time

	// Either Addresses, or a number of addresses of Pool for each family.
	Addresses  []netip.Addr // in the order of the object, each once
	Pool       string
	IPv4, IPv6 int

	// Services and ServiceSelectors form a union; both nil means every Service
	// of the namespace. A restriction that matches nothing matches no Service.
	Services         []string
	ServiceSelectors []Selector

	// Held are the addresses that the reservation had after the last plan, by
	// address.
	Held []HeldAddress
	// Invalid says, when not empty, why the object cannot be understood. It
	// then keeps what it holds, and gets nothing new.
	Invalid string
}

// HeldAddress is an address of a reservation.
type HeldAddress struct {
	Address netip.Addr
	// Last names the Services that use the address, or the last ones that did;
	// sorted.
	Last []string
}

// Admits reports whether the reservation is for a Service of its namespace.
func (r *Reservation) Admits(name string, labels map[string]string) bool {
	if len(r.Services) == 0 && len(r.ServiceSelectors) == 0 {
		return true
	}
	return slices.Contains(r.Services, name) || MatchesAny(r.ServiceSelectors, labels)
}

// Remembered is a Service that is gone and what it had. If it comes back, it
// gets the same again, as long as nobody else needed it.
type Remembered struct {
	Key       ServiceKey
	Addresses []netip.Addr
}
