// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
)

// pool is a pool of the snapshot with what is known about its use.
type pool struct {
	*lb.Pool
	id     int    // position in poolIndex.all
	from   string // says so in a sentence
	frozen bool   // hands out nothing
	space  [2]space

	assigned [2]int64 // addresses given from this pool
	// allowances of namespaces, as far as somebody has asked; nil: no limit.
	allowances [2]map[*namespace]*allowance
	services   int
}

// admits reports whether the pool is for a Service with these labels.
func (p *pool) admits(ns *namespace, labels map[string]string) bool {
	return p.Pin == nil || p.Pin.Allows(ns.Namespace, labels)
}

// keeps is admits for a Service that already has an address of the pool. A
// namespace that the cache does not know yet may have any labels: nothing is
// taken away because of that.
func (p *pool) keeps(ns *namespace, labels map[string]string) bool {
	if p.admits(ns, labels) {
		return true
	}
	return !ns.known && len(p.Pin.NamespaceSelectors) > 0 &&
		(len(p.Pin.ServiceSelectors) == 0 || lb.MatchesAny(p.Pin.ServiceSelectors, labels))
}

// leavesOut reports whether the pool does not hand out a, which is in its
// ranges.
func (p *pool) leavesOut(a netip.Addr) bool { return p.AvoidBuggyIPs && buggy(a) }

// poolIndex finds pools by name, by address and in the order of choice.
type poolIndex struct {
	all    []*pool // by name
	byName map[string]*pool
	// ranges of the pools that are not frozen: sorted and disjoint.
	ranges []poolRange
	frozen []*pool // by name
	pinned []*pool // with autoAssign, by priority and name
	// generic are the pools for everybody, with autoAssign, by name.
	generic *candidates
}

type poolRange struct {
	lb.Range
	pool *pool
}

func indexPools(pools []lb.Pool) *poolIndex {
	x := &poolIndex{byName: make(map[string]*pool, len(pools)), generic: &candidates{}}
	for i := range pools {
		p := &pool{Pool: &pools[i], frozen: pools[i].Frozen, from: " from pool " + strconv.Quote(pools[i].Name)}
		for f, ranges := range normalize(pools[i].Ranges) {
			p.space[f] = newSpace(ranges, p.AvoidBuggyIPs)
		}
		x.all = append(x.all, p)
	}
	slices.SortStableFunc(x.all, func(a, b *pool) int { return strings.Compare(a.Name, b.Name) })
	x.indexRanges()
	for i, p := range x.all {
		p.id = i
		x.byName[p.Name] = p
		switch {
		case p.frozen:
			x.frozen = append(x.frozen, p)
		case !p.AutoAssign:
		case p.Pin != nil:
			x.pinned = append(x.pinned, p)
		default:
			x.generic.pools = append(x.generic.pools, p)
		}
	}
	slices.SortStableFunc(x.pinned, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	return x
}

// rank makes priority 0 the last one.
func rank(p *pool) int {
	if p.Pin.Priority == 0 {
		return math.MaxInt
	}
	return p.Pin.Priority
}

// indexRanges fills ranges. Pools that overlap do not reach a planner: the
// builder of the snapshot freezes one of them. Should it ever happen, the
// later name is frozen here, so that an address always has one pool.
func (x *poolIndex) indexRanges() {
	for _, p := range x.all {
		if p.frozen {
			continue
		}
		for f := range p.space {
			for _, r := range p.space[f].ranges {
				x.ranges = append(x.ranges, poolRange{r, p})
			}
		}
	}
	slices.SortStableFunc(x.ranges, func(a, b poolRange) int { return a.From.Compare(b.From) })
	ok := true
	for i := 1; i < len(x.ranges); i++ {
		if a, b := x.ranges[i-1], x.ranges[i]; a.Contains(b.From) {
			later := a.pool
			if a.pool.Name < b.pool.Name {
				later = b.pool
			}
			later.frozen, ok = true, false
		}
	}
	if !ok {
		x.ranges = nil
		x.indexRanges()
	}
}

// poolOf returns the valid pool in whose ranges a lies. It may be one that
// leaves a out as buggy.
func (x *poolIndex) poolOf(a netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(x.ranges, a, func(r poolRange, a netip.Addr) int { return r.From.Compare(a) })
	if !found {
		i--
	}
	if i >= 0 && x.ranges[i].Contains(a) {
		return x.ranges[i].pool
	}
	return nil
}

// frozenAt returns a frozen pool with a in its ranges, as far as they are known.
func (x *poolIndex) frozenAt(a netip.Addr) *pool {
	for _, p := range x.frozen {
		if p.space[familyOf(a)].contains(a) {
			return p
		}
	}
	return nil
}

// namespace is a namespace with the pinned pools that are for it.
type namespace struct {
	lb.Namespace
	known  bool        // it is in the snapshot
	pinned *candidates // nil: not needed so far
	// selective: one of pinned looks at the labels of the Service too.
	selective bool

	work         []*work        // by age; only if there are reservations
	reservations []*reservation // of the namespace, by age
}

func (x *poolIndex) pinnedFor(ns *namespace) *candidates {
	if ns.pinned != nil {
		return ns.pinned
	}
	ns.pinned = &candidates{}
	for _, p := range x.pinned {
		if p.Pin.AllowsNamespace(ns.Namespace) {
			ns.pinned.pools = append(ns.pinned.pools, p)
			ns.selective = ns.selective || len(p.Pin.ServiceSelectors) > 0
		}
	}
	return ns.pinned
}

// candidates returns the pools that a Service may get an address from without
// asking for one, in the order of choice: the pinned ones, then the generic.
func (x *poolIndex) candidates(ns *namespace, labels map[string]string) [2]*candidates {
	pinned := x.pinnedFor(ns)
	if !ns.selective {
		return [2]*candidates{pinned, x.generic}
	}
	own := &candidates{}
	for _, p := range pinned.pools {
		if p.admits(ns, labels) {
			own.pools = append(own.pools, p)
		}
	}
	return [2]*candidates{own, x.generic}
}

// candidates are pools in the order of choice.
type candidates struct {
	pools []*pool
	// passed remembers, for Services that want the same, how many pools at the
	// front have nothing to give. Pools only fill up while addresses are
	// chosen, so those are passed once, not once per Service.
	passed map[appetite]int
}

// appetite is what the pools that have nothing left to give depend on.
type appetite struct {
	families families
	sharers  *sharers   // nil: takes free addresses only
	ports    string     // only with sharers
	ns       *namespace // only if a pool has quotas
}

// ids is the list as a map key.
func (c *candidates) ids() string {
	var out []byte
	for _, p := range c.pools {
		out = binary.AppendUvarint(out, uint64(p.id))
	}
	return string(out)
}

// listed names the pools there are, for a message: a few of them.
func (x *poolIndex) listed() string {
	const most = 8
	names := slices.Sorted(maps.Keys(x.byName))
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
