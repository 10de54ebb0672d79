// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// parseQuota reads WHO:IPV4:IPV6. WHO is * for everybody, names of namespaces,
// or {LABELS} of them; a limit is a number or -.
func parseQuota(text string) (q lb.Quota, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return q, fmt.Errorf("a quota is WHO:IPV4:IPV6")
	}
	switch who := parts[0]; {
	case who == "*":
	case strings.HasPrefix(who, "{"):
		q.NamespaceSelectors = []lb.Selector{parseSelector(strings.Trim(who, "{}"))}
	default:
		q.Namespaces = strings.Split(who, ",")
	}
	for i, n := range []*int64{&q.IPv4, &q.IPv6} {
		if *n = lb.NoLimit; parts[i+1] != "-" && err == nil {
			*n, err = strconv.ParseInt(parts[i+1], 10, 64)
		}
	}
	return q, err
}

// reservation adds or replaces one; it keeps its age and what it holds.
func (c *cluster) reservation(name string, options []string) error {
	namespace, rest, _ := strings.Cut(name, "/")
	c.clock++
	r := lb.Reservation{Key: lb.ReservationKey{Namespace: namespace, Name: rest}, Created: time.Unix(int64(c.clock), 0)}
	i := slices.IndexFunc(c.reservations, func(o lb.Reservation) bool { return o.Key == r.Key })
	if i >= 0 {
		r.Created, r.Held = c.reservations[i].Created, c.reservations[i].Held
	}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if err := reservationOption(&r, key, value); err != nil {
			return fmt.Errorf("option %q: %w", o, err)
		}
	}
	if i >= 0 {
		c.reservations[i] = r
	} else {
		c.reservations = append(c.reservations, r)
	}
	return nil
}

func reservationOption(r *lb.Reservation, key, value string) (err error) {
	switch key {
	case "addresses":
		r.Addresses, err = parseAddrs(value)
	case "pool":
		r.Pool = value
	case "4":
		r.IPv4, err = strconv.Atoi(value)
	case "6":
		r.IPv6, err = strconv.Atoi(value)
	case "services":
		r.Services = strings.Split(value, ",")
	case "with":
		r.ServiceSelectors = append(r.ServiceSelectors, parseSelector(value))
	case "invalid":
		r.Invalid = strings.ReplaceAll(value, "_", " ")
	default:
		err = fmt.Errorf("unknown option")
	}
	return err
}

func (c *cluster) remember(name, addresses string) error {
	namespace, rest, _ := strings.Cut(name, "/")
	addrs, err := parseAddrs(addresses)
	c.forget(name)
	c.remembered = append(c.remembered, lb.Remembered{Key: lb.ServiceKey{Namespace: namespace, Name: rest}, Addresses: addrs})
	return err
}

func (c *cluster) forget(name string) {
	c.remembered = slices.DeleteFunc(c.remembered, func(m lb.Remembered) bool { return m.Key.String() == name })
}

// addReservations completes a snapshot.
func (c *cluster) addReservations(s *lb.Snapshot) {
	s.Reservations, s.Remembered = slices.Clone(c.reservations), slices.Clone(c.remembered)
	slices.SortFunc(s.Reservations, func(a, b lb.Reservation) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	slices.SortFunc(s.Remembered, func(a, b lb.Remembered) int { return a.Key.Compare(b.Key) })
}

// recorded returns the reservations with what they hold.
func recorded(list []lb.Reservation, r ipam.Result) []lb.Reservation {
	out := slices.Clone(list)
	for i := range out {
		j := slices.IndexFunc(r.Reservations, func(h ipam.Holding) bool { return h.Key == out[i].Key })
		if j < 0 {
			panic("nothing planned for reservation " + out[i].Key.String())
		}
		out[i].Held = nil
		for _, h := range r.Reservations[j].Addresses {
			out[i].Held = append(out[i].Held, lb.HeldAddress{Address: h.Address, Last: h.Last})
		}
	}
	return out
}

func formatReservations(b *strings.Builder, r ipam.Result) {
	for _, h := range r.Reservations {
		fmt.Fprintf(b, "reservation %s\n  %s\n", h.Key, h.Reason)
		for _, a := range h.Addresses {
			fmt.Fprintf(b, "  %s", a.Address)
			if a.Pool != "" {
				fmt.Fprintf(b, " (%s)", a.Pool)
			}
			if a.State != ipam.Free {
				fmt.Fprintf(b, " %s by %v", a.State, a.UsedBy)
			}
			if len(a.Last) > 0 {
				fmt.Fprintf(b, " last %s", strings.Join(a.Last, ","))
			}
			b.WriteByte('\n')
		}
	}
}
