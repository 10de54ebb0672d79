// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// allowance names what a quota is about.
type allowance struct {
	namespace, pool string
	family          lb.Family
}

// holdQuotas does for quotas what hold does for addresses: if a namespace has
// to give up an address of a pool before it may have another one, that one is
// given only when a reading shows that the first has been taken. Otherwise it
// would hold both for a moment, and its quota says that it never does.
//
// An address that a request under way may give to a Service, and the plan does
// not, is one that it has to give up, too.
func holdQuotas(all []change, pools []ipam.Usage, open []Underway) []change {
	limited := map[allowance]ipam.QuotaUse{}
	for _, u := range pools {
		for _, q := range u.Quotas {
			limited[allowance{q.Namespace, u.Name, q.Family}] = q
		}
	}
	if len(limited) == 0 {
		return all
	}
	leaving := leavingPools(all)
	late := arriving(all, open)
	for i := range all {
		c := &all[i]
		var back []netip.Addr
		why := ""
		for _, a := range c.Added {
			k := allowance{c.Key.Namespace, poolOf(c.Pools, c.Addresses, a), lb.FamilyOf(a)}
			q, ok := limited[k]
			if !ok {
				continue
			}
			from := slices.Concat(leaving[k], late[allowance{namespace: k.namespace, family: k.family}])
			from = slices.DeleteFunc(from, func(s lb.ServiceKey) bool { return s == c.Key })
			if len(from) == 0 || q.Used+int64(len(from)) <= q.Limit {
				continue
			}
			if why == "" {
				why = fmt.Sprintf("an address of pool %q is being taken from %s, which makes room in the quota of namespace %s, and %s follows", k.pool, called(from[0]), k.namespace, a)
			}
			back = append(back, a)
		}
		if len(back) > 0 {
			keepBack(&c.Decision, c.obj, back, why)
		}
	}
	return all
}

// leavingPools returns the Services that have to give up an address, or whose address counts for another pool from now on, as one
// in two pools may after a change of these.
func leavingPools(all []change) map[allowance][]lb.ServiceKey {
	out := map[allowance][]lb.ServiceKey{}
	for i := range all {
		c := &all[i]
		have := addresses(c.obj.Status.LoadBalancer.Ingress)
		for _, a := range have {
			pool := poolOf(snapshot.AllocatedPools(c.obj), have, a)
			if !slices.Contains(c.Addresses, a) || poolOf(c.Pools, c.Addresses, a) != pool {
				k := allowance{c.Key.Namespace, pool, lb.FamilyOf(a)}
				out[k] = append(out[k], c.Key)
			}
		}
	}
	return out
}

// arriving returns, for each namespace and family, the Services that may get an
// address that the plan does not let them have. Of which pool it is nobody has
// written down, so it counts in each until the request is out of the way, which
// takes one round.
func arriving(all []change, open []Underway) map[allowance][]lb.ServiceKey {
	seen := make(map[types.UID]*change, len(open))
	for i := range all {
		seen[all[i].obj.UID] = &all[i]
	}
	type gift struct {
		uid  types.UID
		addr netip.Addr
	}
	counted := map[gift]bool{}
	out := map[allowance][]lb.ServiceKey{}
	for _, u := range open {
		c := seen[u.UID]
		if c != nil && c.obj.ResourceVersion != u.Version {
			continue // it can do nothing any more
		}
		var key lb.ServiceKey // of one that is not in the reading
		if c != nil {
			key = c.Key
		}
		for _, a := range u.Addresses {
			// What it has counts already: the plan keeps it, or it is leaving.
			if c != nil && (slices.Contains(c.Addresses, a) || slices.Contains(addresses(c.obj.Status.LoadBalancer.Ingress), a)) {
				continue
			}
			if counted[gift{u.UID, a}] {
				continue
			}
			counted[gift{u.UID, a}] = true
			k := allowance{namespace: u.Namespace, family: lb.FamilyOf(a)}
			out[k] = append(out[k], key)
		}
	}
	return out
}

// poolOf finds the pool of an address in the notation of the annotation: one
// name for each address, or one for all.
func poolOf(pools []string, addrs []netip.Addr, a netip.Addr) string {
	switch i := slices.Index(addrs, a); {
	case len(pools) == 1:
		return pools[0]
	case i >= 0 && i < len(pools):
		return pools[i]
	}
	return ""
}
