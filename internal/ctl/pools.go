// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// poolLine says what one pool is for one Service.
type poolLine struct {
	name string
	used string
	text string
}

// considered goes through the pools in the order in which the controller tries
// them. It asks the planner about each: what if the Service asked for this
// pool?
func (v *View) considered(svc *lb.Service) []poolLine {
	pools := slices.Clone(v.snap.Pools)
	slices.SortStableFunc(pools, inOrder)
	if svc.Request.Pool != "" {
		pools = slices.DeleteFunc(pools, func(p lb.Pool) bool { return p.Name != svc.Request.Pool })
	}
	out := make([]poolLine, 0, len(pools))
	for i := range pools {
		out = append(out, poolLine{name: pools[i].Name, used: v.usedFor(svc, pools[i].Name), text: v.poolText(svc, &pools[i])})
	}
	return out
}

// inOrder compares pools as the controller does: pinned ones by priority (0
// last) and name, then the others by name.
func inOrder(a, b lb.Pool) int {
	rank := func(p lb.Pool) int {
		switch {
		case p.Pin == nil:
			return math.MaxInt
		case p.Pin.Priority == 0:
			return math.MaxInt - 1
		}
		return p.Pin.Priority
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
}

func (v *View) poolText(svc *lb.Service, p *lb.Pool) string {
	kept, added := v.given(svc, p)
	if len(added) > 0 {
		return "is to give " + enumerate(append(kept, added...), 2)
	}
	if len(kept) > 0 {
		text := "gives " + enumerate(kept, 2)
		if p.Frozen {
			text += ", but is invalid now: it gives nothing new"
		}
		return text
	}
	d := v.whatIf(svc, p)
	onRequest := !p.AutoAssign && svc.Request.Pool == "" && len(svc.Request.Addresses) == 0
	switch {
	case onRequest && (len(d.Addresses) > 0 || d.Reason.Code == reason.PoolsExhausted || d.Reason.Code == reason.QuotaExceeded):
		return "serves it only on request (autoAssign: false)" // more room would not help
	case len(d.Addresses) == 0:
		return strings.TrimPrefix(d.Reason.Text, fmt.Sprintf("pool %q ", p.Name))
	case d.Reason.Code == reason.SecondFamilyMissing:
		return fmt.Sprintf("could give only an %s address", lb.FamilyOf(d.Addresses[0]))
	case len(svc.Assigned) > 0:
		return "could serve it, but the Service has an address already"
	}
	return "can serve it"
}

// given lists the addresses that the Service has from the pool and keeps, and
// those that the plan adds.
func (v *View) given(svc *lb.Service, p *lb.Pool) (kept, added []netip.Addr) {
	d, ok := decision(&v.ipam, svc.Key)
	if !ok {
		panic("ctl: a plan without " + svc.Key.String())
	}
	for i, a := range svc.Assigned {
		if v.poolOf(svc, i) == p.Name && slices.Contains(d.Addresses, a) {
			kept = append(kept, a)
		}
	}
	for _, a := range d.Added {
		if p.Contains(a) {
			added = append(added, a)
		}
	}
	return kept, added
}

// whatIf plans once more, as if the Service had no address and asked for the
// pool.
func (v *View) whatIf(svc *lb.Service, p *lb.Pool) ipam.Decision {
	s := v.snap
	s.Services = slices.Clone(s.Services)
	for i := range s.Services {
		if s.Services[i].Key == svc.Key {
			s.Services[i].Assigned, s.Services[i].AssignedPools = nil, nil
			s.Services[i].Request.Pool = p.Name
		}
	}
	plan := ipam.Plan(s)
	d, ok := decision(&plan, svc.Key)
	if !ok {
		panic("ctl: a plan without " + svc.Key.String())
	}
	return *d
}

// used is "3/16 IPv4, 0/4 IPv6 used", as planned.
func (v *View) used(pool string) string {
	var parts []string
	var reserved int64
	for _, u := range v.ipam.Pools {
		if u.Name != pool {
			continue
		}
		for _, f := range []struct {
			name string
			ipam.Count
		}{{"IPv4", u.IPv4}, {"IPv6", u.IPv6}} {
			switch f.Total {
			case 0:
			case math.MaxInt64:
				parts = append(parts, fmt.Sprintf("%d/2^63+ %s", f.Assigned, f.name))
			default:
				parts = append(parts, fmt.Sprintf("%d/%d %s", f.Assigned, f.Total, f.name))
			}
			reserved += f.Reserved
		}
	}
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, ", ") + " used"
	if reserved > 0 {
		text += fmt.Sprintf(", %d reserved", reserved)
	}
	return text
}
