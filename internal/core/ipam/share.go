// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// slot is an address in use.
type slot struct {
	first *work // the oldest Service that has it
	home  *pool // where it was given from; nil: a frozen pool, unknown which
	// frozen: one of the Services only keeps it because a pool is frozen, so
	// nobody else may join.
	frozen bool
	// clash is a Service that is being deleted and has the address although
	// it cannot share it with the others; nobody else may join.
	clash *work
	// All Services of a slot have these in common.
	key, backend string
	ports        map[lb.Port]*work // only if key is not empty
}

// ledger knows who has which address.
type ledger struct {
	pools   *poolIndex
	slots   map[netip.Addr]*slot
	sharers map[sharing]*sharers
	spare   []slot // allocated by the hundred

	holds  map[netip.Addr]*hold // what reservations keep
	memory memory
}

// sharing is what Services that share an address must agree on.
type sharing struct{ key, backend string }

// sharers are the addresses that Services of one sharing have, by pool.
type sharers struct {
	groups map[*pool]*[2]group
}

// group are the addresses of one pool and family that Services of one sharing
// have.
type group struct {
	members []member
	sorted  bool
	// passed remembers, for a set of ports, how many members at the front
	// cannot take it. Ports are never given up while addresses are chosen.
	passed map[string]int
}

type member struct {
	addr netip.Addr
	slot *slot
}

func newLedger(pools *poolIndex, services int) *ledger {
	return &ledger{pools: pools, slots: make(map[netip.Addr]*slot, services), sharers: map[sharing]*sharers{}}
}

// sharersOf returns what w may share with, nil if it does not share.
func (l *ledger) sharersOf(svc *lb.Service) *sharers {
	if svc.SharingKey == "" {
		return nil
	}
	k := sharing{svc.SharingKey, svc.BackendKey}
	if l.sharers[k] == nil {
		l.sharers[k] = &sharers{groups: map[*pool]*[2]group{}}
	}
	return l.sharers[k]
}

// taken reports whether a Service has the address or a reservation keeps it.
func (l *ledger) taken(a netip.Addr) bool { return l.slots[a] != nil || l.holds[a] != nil }

// spoken is taken, or somebody who is gone may come back for it.
func (l *ledger) spoken(a netip.Addr) bool {
	return l.slots[a] != nil || l.holds[a] != nil || l.memory.by[a] != nil
}

// free returns the lowest address of the pool that is free for anybody.
func (l *ledger) free(p *pool, f family) (netip.Addr, bool) {
	if a, ok := p.space[f].lowest(l.spoken); ok {
		return a, true
	}
	return l.parting(p, f)
}

// parting returns the lowest free address that is only kept in mind for
// somebody who is gone.
func (l *ledger) parting(p *pool, f family) (netip.Addr, bool) {
	s := &p.space[f]
	if s.full() {
		return netip.Addr{}, false
	}
	return s.spareLowest(l.taken)
}

// refusal is why a Service cannot share an address; zero: it can.
type refusal struct {
	code reason.Code
	by   *work
	why  string
}

// refuses says why w cannot have a slot that others have already.
func (s *slot) refuses(w *work) refusal {
	no := func(by *work, format string, args ...any) refusal {
		return refusal{reason.SharingRefused, by, fmt.Sprintf(format, args...)}
	}
	switch {
	case s.key == "":
		return refusal{reason.AddressInUse, s.first, "does not share it"}
	case w.svc.SharingKey == "":
		return no(s.first, "shares it by key %q only", s.key)
	case w.svc.SharingKey != s.key:
		return no(s.first, "shares it by key %q, not %q", s.key, w.svc.SharingKey)
	case w.svc.BackendKey != s.backend:
		return no(s.first, "shares it, but with externalTrafficPolicy Local both need the same selector")
	}
	for _, p := range w.svc.Ports {
		if by := s.ports[p]; by != nil && by != w {
			return no(by, "uses %s/%d on it", p.Protocol, p.Number)
		}
	}
	return refusal{}
}

// canShare is refuses without the words.
func (s *slot) canShare(w *work) bool {
	if s.frozen || s.clash != nil || s.key == "" || s.key != w.svc.SharingKey || s.backend != w.svc.BackendKey {
		return false
	}
	return !slices.ContainsFunc(w.svc.Ports, func(p lb.Port) bool { return s.ports[p] != nil })
}

