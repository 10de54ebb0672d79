// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

// asks says what a Service wants, a line each.
func asks(svc *lb.Service) []string {
	lines := []string{families(svc)}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if len(svc.Ports) > 0 {
		ports := make([]string, len(svc.Ports))
		for i, p := range svc.Ports {
			ports[i] = fmt.Sprintf("%s %d", p.Protocol, p.Number)
		}
		add("for %s", enumerate(ports, 10))
	}
	r := &svc.Request
	if r.Invalid != "" {
		add("something that cannot be understood: %s", r.Invalid)
	}
	if len(r.Addresses) > 0 {
		add("exactly %s", enumerate(r.Addresses, 2))
	}
	if r.Pool != "" {
		add("out of pool %q (annotation %s)", r.Pool, api.AnnotationAddressPool)
	}
	if svc.SharingKey != "" {
		add("shared with Services of the key %q (annotation %s)", svc.SharingKey, api.AnnotationAllowSharedIP)
	}
	if svc.Local {
		add("externalTrafficPolicy Local: only nodes with a serving endpoint may answer")
	}
	return append(lines, endpoints(svc))
}

func families(svc *lb.Service) string {
	switch {
	case svc.Headless:
		return "nothing that can be given: it is headless (clusterIP: None)"
	case len(svc.Families) == 0:
		return "an address, but it has no ClusterIP yet"
	case len(svc.Families) == 1:
		return fmt.Sprintf("an %s address", svc.Families[0])
	case svc.FamilyPolicy == lb.RequireDualStack:
		return "an IPv4 and an IPv6 address, or none (RequireDualStack)"
	}
	return fmt.Sprintf("an IPv4 and an IPv6 address, or one of them (%s)", svc.FamilyPolicy)
}

// endpoints says where the Service's traffic can go.
func endpoints(svc *lb.Service) string {
	total := 0
	var where []string
	for _, e := range svc.Endpoints {
		total += e.Count
		switch {
		case e.Count == 0:
		case e.Node == "":
			where = append(where, fmt.Sprintf("%d outside the cluster", e.Count))
		default:
			where = append(where, fmt.Sprintf("%d on %s", e.Count, e.Node))
		}
	}
	if total == 0 {
		return "it has no serving endpoint"
	}
	return fmt.Sprintf("it has %s: %s", plural(total, "serving endpoint"), enumerate(where, 5))
}

// aligned indents lines and lines up what tabs separate.
func aligned(lines []string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 3, ' ', tabwriter.DiscardEmptyColumns)
	for _, l := range lines {
		fmt.Fprintln(w, "  "+l)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
