// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Address is an address that a Service has, or that is reserved. One that is
// shared is listed once for each of its Services.
type Address struct {
	Address   netip.Addr `json:"address"`
	Namespace string     `json:"namespace"`
	// Service is empty for a reserved address that nobody uses.
	Service string `json:"service,omitempty"`
	// Pool is empty if the pool is not known.
	Pool string `json:"pool,omitempty"`
	// Since is when the controller gave the Service this address, as it wrote
	// down then (annotation heraldlb.io/assigned-at).
	Since string `json:"since,omitempty"`
	// SinceAtLatest stands in for it if the Service had the address before
	// anybody wrote that down: when the condition heraldlb.io/Allocated became
	// True. The address may be older.
	SinceAtLatest string `json:"sinceAtLatest,omitempty"`
	// Nodes answer for the address: one, or for a moment two, while one takes
	// over. Where routers have it, by BGP, they are all that announce it.
	Nodes      []string `json:"nodes,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"`
	SharingKey string   `json:"sharingKey,omitempty"`
	// Reservation is the IPReservation that holds the address, as
	// namespace/name. It may be for other Services, if this one had it before.
	Reservation string `json:"reservation,omitempty"`
	// Quota is what the namespace holds of the pool and family, and may hold,
	// as used/limit; empty if it is not limited.
	Quota string `json:"quota,omitempty"`
	// Announced is the reason of the condition heraldlb.io/Announced.
	Announced string `json:"announced,omitempty"`
}

// Filter chooses addresses; empty fields choose all.
type Filter struct {
	Namespace string
	Pool      string
}

// Addresses lists who has what, by address, then Service. It is an error to ask
// for a pool that neither exists nor has given an address.
func (v *View) Addresses(f Filter) ([]Address, error) {
	out := []Address{}
	known := f.Pool == "" || slices.ContainsFunc(v.snap.Pools, func(p lb.Pool) bool { return p.Name == f.Pool })
	for i := range v.snap.Services {
		svc := &v.snap.Services[i]
		for j := range svc.Assigned {
			pool := v.poolOf(svc, j)
			known = known || pool == f.Pool
			if (f.Namespace == "" || svc.Key.Namespace == f.Namespace) && (f.Pool == "" || pool == f.Pool) {
				out = append(out, v.address(svc, j, pool))
			}
		}
	}
	for _, a := range v.unused() {
		if (f.Namespace == "" || a.Namespace == f.Namespace) && (f.Pool == "" || a.Pool == f.Pool) {
			out = append(out, a)
		}
	}
	if !known {
		return nil, fmt.Errorf("there is no IPAddressPool %q in namespace %s: %s", f.Pool, v.cluster.Namespace, v.poolNames())
	}
	slices.SortFunc(out, func(a, b Address) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
	})
	return out, nil
}

func (v *View) address(svc *lb.Service, i int, pool string) Address {
	a := Address{
		Address:    svc.Assigned[i],
		Namespace:  svc.Key.Namespace,
		Service:    svc.Key.Name,
		Pool:       pool,
		SharingKey: svc.SharingKey,
		Quota:      v.quota(pool, svc.Key.Namespace, lb.FamilyOf(svc.Assigned[i])),
	}
	if h := v.holding(a.Address); h != nil {
		a.Reservation = h.Key.String()
	}
	obj := v.cluster.service(svc.Key)
	a.Since = status.AssignedAt(obj.Annotations[api.AnnotationAssignedAt])[a.Address]
	if c := condition(obj, api.ConditionAllocated); a.Since == "" && c != nil && c.Status == metav1.ConditionTrue {
		a.SinceAtLatest = stamp(c.LastTransitionTime)
	}
	if c := condition(obj, api.ConditionAnnounced); c != nil {
		a.Announced = c.Reason
	}
	for _, r := range v.routed[svc.Key] {
		if slices.ContainsFunc(r.up, func(peer string) bool { return v.carries(peer, a.Address) }) {
			a.Nodes = append(a.Nodes, r.node)
		}
	}
	// A node reports Services. Of a Service that an advertisement covers only
	// in part, it answers for the covered addresses.
	if g, ok := v.announce.Group(svc.Key); ok && !g.Has(a.Address) {
		return a
	}
	for _, o := range v.cluster.owners(svc.Key) {
		if !slices.Contains(a.Nodes, o.node) {
			a.Nodes = append(a.Nodes, o.node)
		}
		a.Interfaces = append(a.Interfaces, o.interfaces...)
	}
	slices.Sort(a.Interfaces)
	a.Interfaces = slices.Compact(a.Interfaces)
	return a
}

// since is a column. "<" is: the address may be older.
func (a *Address) since() string {
	if a.Since == "" && a.SinceAtLatest != "" {
		return "<" + a.SinceAtLatest
	}
	return a.Since
}

// stamp writes a time so that it sorts, in UTC.
func stamp(t metav1.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// CheckOutput says whether PrintAddresses knows a format, before anything is
// read.
func CheckOutput(format string) error {
	switch format {
	case "table", "wide", "json", "yaml":
		return nil
	}
	return fmt.Errorf("output %q is unknown: give -o table, wide, json or yaml", format)
}

// PrintAddresses writes the list as table, wide, json or yaml.
func PrintAddresses(w io.Writer, list []Address, format string) error {
	if format == "table" || format == "wide" {
		return addressTable(w, list, format == "wide")
	}
	return printData(w, map[string]any{"addresses": list}, format)
}

// printData writes data for programs: json or yaml.
func printData(w io.Writer, data any, format string) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(data)
	case "yaml":
		text, err := yaml.Marshal(data)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	return CheckOutput(format)
}

func addressTable(w io.Writer, list []Address, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	row := func(narrow, more []string) {
		if wide {
			narrow = append(narrow, more...)
		}
		fmt.Fprintln(t, strings.Join(narrow, "\t"))
	}
	most := 3
	if wide {
		most = 100
	}
	row([]string{"ADDRESS", "SERVICE", "POOL", "SINCE", "NODE", "RESERVED"}, []string{"INTERFACES", "SHARING KEY", "ANNOUNCED", "QUOTA"})
	for _, a := range list {
		service := "-"
		if a.Service != "" {
			service = a.Namespace + "/" + a.Service
		}
		row([]string{a.Address.String(), service, orDash(a.Pool), orDash(a.since()), orDash(short(a.Nodes, most)), orDash(a.Reservation)},
			[]string{orDash(strings.Join(a.Interfaces, ",")), orDash(a.SharingKey), orDash(a.Announced), orDash(a.Quota)})
	}
	return t.Flush()
}
