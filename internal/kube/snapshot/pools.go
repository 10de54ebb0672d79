// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// pools turns the objects, oldest first, into pools by name.
func (b *builder) pools(objs []*v1beta1.IPAddressPool) []lb.Pool {
	out := make([]lb.Pool, 0, len(objs))
	var taken claims
	for _, obj := range objs {
		out = append(out, b.pool(obj, &taken))
	}
	for _, name := range sorted(b.opt.FrozenPools) {
		if !slices.ContainsFunc(out, func(p lb.Pool) bool { return p.Name == name }) {
			out = append(out, lb.Pool{Name: name, Frozen: true})
		}
	}
	slices.SortFunc(out, func(a, b lb.Pool) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (b *builder) pool(obj *v1beta1.IPAddressPool, taken *claims) lb.Pool {
	sub := b.subject(KindPool, obj)
	p := lb.Pool{
		Name:          obj.Name,
		AutoAssign:    obj.Spec.AutoAssign == nil || *obj.Spec.AutoAssign,
		AvoidBuggyIPs: obj.Spec.AvoidBuggyIPs,
	}
	ranges := sub.ranges(obj.Spec.Addresses)
	if a := obj.Spec.AllocateTo; a != nil {
		p.Pin = &lb.Pin{
			Priority:           a.Priority,
			Namespaces:         sorted(a.Namespaces),
			NamespaceSelectors: sub.selectors("spec.serviceAllocation.namespaceSelectors", a.NamespaceSelectors),
			ServiceSelectors:   sub.selectors("spec.serviceAllocation.serviceSelectors", a.ServiceSelectors),
		}
	}
	p.Quotas = sub.quotas(obj.Spec.Quotas)
	// A pool with a typo in it still claims what can be read of it, so that
	// the typo does not make a younger pool valid. One that overlaps an older
	// pool claims nothing.
	if !sub.overlaps(ranges, taken) {
		taken.add(obj.Name, ranges)
	}
	for _, r := range ranges {
		p.Ranges = append(p.Ranges, r.Range)
	}
	slices.SortFunc(p.Ranges, compareRanges)
	// A pool that is being deleted gives nothing new either.
	p.Frozen = sub.bad || obj.DeletionTimestamp != nil
	return p
}

// written is a range and how the user wrote it.
type written struct {
	lb.Range
	field, text string
}

// ranges parses the entries that can be parsed and reports the others,
// including those that repeat addresses of an earlier entry.
func (s *subject) ranges(addresses []string) []written {
	if len(addresses) == 0 {
		s.fail(reason.BadAddress, "spec.addresses", "", "the list is empty: add a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20")
	}
	var out []written
	var seen claims // of this pool; by field
	for i, text := range addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := ParseRange(text)
		if err != nil {
			s.fail(reason.BadAddress, field, text, "%v", err)
			continue
		}
		if other, ok := seen.find(r); ok {
			s.fail(reason.BadAddress, field, text, "it shares addresses with %s (%s-%s): remove one of the two", other.owner, other.From, other.To)
			continue
		}
		w := written{r, field, text}
		seen.add(field, []written{w})
		out = append(out, w)
	}
	return out
}

func (s *subject) overlaps(ranges []written, taken *claims) bool {
	found := false
	for _, r := range ranges {
		if other, ok := taken.find(r.Range); ok {
			found = true
			s.fail(reason.PoolOverlap, r.field, r.text,
				"it shares addresses with the older pool %q (%s-%s); this pool is frozen, Services keep what they have from it: remove the shared addresses from one of the two",
				other.owner, other.From, other.To)
		}
	}
	return found
}

// ParseRange reads an entry of spec.addresses: a CIDR, whose host bits do not
// matter, or a first and a last address with a dash between them.
func ParseRange(text string) (lb.Range, error) {
	const hint = "write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20"
	if first, last, ok := strings.Cut(text, "-"); ok {
		from, err1 := netip.ParseAddr(strings.TrimSpace(first))
		to, err2 := netip.ParseAddr(strings.TrimSpace(last))
		switch {
		case err1 != nil || err2 != nil || from.Zone() != "" || to.Zone() != "":
			return lb.Range{}, fmt.Errorf("both sides of the dash must be IP addresses: %s", hint)
		case from.Is4In6() || to.Is4In6():
			return lb.Range{}, fmt.Errorf("IPv4 addresses inside IPv6 are not supported: write them as IPv4")
		case from.BitLen() != to.BitLen():
			return lb.Range{}, fmt.Errorf("the first address is %s and the last is %s: use one family for a range", lb.FamilyOf(from), lb.FamilyOf(to))
		case to.Less(from):
			return lb.Range{}, fmt.Errorf("the first address is higher than the last: swap them")
		}
		return lb.Range{From: from, To: to}, nil
	}
	prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
	switch {
	case err != nil:
		return lb.Range{}, fmt.Errorf("it is neither a CIDR nor a range: %s", hint)
	case prefix.Addr().Is4In6():
		return lb.Range{}, fmt.Errorf("IPv4 addresses inside IPv6 are not supported: write them as IPv4")
	}
	r := netipx.RangeOfPrefix(prefix.Masked())
	return lb.Range{From: r.From(), To: r.To()}, nil
}

func overlap(a, b lb.Range) bool {
	return a.From.BitLen() == b.From.BitLen() && a.From.Compare(b.To) <= 0 && b.From.Compare(a.To) <= 0
}

func compareRanges(a, b lb.Range) int { return a.From.Compare(b.From) }

// claims are ranges seen so far, with the pool or field they belong to;
// disjoint and sorted.
type claims struct {
	list []claim
}

type claim struct {
	lb.Range
	owner string
}

// find returns a claim that shares addresses with r.
func (c *claims) find(r lb.Range) (claim, bool) {
	i := c.position(r)
	for _, j := range []int{i - 1, i} {
		if j >= 0 && j < len(c.list) && overlap(c.list[j].Range, r) {
			return c.list[j], true
		}
	}
	return claim{}, false
}

// add inserts ranges that overlap nothing.
func (c *claims) add(owner string, ranges []written) {
	for _, r := range ranges {
		c.list = slices.Insert(c.list, c.position(r.Range), claim{r.Range, owner})
	}
}

// position is the index of the first claim that does not begin before r.
func (c *claims) position(r lb.Range) int {
	i, _ := slices.BinarySearchFunc(c.list, r, func(c claim, r lb.Range) int { return compareRanges(c.Range, r) })
	return i
}
