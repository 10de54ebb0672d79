// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Plan decides for every Service in the snapshot. It never fails, it depends
// on nothing but s, and it does not change s.
func Plan(s lb.Snapshot) Result {
	p := newPlanner(s)
	if len(s.Pools) == 0 {
		r := p.planWithoutPools()
		r.Reservations = p.unsettled(s.Reservations)
		return r
	}
	p.remember(s.Remembered)
	for i := range p.work {
		p.keep(&p.work[i])
	}
	p.reserve(s.Reservations)
	for i := range p.work {
		p.choose(&p.work[i])
	}
	holdings := p.settle()
	services := p.decisions()
	return Result{Services: services, Pools: p.usage(), Reservations: holdings}
}

// planner is the state of one call of Plan.
type planner struct {
	pools      *poolIndex
	ledger     *ledger
	namespaces map[string]*namespace
	work       []work // by age, oldest first
	texts      map[explanation]explained

	reservations []*reservation  // by age, oldest first
	remembered   []lb.ServiceKey // by key
	quotas       bool            // one of the pools has some
}

// work is one Service on its way through a plan.
type work struct {
	svc  *lb.Service
	age  int // position in planner.work
	ns   *namespace
	want families // in the order of the Service
	ask  ask
	have [2]held

	sharers *sharers // nil: does not share
	ports   string   // canonical; only with sharers

	cleared []Cleared
	homes   []*pool // of what it has; only if it is being deleted
}

// held is an address that a Service keeps or gets.
type held struct {
	addr   netip.Addr // zero: none of this family
	home   *pool      // nil: a frozen pool, unknown which
	frozen bool
	added  bool
}

func newPlanner(s lb.Snapshot) *planner {
	p := &planner{
		pools:      indexPools(s.Pools),
		namespaces: make(map[string]*namespace, len(s.Namespaces)),
		work:       make([]work, len(s.Services)),
		texts:      map[explanation]explained{},
	}
	p.ledger = newLedger(p.pools, len(s.Services))
	for i := range s.Pools {
		p.quotas = p.quotas || len(s.Pools[i].Quotas) > 0
	}
	for _, ns := range s.Namespaces {
		p.namespaces[ns.Name] = &namespace{Namespace: ns, known: true}
	}
	for i := range s.Services {
		p.work[i].svc = &s.Services[i]
	}
	byAge := func(a, b work) int {
		return cmp.Or(a.svc.Created.Compare(b.svc.Created), a.svc.Key.Compare(b.svc.Key))
	}
	if !slices.IsSortedFunc(p.work, byAge) {
		slices.SortStableFunc(p.work, byAge)
	}
	for i := range p.work {
		w := &p.work[i]
		w.age = i
		w.ns = p.namespaceOf(w.svc.Key.Namespace)
		if len(s.Reservations) > 0 {
			w.ns.work = append(w.ns.work, w)
		}
		w.want = wanted(w.svc)
		if w.sharers = p.ledger.sharersOf(w.svc); w.sharers != nil {
			w.ports = portSet(w.svc.Ports)
		}
		w.ask = p.pools.check(w)
	}
	return p
}

func (p *planner) namespaceOf(name string) *namespace {
	ns := p.namespaces[name]
	if ns == nil {
		ns = &namespace{Namespace: lb.Namespace{Name: name}}
		p.namespaces[name] = ns
	}
	return ns
}

// wanted returns the families that the Service should have addresses of.
func wanted(svc *lb.Service) families {
	var out families
	for _, f := range svc.Families {
		x := v6
		if f == lb.IPv4 {
			x = v4
		}
		if !svc.Headless && !out.has(x) && (out.n == 0 || svc.FamilyPolicy != lb.SingleStack) {
			out.add(x)
		}
	}
	return out
}

// missing returns the wanted families that w has no address of.
func (w *work) missing() families {
	var out families
	for _, f := range w.want.list() {
		if !w.have[f].addr.IsValid() {
			out.add(f)
		}
	}
	return out
}

// byKey is the order of a result. Namespaces first: comparing whole keys would
// be a quarter of the cost of a plan.
func (p *planner) byKey() []*work {
	at := map[*namespace]int{}
	for i := range p.work {
		at[p.work[i].ns]++
	}
	next := 0
	for _, ns := range slices.SortedFunc(maps.Keys(at), func(a, b *namespace) int { return strings.Compare(a.Name, b.Name) }) {
		at[ns], next = next, next+at[ns]
	}
	out := make([]*work, len(p.work))
	for i := range p.work {
		w := &p.work[i]
		out[at[w.ns]] = w
		at[w.ns]++
	}
	for from := 0; from < len(out); {
		to := at[out[from].ns] // now the end of the namespace
		slices.SortFunc(out[from:to], func(a, b *work) int { return strings.Compare(a.svc.Key.Name, b.svc.Key.Name) })
		from = to
	}
	return out
}

