// SPDX-License-Identifier: Apache-2.0

// Package linger keeps traffic from nodes that are not ready for it yet.
//
// With externalTrafficPolicy Local an address follows the endpoints. When a Pod
// is replaced, its node stops being a candidate at the same moment as the node
// of the new Pod becomes one; but kube-proxy there takes up to a second until it
// has made the rules (its min-sync-period), and drops new connections until
// then. The old Pod, if it is told to end in an orderly way, still serves, and
// its node has rules for it.
//
// So the machine stands between announce.Plan and ownership: a node whose
// endpoints drain stays a candidate until another one has been one for a while,
// and who has been a candidate for a while comes before who has not.
//
//	announce.Plan --groups--> Apply --groups--> ownership
//
// All nodes do the same, each by its own clock. They may differ for a moment,
// as they do when news from the API server arrive at different times.
package linger

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// Delay is how long a node must have been a candidate before an address goes
// there from one that still serves: kube-proxy's interval between two changes
// of its rules, and as much again to make them.
const Delay = 2 * time.Second

// Scores of preferredNodeSelectors are sums of weights up to 100: far below.
const (
	freshMalus    = 1 << 24
	drainingMalus = 2 << 24
)

// Machine remembers since when nodes have been candidates. It belongs to one
// goroutine.
type Machine struct {
	since map[netip.Addr]map[lb.NodeName]time.Time // by the key of the group; only groups with Local
}

// Apply returns the groups with the candidates that count now, and when that
// will be others although no plan changes; zero if never. What it is given it
// does not change.
func (m *Machine) Apply(now time.Time, groups []announce.Group) (out []announce.Group, next time.Time) {
	before := m.since
	m.since = map[netip.Addr]map[lb.NodeName]time.Time{}
	out = groups
	copied := false
	for i := range groups {
		g := &groups[i]
		if !g.Local {
			continue
		}
		since := remember(before[g.Key], now, g.Candidates)
		m.since[g.Key] = since
		candidates, until := season(now, g, since)
		if until.IsZero() {
			continue
		}
		if !copied {
			out, copied = slices.Clone(groups), true
		}
		out[i].Candidates = candidates
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return out, next
}

// remember returns since when each of the candidates has been one. Nearly always that is the same as before.
func remember(before map[lb.NodeName]time.Time, now time.Time, candidates []announce.Candidate) map[lb.NodeName]time.Time {
	known := func(c announce.Candidate) bool { _, ok := before[c.Node]; return ok }
	if len(before) == len(candidates) && !slices.ContainsFunc(candidates, func(c announce.Candidate) bool { return !known(c) }) {
		return before
	}
	since := make(map[lb.NodeName]time.Time, len(candidates))
	for _, c := range candidates {
		since[c.Node] = now
		if known(c) {
			since[c.Node] = before[c.Node]
		}
	}
	return since
}

// season returns the candidates of one group, and until when; zero if they are
// those of the plan.
func season(now time.Time, g *announce.Group, since map[lb.NodeName]time.Time) (out []announce.Candidate, until time.Time) {
	fresh := 0
	for _, c := range g.Candidates {
		ripe := since[c.Node].Add(Delay)
		if !now.Before(ripe) {
			continue
		}
		if fresh++; until.IsZero() || ripe.Before(until) {
			until = ripe
		}
	}
	allFresh := fresh == len(g.Candidates)
	if fresh == 0 || allFresh && len(g.Draining) == 0 {
		return nil, time.Time{}
	}
	for _, c := range g.Candidates {
		if !allFresh && now.Before(since[c.Node].Add(Delay)) {
			c.Score -= freshMalus
		}
		out = append(out, c)
	}
	if allFresh {
		for _, c := range g.Draining {
			c.Score -= drainingMalus
			out = append(out, c)
		}
		slices.SortFunc(out, func(a, b announce.Candidate) int { return cmp.Compare(a.Node, b.Node) })
	}
	return out, until
}
