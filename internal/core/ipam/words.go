// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
)

// shortOf says that the pool has no address to give of these families, to the
// namespace if that is not nil.
func (p *pool) shortOf(fs families, sharing bool, ns *namespace) string {
	var parts, quotas []string
	for _, f := range fs.list() {
		s := &p.space[f]
		share := ""
		if sharing {
			share = " and none to share"
		}
		switch {
		case s.total == 0:
			parts = append(parts, fmt.Sprintf("no %s addresses", f))
		case p.refusesMore(ns, f):
			quotas = append(quotas, p.overQuota(ns, f))
		case s.held > 0:
			parts = append(parts, fmt.Sprintf("no free %s address%s (%d of %d used, %d reserved)", f, share, s.used, s.total, s.held))
		default:
			parts = append(parts, fmt.Sprintf("no free %s address%s (%d of %d used)", f, share, s.used, s.total))
		}
	}
	if len(parts) > 0 {
		quotas = append(quotas, fmt.Sprintf("pool %q has %s", p.Name, strings.Join(parts, " and ")))
	}
	return strings.Join(quotas, " and ")
}

// refusesMore reports whether the pool has addresses, but the quota of the
// namespace is used up.
func (p *pool) refusesMore(ns *namespace, f family) bool {
	return ns != nil && !p.space[f].full() && p.spent(ns, f)
}

// passedOver says why the pool was no candidate.
func (p *pool) passedOver() string {
	switch {
	case p.frozen:
		return fmt.Sprintf("pool %q is invalid", p.Name)
	case !p.AutoAssign && p.restricted():
		return p.only() + ", and only on request (autoAssign: false)"
	case !p.AutoAssign:
		return fmt.Sprintf("pool %q is given only on request (autoAssign: false)", p.Name)
	}
	return p.only()
}

// skips says that the pool leaves out a, which is in its ranges.
func (p *pool) skips(a netip.Addr) string {
	return fmt.Sprintf("pool %q leaves out %s (avoidBuggyIPs)", p.Name, a)
}

func (p *pool) restricted() bool {
	return p.Pin != nil && len(p.Pin.Namespaces)+len(p.Pin.NamespaceSelectors)+len(p.Pin.ServiceSelectors) > 0
}

// only says whom the pool is for.
func (p *pool) only() string {
	if !p.restricted() {
		return fmt.Sprintf("pool %q is for every Service", p.Name)
	}
	var where, what []string
	if len(p.Pin.Namespaces) > 0 {
		where = append(where, "namespaces ["+strings.Join(p.Pin.Namespaces, " ")+"]")
	}
	for _, s := range p.Pin.NamespaceSelectors {
		where = append(where, "namespaces with {"+selectorText(s)+"}")
	}
	for _, s := range p.Pin.ServiceSelectors {
		what = append(what, "{"+selectorText(s)+"}")
	}
	text := fmt.Sprintf("pool %q is for ", p.Name)
	switch {
	case len(what) == 0:
		text += strings.Join(where, " or ")
	case len(where) == 0:
		text += "Services with " + strings.Join(what, " or ")
	default:
		text += "Services with " + strings.Join(what, " or ") + " in " + strings.Join(where, " or ")
	}
	return text
}

// selectorText writes a selector as kubectl -l takes it.
func selectorText(s lb.Selector) string {
	parts := make([]string, 0, len(s.Requirements))
	for _, r := range s.Requirements {
		switch {
		case r.Op == lb.Exists:
			parts = append(parts, r.Key)
		case r.Op == lb.DoesNotExist:
			parts = append(parts, "!"+r.Key)
		case r.Op == lb.In && len(r.Values) == 1:
			parts = append(parts, r.Key+"="+r.Values[0])
		case r.Op == lb.In:
			parts = append(parts, r.Key+" in ("+strings.Join(r.Values, ",")+")")
		default:
			parts = append(parts, r.Key+" notin ("+strings.Join(r.Values, ",")+")")
		}
	}
	return strings.Join(parts, ",")
}

// list joins things in a sentence.
func list[T fmt.Stringer](things []T) string {
	parts := make([]string, 0, len(things))
	for _, t := range things {
		parts = append(parts, t.String())
	}
	return strings.Join(parts, " and ")
}
