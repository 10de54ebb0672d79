// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
)

// table is the routes that are wanted and those that the router has.
type table struct {
	wanted []Route // by prefix, as given
	sent   []Route // by prefix
	exits  []exit
	opened bool
	dirty  bool // wanted may differ from sent
	// ending are the families whose End-of-RIB is due.
	ending []lb.Family
	// repeat are the families that the router wants to hear again.
	repeat []lb.Family
	notice string
}

// exit is the way out for the routes of a family.
type exit struct {
	family             lb.Family
	nextHop, linkLocal netip.Addr
	// closed says, when not empty, why there is none.
	closed string
}

func (t *table) len() int { return len(t.sent) }

func (t *table) set(routes []Route) {
	t.wanted = routes
	t.dirty = true
	t.judge()
}

// open is called when routes may be sent.
func (t *table) open(exits []exit) {
	t.exits, t.opened, t.dirty = exits, true, true
	for _, x := range exits {
		if x.closed == "" {
			t.ending = append(t.ending, x.family)
		}
	}
	t.judge()
}

// judge says which routes have no way out.
func (t *table) judge() {
	var texts []string
	for _, x := range t.exits {
		some := slices.ContainsFunc(t.wanted, func(r Route) bool { return lb.FamilyOf(r.Prefix.Addr()) == x.family })
		if x.closed != "" && some {
			texts = append(texts, x.closed)
		}
	}
	t.notice = strings.Join(texts, "; ")
}

// refresh repeats all routes of a family.
func (t *table) refresh(f lb.Family) {
	if t.exit(f) == nil || slices.Contains(t.repeat, f) {
		return
	}
	t.repeat = append(t.repeat, f)
	t.dirty = true
	if !slices.Contains(t.ending, f) {
		t.ending = append(t.ending, f)
	}
}

func (t *table) exit(f lb.Family) *exit {
	for i := range t.exits {
		if t.exits[i].family == f && t.exits[i].closed == "" {
			return &t.exits[i]
		}
	}
	return nil
}

// batch is the largest number of routes that changes says something about: for
// a router that does not read, no more than that piles up.
const batch = 2000

// changes returns what the router has to be told so that it has what is
// wanted, and notes it as sent: withdrawals first, then announcements in
// groups of equal attributes, then the ends of the families. It is called
// again when that is sent, until there is nothing to say.
func (t *table) changes() []Message {
	if !t.opened || !t.dirty {
		return nil
	}
	possible := t.wanted
	if slices.ContainsFunc(t.wanted, t.blocked) {
		possible = slices.DeleteFunc(slices.Clone(t.wanted), t.blocked)
	}
	gone, news := Diff(t.sent, possible)
	if len(t.repeat) > 0 {
		// What is gone is withdrawn now; the rest is new again.
		t.sent = slices.DeleteFunc(slices.Clone(t.sent), func(r Route) bool { return slices.Contains(t.repeat, lb.FamilyOf(r.Prefix.Addr())) })
		_, news = Diff(t.sent, possible)
		t.repeat = nil
	}
	t.dirty = len(news) > batch
	if t.dirty {
		news = news[:batch]
		t.sent = merge(t.sent, gone, news)
	} else {
		t.sent = possible
	}
	var out []Message
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		if list := ofFamily(gone, f); len(list) > 0 {
			out = append(out, Withdrawal{Family: f, Prefixes: list})
		}
	}
	out = append(out, t.announcements(news)...)
	if !t.dirty {
		for _, f := range t.ending {
			out = append(out, EndOfRIB{Family: f})
		}
		t.ending = nil
	}
	return out
}

// merge returns the routes without those that are gone, and with the new ones
// in the place of those that they replace. All lists are by prefix.
func merge(routes []Route, gone []netip.Prefix, news []Route) []Route {
	out := make([]Route, 0, len(routes)+len(news))
	for _, r := range routes {
		for len(gone) > 0 && comparePrefix(gone[0], r.Prefix) < 0 {
			gone = gone[1:]
		}
		for len(news) > 0 && comparePrefix(news[0].Prefix, r.Prefix) < 0 {
			out, news = append(out, news[0]), news[1:]
		}
		switch {
		case len(gone) > 0 && gone[0] == r.Prefix:
		case len(news) > 0 && news[0].Prefix == r.Prefix:
			out, news = append(out, news[0]), news[1:]
		default:
			out = append(out, r)
		}
	}
	return append(out, news...)
}

func (t *table) blocked(r Route) bool { return t.exit(lb.FamilyOf(r.Prefix.Addr())) == nil }

func ofFamily(prefixes []netip.Prefix, f lb.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if lb.FamilyOf(p.Addr()) == f {
			out = append(out, p)
		}
	}
	return out
}

// announcements groups routes by family and attributes.
func (t *table) announcements(news []Route) []Message {
	news = slices.Clone(news) // the order by prefix is needed by the caller
	slices.SortStableFunc(news, func(a, b Route) int {
		if fa, fb := lb.FamilyOf(a.Prefix.Addr()), lb.FamilyOf(b.Prefix.Addr()); fa != fb {
			return int(fa) - int(fb)
		}
		return a.Attributes.compare(b.Attributes)
	})
	var out []Message
	for i := 0; i < len(news); {
		f := lb.FamilyOf(news[i].Prefix.Addr())
		x := t.exit(f)
		a := Announcement{Attributes: news[i].Attributes, Family: f, NextHop: x.nextHop, LinkLocal: x.linkLocal}
		for ; i < len(news) && lb.FamilyOf(news[i].Prefix.Addr()) == f && news[i].Equal(a.Attributes); i++ {
			a.Prefixes = append(a.Prefixes, news[i].Prefix)
		}
		out = append(out, a)
	}
	return out
}

// Diff compares two lists of routes, both by prefix: which prefixes are gone,
// and which routes are new or say something else.
func Diff(before, after []Route) (gone []netip.Prefix, news []Route) {
	i := 0
	for _, r := range after {
		for i < len(before) && comparePrefix(before[i].Prefix, r.Prefix) < 0 {
			gone = append(gone, before[i].Prefix)
			i++
		}
		if i < len(before) && before[i].Prefix == r.Prefix {
			if !before[i].Equal(r.Attributes) {
				news = append(news, r)
			}
			i++
			continue
		}
		news = append(news, r)
	}
	for ; i < len(before); i++ {
		gone = append(gone, before[i].Prefix)
	}
	return gone, news
}

// comparePrefix orders prefixes by address, then length.
func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