func (p *planner) decisions() []Decision {
	out := make([]Decision, 0, len(p.work))
	var mem slabs
	for _, w := range p.byKey() {
		out = append(out, p.decision(w, &mem))
	}
	return out
}

// slabs are the lists of decisions, allocated together. No list can grow into
// its neighbour.
type slabs struct {
	addrs slab[netip.Addr]
	names slab[string]
}

type slab[T any] struct{ free []T }

func (s *slab[T]) cut(items ...T) []T {
	if len(items) == 0 {
		return nil
	}
	if len(s.free) < len(items) {
		s.free = make([]T, 512)
	}
	n := copy(s.free, items)
	out := s.free[:n:n]
	s.free = s.free[n:]
	return out
}

func (p *planner) decision(w *work, mem *slabs) Decision {
	if w.svc.Deleting {
		for _, x := range w.homes {
			x.services++
		}
		return unchanged(w.svc, reasonDeleting(w.svc))
	}
	d := Decision{Key: w.svc.Key, Cleared: w.cleared, Deprecated: w.svc.Request.Deprecated}
	var addrs, added [2]netip.Addr // by family, without the heap
	var pools [2]string
	n, fresh, homes, unknown := 0, 0, 0, false
	for _, f := range w.want.list() {
		h := &w.have[f]
		if !h.addr.IsValid() {
			continue
		}
		addrs[n] = h.addr
		n++
		if h.added {
			added[fresh] = h.addr
			fresh++
		}
		if h.home == nil {
			unknown = true
			continue
		}
		if !slices.Contains(pools[:homes], h.home.Name) {
			h.home.services++
			pools[homes] = h.home.Name
			homes++
		}
	}
	d.Addresses, d.Added, d.Pools = mem.addrs.cut(addrs[:n]...), mem.addrs.cut(added[:fresh]...), mem.names.cut(pools[:homes]...)
	if unknown {
		// Whatever the annotation says, it is better than a guess.
		d.Pools = slices.Clone(w.svc.AssignedPools)
	}
	d.Reason = p.reason(w)
	return d
}

func (p *planner) usage() []Usage {
	out := make([]Usage, 0, len(p.pools.all))
	for _, x := range p.pools.all {
		out = append(out, Usage{Name: x.Name, Services: x.services, IPv4: x.count(v4), IPv6: x.count(v6), Quotas: x.quotaUse()})
	}
	return out
}

func (p *pool) count(f family) Count {
	c := Count{Total: p.space[f].total, Assigned: p.assigned[f]}
	if !p.frozen {
		c.Reserved = p.space[f].held
		c.Available = c.Total - p.space[f].used - p.space[f].held
	}
	return c
}

// planWithoutPools changes nothing. A cluster whose pools have all gone is
// more likely one whose CRDs are being reinstalled, or whose cache is not what
// it seems, than one that wants no Service to have an address.
func (p *planner) planWithoutPools() Result {
	out := make([]Decision, 0, len(p.work))
	for _, w := range p.byKey() {
		out = append(out, unchanged(w.svc, reasonWithoutPools(w.svc)))
	}
	return Result{Services: out, Pools: []Usage{}}
}

// unchanged leaves a Service as it is.
func unchanged(svc *lb.Service, why reason.Reason) Decision {
	return Decision{
		Key:        svc.Key,
		Addresses:  slices.Clone(svc.Assigned),
		Pools:      slices.Clone(svc.AssignedPools),
		Reason:     why,
		Deprecated: svc.Request.Deprecated,
	}
}

func reasonDeleting(svc *lb.Service) reason.Reason {
	if len(svc.Assigned) == 0 {
		return because(reason.ServiceDeleting, "the Service is being deleted and has no address")
	}
	return because(reason.ServiceDeleting, "the Service is being deleted; it keeps "+list(svc.Assigned)+" until it is gone")
}

func reasonWithoutPools(svc *lb.Service) reason.Reason {
	switch {
	case svc.Deleting:
		return reasonDeleting(svc)
	case len(svc.Assigned) > 0:
		return because(reason.AddressKept, "keeps "+list(svc.Assigned)+": there is no IPAddressPool to check against")
	case svc.Headless:
		return because(reason.HeadlessService, headless)
	case svc.Request.Invalid != "":
		return because(reason.InvalidRequest, svc.Request.Invalid)
	}
	return because(reason.NoPools, "there is no IPAddressPool in Herald's own namespace; those of other namespaces do not count")
}
