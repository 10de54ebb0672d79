// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// community is one value: standard (RFC 1997) or large (RFC 8092).
type community struct {
	large    bool
	standard uint32
	parts    lb.LargeCommunity
}

// communities returns the aliases. Of an object with a bad alias the others
// stay in use, so that its mistake does not spread to advertisements that use
// those.
func (b *builder) communities(objs []*v1beta1.Community) map[string]community {
	aliases := map[string]community{}
	definedIn := map[string]string{}
	for _, obj := range objs {
		sub := b.subject(KindCommunity, obj)
		for i, c := range obj.Spec.Communities {
			field := fmt.Sprintf("spec.communities[%d]", i)
			if other, ok := definedIn[c.Name]; ok {
				sub.fail(reason.DuplicateCommunity, field+".name", c.Name, "the name is already defined in Community %q, which counts: rename one of them", other)
				continue
			}
			definedIn[c.Name] = obj.Name
			value, err := parseCommunity(c.Value)
			if err != nil {
				sub.fail(reason.BadField, field+".value", c.Value, "%v", err)
				continue
			}
			aliases[c.Name] = value
		}
	}
	return aliases
}

// parseCommunity reads n:n or large:n:n:n.
func parseCommunity(text string) (community, error) {
	parts := strings.Split(text, ":")
	switch {
	case len(parts) == 2:
		hi, err1 := strconv.ParseUint(parts[0], 10, 16)
		lo, err2 := strconv.ParseUint(parts[1], 10, 16)
		if err1 == nil && err2 == nil {
			return community{standard: uint32(hi)<<16 | uint32(lo)}, nil
		}
	case len(parts) == 4 && parts[0] == "large":
		g, err1 := strconv.ParseUint(parts[1], 10, 32)
		l1, err2 := strconv.ParseUint(parts[2], 10, 32)
		l2, err3 := strconv.ParseUint(parts[3], 10, 32)
		if err1 == nil && err2 == nil && err3 == nil {
			return community{large: true, parts: lb.LargeCommunity{Global: uint32(g), Local1: uint32(l1), Local2: uint32(l2)}}, nil
		}
	}
	return community{}, errors.New("it is no community: write n:n with numbers up to 65535, or large:n:n:n with numbers up to 4294967295")
}

func (s *subject) resolveCommunities(a *lb.BGPAdvertisement, texts []string, aliases map[string]community) {
	for i, text := range texts {
		c, ok := aliases[text]
		if !ok {
			var err error
			if c, err = parseCommunity(text); err != nil {
				s.fail(reason.UnknownCommunity, fmt.Sprintf("spec.communities[%d]", i), text,
					"it is neither n:n, nor large:n:n:n, nor the name of a valid alias in a Community object: correct it, or define the alias")
				continue
			}
		}
		if c.large {
			a.LargeCommunities = append(a.LargeCommunities, c.parts)
		} else {
			a.Communities = append(a.Communities, c.standard)
		}
	}
	slices.Sort(a.Communities)
	a.Communities = slices.Compact(a.Communities)
	slices.SortFunc(a.LargeCommunities, func(x, y lb.LargeCommunity) int {
		return cmp.Or(cmp.Compare(x.Global, y.Global), cmp.Compare(x.Local1, y.Local1), cmp.Compare(x.Local2, y.Local2))
	})
	a.LargeCommunities = slices.Compact(a.LargeCommunities)
}
