// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Underway is a write to a Service that nobody knows the outcome of: it may
// have failed, or may still be carried out, as long as the Service is of the
// version that it is bound to.
type Underway struct {
	Namespace string
	UID       types.UID
	Version   string
	Addresses []netip.Addr // that the Service has after it
}

// hold holds back what cannot be given yet. The requests of a plan are carried
// out in any order, so an address that is taken from one Service and given to
// another would be on both for a moment, or for long if the first request
// fails. So it is given only when a reading shows that it has been taken.
//
//	reading 1   a has .1, b waits      plan: a loses .1, b gets .1
//	            written: a has nothing. b: AddressFreeing
//	reading 2   a has nothing          plan: b gets .1
//	            written: b has .1
//
// The same goes for an address that a request under way may give to somebody.
func hold(all []change, open []Underway) []change {
	if !slices.ContainsFunc(all, func(c change) bool { return len(c.Added) > 0 }) {
		return all
	}
	busy := leaving(all, open)
	if len(busy) == 0 {
		return all
	}
	for i := range all {
		holdOne(&all[i].Decision, all[i].obj, busy)
	}
	return all
}

// leaving returns, for each address that a Service has or may get although the
// plan does not let it have it, those Services. All of them are among the
// changes, or not in the reading.
func leaving(all []change, open []Underway) map[netip.Addr][]lb.ServiceKey {
	out := map[netip.Addr][]lb.ServiceKey{}
	mayGet := make(map[types.UID][]Underway, len(open))
	for _, u := range open {
		mayGet[u.UID] = append(mayGet[u.UID], u)
	}
	note := func(d *ipam.Decision, addrs []netip.Addr) {
		for _, a := range addrs {
			if !slices.Contains(d.Addresses, a) && !slices.Contains(out[a], d.Key) {
				out[a] = append(out[a], d.Key)
			}
		}
	}
	for i := range all {
		c := &all[i]
		note(&c.Decision, addresses(c.obj.Status.LoadBalancer.Ingress))
		for _, u := range mayGet[c.obj.UID] {
			if u.Version == c.obj.ResourceVersion {
				note(&c.Decision, u.Addresses)
			}
		}
		delete(mayGet, c.obj.UID)
	}
	for _, u := range open {
		if _, unseen := mayGet[u.UID]; !unseen {
			continue
		}
		// It is not in the reading, so nothing is known about it.
		for _, a := range u.Addresses {
			out[a] = append(out[a], lb.ServiceKey{})
		}
	}
	return out
}

// holdOne takes out of a decision what is busy.
func holdOne(d *ipam.Decision, obj *corev1.Service, busy map[netip.Addr][]lb.ServiceKey) {
	var back []netip.Addr
	why := ""
	for _, a := range d.Added {
		others := slices.DeleteFunc(slices.Clone(busy[a]), func(k lb.ServiceKey) bool { return k == d.Key })
		if len(others) == 0 {
			continue
		}
		if why == "" {
			why = fmt.Sprintf("%s is being taken from %s, and follows", a, called(others[0]))
		}
		back = append(back, a)
	}
	if len(back) > 0 {
		keepBack(d, obj, back, why)
	}
}

// keepBack makes a decision do without some of what it adds, for now.
func keepBack(d *ipam.Decision, obj *corev1.Service, back []netip.Addr, why string) {
	if p := obj.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		back = d.Added // both or nothing
	}
	var pools []string
	var addrs []netip.Addr
	for i, a := range d.Addresses {
		if slices.Contains(back, a) {
			continue
		}
		addrs = append(addrs, a)
		why += "; has " + a.String()
		if len(d.Pools) == len(d.Addresses) && !slices.Contains(pools, d.Pools[i]) {
			pools = append(pools, d.Pools[i])
		}
	}
	if len(d.Pools) != len(d.Addresses) && len(addrs) > 0 {
		pools = d.Pools
	}
	d.Addresses, d.Pools = addrs, pools
	d.Added = slices.DeleteFunc(slices.Clone(d.Added), func(a netip.Addr) bool { return slices.Contains(back, a) })
	d.Reason = reason.New(reason.AddressFreeing, "%s", why)
}

func called(k lb.ServiceKey) string {
	if k == (lb.ServiceKey{}) {
		return "a Service that cannot be read now"
	}
	return "Service " + k.String()
}
