// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// What users do.

func (w *world) user(do string, r dice) {
	ns, name, pool := pick(r, nsNames()), pick(r, serviceNames()), pick(r, poolNames())
	key := ns + "/" + name
	s, exists := w.services.live[key]
	switch {
	case do == "pool":
		w.editPool(pool, r)
	case do == "drop pool":
		w.dropPool(pool, r)
	case do == "wipe":
		w.tell("all pools are deleted")
		for _, p := range w.pools.sorted() {
			w.pools.remove(p.in.name)
		}
	case do == "namespace":
		in := &nsIntent{ns, pick(r, tiers())}
		w.tell("namespace %+v", *in)
		w.putNamespace(in)
	case do == "drop namespace" && w.namespaces.live[ns].in != nil:
		w.tell("namespace %s is deleted", ns)
		w.namespaces.remove(ns)
	case do == "edit" && exists:
		w.editService(s.in, r)
	case do == "edit", do == "recreate" && exists:
		if exists {
			w.services.remove(key)
		}
		in := newService(ns, name, r)
		w.tell("Service %s is created: %+v", key, *in)
		w.putService(in)
	case do == "delete" && exists:
		w.deleteService(s, r)
	case do == "retype" && exists:
		in := *s.in
		in.balancer, in.foreign = !in.balancer, false
		w.tell("Service %s: load balancer %v", key, in.balancer)
		w.putService(&in)
	case do == "announce" && exists && s.in.balancer && !s.in.foreign:
		w.tell("a speaker writes to %s", key)
		w.announce(s)
	default:
		w.promises(do, r)
	}
}

func serviceNames() []string { return []string{"a", "b", "c", "d", "e"} }

func nsNames() []string   { return []string{"blue", "green", "red"} }
func poolNames() []string { return []string{"p0", "p1", "p2", "p3", "p4"} }
func tiers() []string     { return []string{"", "web", "db"} }

func newService(ns, name string, r dice) *svcIntent {
	in := &svcIntent{ns: ns, name: name, balancer: !r.one(12), families: []lb.Family{r.family()}, policy: lb.SingleStack, selector: "x"}
	in.foreign = in.balancer && r.one(25)
	in.headless = r.one(25)
	in.tier = pick(r, tiers())
	in.setPorts(r)
	if r.one(3) {
		in.setSharing(r)
	}
	if r.one(3) {
		in.setPolicy(r)
	}
	if r.one(4) {
		in.setRequest(r)
	}
	in.local, in.selector = r.one(3), pick(r, []string{"x", "y"})
	return in
}

// editService changes one thing.
func (w *world) editService(old *svcIntent, r dice) {
	in := *old
	switch r.IntN(8) {
	case 0, 1:
		in.setRequest(r)
	case 2:
		in.askAddrs, in.askPool, in.invalid = nil, "", false
	case 3:
		in.setPolicy(r)
	case 4:
		in.setSharing(r)
	case 5:
		in.setPorts(r)
	case 6:
		in.tier = pick(r, tiers())
	case 7:
		in.local, in.selector = r.one(2), pick(r, []string{"x", "y"})
	}
	w.tell("Service %s is edited: %+v", in.key(), in)
	w.putService(&in)
}

func (in *svcIntent) setPorts(r dice) {
	in.ports = some(r, []lb.Port{{Protocol: "TCP", Number: 80}, {Protocol: "TCP", Number: 443}, {Protocol: "UDP", Number: 53}})
	if len(in.ports) == 0 {
		in.ports = []lb.Port{{Protocol: "TCP", Number: uint16(1000 + r.IntN(3))}}
	}
}

func (in *svcIntent) setSharing(r dice) { in.sharing = pick(r, []string{"", "k1", "k1", "k2"}) }

// setPolicy upgrades or downgrades. The first family stays, as in Kubernetes.
func (in *svcIntent) setPolicy(r dice) {
	in.policy = pick(r, []lb.FamilyPolicy{lb.SingleStack, lb.PreferDualStack, lb.RequireDualStack})
	in.families = in.families[:1:1]
	if in.policy == lb.RequireDualStack || (in.policy == lb.PreferDualStack && !r.one(4)) {
		in.families = append(in.families, lb.IPv4+lb.IPv6-in.families[0])
	}
}

func (in *svcIntent) setRequest(r dice) {
	in.askAddrs, in.askPool, in.invalid = nil, "", r.one(12)
	in.legacy, in.viaSpec = r.one(4), r.one(2)
	if r.one(3) {
		in.askPool = pick(r, poolNames())
	}
	if in.askPool != "" && !r.one(3) {
		return
	}
	for _, f := range in.families {
		if !r.one(10) {
			in.askAddrs = append(in.askAddrs, r.address(f))
		}
	}
}

func (w *world) deleteService(s svc, r dice) {
	if !s.in.deleting && r.one(4) {
		in := *s.in
		in.deleting = true
		w.tell("Service %s is being deleted", s.in.key())
		w.putService(&in)
		return
	}
	w.tell("Service %s is deleted", s.in.key())
	w.gone[s.in.key()] = s.in
	w.services.remove(s.in.key())
}

func (w *world) dropPool(name string, r dice) {
	p, ok := w.pools.live[name]
	if !ok {
		return
	}
	if !p.in.deleting && r.one(4) {
		in := *p.in
		in.deleting = true
		w.tell("pool %s is being deleted", name)
		w.putPool(&in)
		return
	}
	w.tell("pool %s is deleted", name)
	w.pools.remove(name)
}

func (w *world) editPool(name string, r dice) {
	p, ok := w.pools.live[name]
	in := poolIntent{name: name}
	if ok {
		in = *p.in
	} else {
		in.setSegments(r)
		in.manual, in.avoid = r.one(5), r.one(3)
		if r.one(3) {
			in.setQuotas(r)
		}
	}
	switch x := r.IntN(10); {
	case !ok && x > 4:
	case x < 2: // other addresses
		in.setSegments(r)
	case x == 2: // grows
		in.segments = slices.Clone(in.segments)
		in.addSegment(r)
	case x == 3 && len(in.segments) > 1: // shrinks
		in.segments = in.segments[1:]
	case x == 4:
		in.setPin(r)
	case x == 5:
		in.pin = nil
	case x == 6:
		in.manual = !in.manual
	case x == 7:
		in.avoid = !in.avoid
	default:
		in.typo = !in.typo && r.one(2)
	}
	w.tell("pool %s: %v %+v, pin %+v", name, in.segments, in, in.pin)
	w.putPool(&in)
}

func (in *poolIntent) setSegments(r dice) {
	in.segments = nil
	for range 1 + r.IntN(3) {
		in.addSegment(r)
	}
}

// addSegment adds a range of one to four addresses, if it overlaps none of the
// pool: that the API server would not accept.
func (in *poolIntent) addSegment(r dice) {
	s := segment{family: r.family(), cidr: r.one(2)}
	size := 1 + r.IntN(4)
	s.from = r.IntN(last - 3)
	if s.cidr {
		size = 1 << r.IntN(3)
		s.from -= s.from % size
	}
	s.to = s.from + size - 1
	if !slices.ContainsFunc(in.segments, s.overlaps) {
		in.segments = append(in.segments, s)
	}
}

func (in *poolIntent) setPin(r dice) {
	in.pin = &pinIntent{priority: r.IntN(3)}
	if r.one(2) {
		in.pin.namespaces = some(r, nsNames())
	}
	if r.one(2) {
		in.pin.nsTiers = some(r, []string{"web", "db"})
	}
	if r.one(2) {
		in.pin.tiers = some(r, []string{"web", "db"})
	}
}
