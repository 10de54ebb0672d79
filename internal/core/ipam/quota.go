// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
)

// allowance is what one namespace may hold of one pool and family, and what it
// holds: used by its Services, reserved for them, or both.
type allowance struct {
	limit int64
	has   map[netip.Addr]struct{}
}

func (a *allowance) spent() bool { return int64(len(a.has)) >= a.limit }

// allowance returns the allowance of a namespace, nil if it has no limit.
func (p *pool) allowance(ns *namespace, f family) *allowance {
	if len(p.Quotas) == 0 {
		return nil
	}
	if p.allowances[f] == nil {
		p.allowances[f] = map[*namespace]*allowance{}
	}
	a, ok := p.allowances[f][ns]
	if !ok {
		n := p.Limit(ns.Namespace, f.lb())
		if !ns.known && p.selects(f) {
			n = 0
		}
		if n != lb.NoLimit {
			a = &allowance{limit: n, has: map[netip.Addr]struct{}{}}
		}
		p.allowances[f][ns] = a
	}
	return a
}

// selects reports whether a quota of the family depends on the labels of
// namespaces. One that the cache does not know yet may have any, so it gets
// nothing new until it is known.
func (p *pool) selects(f family) bool {
	return slices.ContainsFunc(p.Quotas, func(q lb.Quota) bool {
		return len(q.NamespaceSelectors) > 0 && ((f == v4 && q.IPv4 >= 0) || (f == v6 && q.IPv6 >= 0))
	})
}

// allows reports whether the namespace may hold the address of the pool: it
// does already, or its quota has room.
func (p *pool) allows(ns *namespace, a netip.Addr) bool {
	q := p.allowance(ns, familyOf(a))
	if q == nil {
		return true
	}
	_, has := q.has[a]
	return has || !q.spent()
}

// spent reports whether the quota of the namespace has no room for another
// address.
func (p *pool) spent(ns *namespace, f family) bool {
	q := p.allowance(ns, f)
	return q != nil && q.spent()
}

// charge notes that the namespace holds an address of the pool.
func (p *pool) charge(ns *namespace, a netip.Addr) {
	if p == nil {
		return
	}
	if q := p.allowance(ns, familyOf(a)); q != nil {
		q.has[a] = struct{}{}
	}
}

// overQuota says that the namespace has used up its quota.
func (p *pool) overQuota(ns *namespace, f family) string {
	q := p.allowance(ns, f)
	if !ns.known && p.selects(f) {
		return fmt.Sprintf("pool %q has quotas for namespaces by their labels, and those of namespace %s are not known yet", p.Name, ns.Name)
	}
	return fmt.Sprintf("pool %q has a quota of %d %s for namespace %s, which holds %d", p.Name, q.limit, addressesOf(f, q.limit), ns.Name, len(q.has))
}

// quotaUse lists what limited namespaces hold.
func (p *pool) quotaUse() []QuotaUse {
	var out []QuotaUse
	for f := range p.allowances {
		for ns, a := range p.allowances[f] {
			if a != nil && len(a.has) > 0 {
				out = append(out, QuotaUse{ns.Name, family(f).lb(), int64(len(a.has)), a.limit})
			}
		}
	}
	slices.SortFunc(out, func(a, b QuotaUse) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Family, b.Family))
	})
	return out
}

func addressesOf(f family, n int64) string {
	if n == 1 {
		return f.String() + " address"
	}
	return f.String() + " addresses"
}
