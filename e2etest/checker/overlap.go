// SPDX-License-Identifier: Apache-2.0

package checker

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/e2etest/wire"
)

// Claim is one frame in which a machine said that it has an address.
type Claim struct {
	At time.Time
	wire.Answer
}

// Overlap is a time in which two machines answered for one address.
type Overlap struct {
	Addr         netip.Addr
	Older, Newer wire.MAC
	// From is when the newer one began, To when the older one was heard last.
	From, To time.Time
	// Why says in words what was seen.
	Why string
}

// Duration returns how long it lasted.
func (o Overlap) Duration() time.Duration { return o.To.Sub(o.From) }

// period is a time in which one machine answered without a pause.
type period struct {
	mac         wire.MAC
	first, last time.Time
	answers     int
	// announcements are the times of those claims nobody asked for.
	announcements []time.Time
	// unasked means that the period began with an announcement.
	unasked bool
}

// Find returns the overlaps of all addresses, sorted by address and time. A machine that was not heard for longer than
// silence has stopped; it must be clearly longer than the time between two requests for the address.
func Find(claims []Claim, silence time.Duration) []Overlap {
	byAddr := group(claims)
	var out []Overlap
	for _, addr := range slices.SortedFunc(maps.Keys(byAddr), netip.Addr.Compare) {
		ps := periods(byAddr[addr], silence)
		for i, p := range ps {
			for _, q := range ps[i+1:] {
				if p.mac == q.mac || q.first.After(p.last) {
					continue
				}
				o := overlap(p, q, ownedBefore(ps, q.mac, p.first))
				o.Addr = addr
				out = append(out, o)
			}
		}
	}
	return out
}

// Longest returns the longest overlap; ok is false if there is none.
func Longest(os []Overlap) (longest Overlap, ok bool) {
	if len(os) == 0 {
		return Overlap{}, false
	}
	return slices.MaxFunc(os, func(a, b Overlap) int { return cmp.Compare(a.Duration(), b.Duration()) }), true
}

// overlap compares two periods of different machines of which q began while p lasted.
func overlap(p, q period, qOwnedBefore bool) Overlap {
	switch {
	case !q.last.Before(p.last):
		return Overlap{Older: p.mac, Newer: q.mac, From: q.first, To: p.last,
			Why: "the older owner went on answering after the newer one had begun"}
	case q.unasked:
		// Whoever heard it now sends to q, until p corrects them.
		return Overlap{Older: p.mac, Newer: q.mac, From: q.first, To: corrected(p, q.last),
			Why: "another machine announced the address while its owner went on answering; counted until the owner announced it again"}
	case qOwnedBefore:
		return Overlap{Older: q.mac, Newer: p.mac, From: p.first, To: q.last,
			Why: "a former owner answered again long after the present one had begun"}
	default:
		return Overlap{Older: p.mac, Newer: q.mac, From: q.first, To: q.last,
			Why: "another machine answered for the address while its owner went on answering"}
	}
}

// corrected returns when p first announced the address after t.
func corrected(p period, t time.Time) time.Time {
	for _, at := range p.announcements {
		if at.After(t) {
			return at
		}
	}
	return p.last
}

func ownedBefore(ps []period, mac wire.MAC, t time.Time) bool {
	return slices.ContainsFunc(ps, func(p period) bool { return p.mac == mac && p.first.Before(t) })
}

func group(claims []Claim) map[netip.Addr][]Claim {
	byAddr := map[netip.Addr][]Claim{}
	for _, c := range claims {
		byAddr[c.Addr] = append(byAddr[c.Addr], c)
	}
	for _, cs := range byAddr {
		slices.SortStableFunc(cs, func(a, b Claim) int { return a.At.Compare(b.At) })
	}
	return byAddr
}

// periods returns the periods of one address, sorted by their beginning. The claims are sorted by time.
//
// A machine that announces the address anew, after another one was heard and it was not, had stopped too: an address may go away and
// come back faster than silence when nodes are restarted one after the other. A third of silence is two requests without an answer.
func periods(claims []Claim, silence time.Duration) []period {
	var ps []period
	current := map[wire.MAC]int{}
	for at, c := range claims {
		i, ok := current[c.MAC]
		again := ok && at > 0 && claims[at-1].MAC != c.MAC && c.Announcement && c.At.Sub(ps[i].last) > silence/3
		if !ok || again || c.At.Sub(ps[i].last) > silence {
			i = len(ps)
			current[c.MAC] = i
			ps = append(ps, period{mac: c.MAC, first: c.At, unasked: c.Announcement})
		}
		ps[i].last = c.At
		if c.Announcement {
			ps[i].announcements = append(ps[i].announcements, c.At)
		} else {
			ps[i].answers++
		}
	}
	return ps
}

// Timeline tells in words who answered for the address and when, in seconds since start. name translates a MAC.
func Timeline(claims []Claim, addr netip.Addr, silence time.Duration, start time.Time, name func(wire.MAC) string) []string {
	var lines []string
	for _, p := range periods(group(claims)[addr], silence) {
		lines = append(lines, fmt.Sprintf("%+9.3fs to %+9.3fs  %s answered %d times and announced it %d times",
			p.first.Sub(start).Seconds(), p.last.Sub(start).Seconds(), name(p.mac), p.answers, len(p.announcements)))
	}
	return lines
}
