// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// family indexes what exists once per IP family.
type family uint8

func (f family) lb() lb.Family {
	if f == v4 {
		return lb.IPv4
	}
	return lb.IPv6
}

const (
	v4 family = iota
	v6
)

func (f family) String() string {
	if f == v4 {
		return "IPv4"
	}
	return "IPv6"
}

// families is a list of at most two families, without a heap allocation.
type families struct {
	n  int
	of [2]family
}

func (l *families) add(f family) {
	l.of[l.n] = f
	l.n++
}

func (l *families) list() []family { return l.of[:l.n] }

func (l *families) has(f family) bool { return slices.Contains(l.list(), f) }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// space is the addresses of one pool in one family. Its cursor finds the
// lowest free address: during one plan, addresses are taken but never given
// back once the first one has been chosen, so the cursor only moves up, and
// passes each address in use once.
type space struct {
	ranges    []lb.Range // sorted, disjoint
	skipBuggy bool       // leave out addresses that end in .0 or .255
	total     int64      // saturating
	used      int64      // addresses of this space that somebody has
	held      int64      // others that a reservation holds

	at   int        // the range that next lies in
	next netip.Addr // the lowest address that may be free; zero: From of the range

	spared []netip.Addr // remembered for Services that are gone; sorted
	spare  int          // the first of them that may be free
}

func newSpace(ranges []lb.Range, skipBuggy bool) space {
	s := space{ranges: ranges, skipBuggy: skipBuggy}
	for _, r := range ranges {
		s.total = saturatingAdd(s.total, size(r, skipBuggy))
	}
	return s
}

// contains reports whether a lies in one of the ranges, buggy or not.
func (s *space) contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(s.ranges, a, func(r lb.Range, a netip.Addr) int { return r.From.Compare(a) })
	return found || (i > 0 && s.ranges[i-1].Contains(a))
}

// full reports whether no address is free for anybody.
func (s *space) full() bool { return s.used+s.held >= s.total }

// lowest returns the lowest address for which taken is false.
func (s *space) lowest(taken func(netip.Addr) bool) (netip.Addr, bool) {
	if s.full() {
		return netip.Addr{}, false
	}
	for ; s.at < len(s.ranges); s.at, s.next = s.at+1, (netip.Addr{}) {
		r := s.ranges[s.at]
		if !s.next.IsValid() {
			s.next = r.From
		}
		for ; s.next.IsValid() && s.next.Compare(r.To) <= 0; s.next = s.next.Next() {
			if !(s.skipBuggy && buggy(s.next)) && !taken(s.next) {
				return s.next, true
			}
		}
	}
	return netip.Addr{}, false
}

// buggy reports whether some old equipment mistakes a for the address of a
// network or a broadcast address, as if every network were a /24.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

// size counts the addresses of r, without buggy ones if skipBuggy.
func size(r lb.Range, skipBuggy bool) int64 {
	if r.From.Is4() {
		from, to := uint32Of(r.From), uint32Of(r.To)
		n := int64(to) - int64(from) + 1
		if skipBuggy {
			n -= buggyBelow(int64(to)+1) - buggyBelow(int64(from))
		}
		return n
	}
	from, to := r.From.As16(), r.To.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(to[8:]), binary.BigEndian.Uint64(from[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(to[:8]), binary.BigEndian.Uint64(from[:8]), borrow)
	if high > 0 || low >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low) + 1
}

func uint32Of(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// buggyBelow counts the buggy IPv4 addresses lower than n.
func buggyBelow(n int64) int64 { return (n+255)/256 + n/256 }

func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// normalize splits ranges by family, sorts them and joins those that overlap.
func normalize(ranges []lb.Range) [2][]lb.Range {
	var out [2][]lb.Range
	for _, r := range ranges {
		if r.From.IsValid() && r.From.BitLen() == r.To.BitLen() && r.From.Compare(r.To) <= 0 {
			f := familyOf(r.From)
			out[f] = append(out[f], r)
		}
	}
	for f := range out {
		slices.SortFunc(out[f], func(a, b lb.Range) int { return a.From.Compare(b.From) })
		out[f] = join(out[f])
	}
	return out
}

func join(sorted []lb.Range) []lb.Range {
	var out []lb.Range
	for _, r := range sorted {
		if n := len(out); n > 0 && r.From.Compare(out[n-1].To) <= 0 {
			if out[n-1].To.Less(r.To) {
				out[n-1].To = r.To
			}
			continue
		}
		out = append(out, r)
	}
	return out
}