// take notes that w has a, which is free or which it may share.
func (l *ledger) take(w *work, a netip.Addr, home *pool, frozen bool) {
	s := l.slots[a]
	if s == nil {
		s = l.newSlot()
		*s = slot{first: w, home: home, key: w.svc.SharingKey, backend: w.svc.BackendKey}
		l.slots[a] = s
		l.count(a, home)
		if s.key != "" {
			s.ports = make(map[lb.Port]*work, len(w.svc.Ports))
		}
		if s.key != "" && home != nil && !home.leavesOut(a) { // one that is being deleted may keep what nobody gets any more
			w.sharers.in(home, familyOf(a)).add(member{a, s})
		}
	}
	home.charge(w.ns, a)
	if w.age < s.first.age {
		s.first = w
	}
	s.frozen = s.frozen || frozen
	if s.ports == nil {
		return
	}
	for _, p := range w.svc.Ports {
		s.ports[p] = w
	}
}

func (l *ledger) newSlot() *slot {
	if len(l.spare) == 0 {
		l.spare = make([]slot, 256)
	}
	s := &l.spare[0]
	l.spare = l.spare[1:]
	return s
}

func (l *ledger) count(a netip.Addr, home *pool) {
	f := familyOf(a)
	if home != nil {
		home.assigned[f]++
	}
	if p := l.pools.poolOf(a); p != nil && !p.leavesOut(a) {
		p.space[f].used++
		if l.holds[a] != nil {
			p.space[f].held--
		}
	}
}

func (s *sharers) in(home *pool, f family) *group {
	if s.groups[home] == nil {
		s.groups[home] = &[2]group{}
	}
	return &s.groups[home][f]
}

func (g *group) add(m member) {
	g.sorted = len(g.members) == 0 || (g.sorted && g.members[len(g.members)-1].addr.Less(m.addr))
	g.members = append(g.members, m)
}

// join returns the lowest address of the group that w can join. Those that a reservation
// keeps are offered by it (planner.reserved).
func (l *ledger) join(g *group, w *work) (netip.Addr, bool) {
	if !g.sorted || g.passed == nil {
		slices.SortFunc(g.members, func(a, b member) int { return a.addr.Compare(b.addr) })
		g.sorted, g.passed = true, map[string]int{}
	}
	i := g.passed[w.ports]
	for i < len(g.members) && (l.holds[g.members[i].addr] != nil || !g.members[i].slot.canShare(w)) {
		i++
	}
	g.passed[w.ports] = i
	if i == len(g.members) {
		return netip.Addr{}, false
	}
	return g.members[i].addr, true
}

// portSet is a canonical form of ports.
func portSet(ports []lb.Port) string {
	sorted := slices.SortedFunc(slices.Values(ports), func(a, b lb.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Protocol, b.Protocol))
	})
	return fmt.Sprint(sorted)
}

// lowest returns the lowest address of the family that w can have from p: a
// free one, or one that others share with it; if there is neither, one that is
// kept in mind for somebody who is gone. When there is none now, there is none
// later in the same plan either: a full pool gets no new slots, and what counts
// for a quota only grows.
func (l *ledger) lowest(w *work, p *pool, f family) (netip.Addr, bool) {
	var mates *group
	if w.sharers != nil && w.sharers.groups[p] != nil {
		mates = &w.sharers.groups[p][f]
	}
	if p.spent(w.ns, f) {
		return l.within(mates, w, p.allowance(w.ns, f))
	}
	if mates == nil {
		return l.free(p, f)
	}
	free, ok := p.space[f].lowest(l.spoken)
	if shared, found := l.join(mates, w); found && (!ok || shared.Less(free)) {
		return shared, true
	}
	if ok {
		return free, true
	}
	return l.parting(p, f)
}

// within is join for a namespace whose quota is used up: it may share what it
// holds.
func (l *ledger) within(g *group, w *work, q *allowance) (best netip.Addr, ok bool) {
	if g == nil {
		return best, false
	}
	for _, m := range g.members {
		if _, has := q.has[m.addr]; !has || (ok && !m.addr.Less(best)) || l.holds[m.addr] != nil || !m.slot.canShare(w) {
			continue
		}
		best, ok = m.addr, true
	}
	return best, ok
}
