// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// maxListed bounds how many nodes, Services or pools one sentence names.
const maxListed = 5

func (r *Result) verdict(i int) reason.Reason {
	svc := &r.snapshot.Services[i]
	view := r.services[i]
	if len(svc.Assigned) == 0 {
		return reason.New(reason.NoAddress, "no address has been assigned yet")
	}
	if view.group < 0 {
		return r.notCovered(i)
	}
	g := &r.Groups[view.group]
	if !serves(svc) {
		return noEndpoints(g)
	}
	if len(g.Candidates) > 0 {
		return reason.Reason{}
	}
	if len(r.snapshot.Nodes) == 0 {
		return reason.New(reason.NoCandidate, "there are no nodes")
	}
	var b strings.Builder
	for n := range r.snapshot.Nodes {
		if n == maxListed {
			fmt.Fprintf(&b, "; and %d more nodes", len(r.snapshot.Nodes)-maxListed)
			break
		}
		if n > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.explain(i, r.snapshot.Nodes[n].Name).Text)
	}
	return reason.New(reason.NoCandidate, "no node may announce %s: %s", list(g.Addresses), b.String())
}

func noEndpoints(g *Group) reason.Reason {
	if len(g.Candidates) > 0 {
		return reason.New(reason.NoEndpoints, "no endpoint of this Service is serving; %s answered for on behalf of the Services that share it", are(g.Addresses))
	}
	return reason.New(reason.NoEndpoints, "no endpoint of this Service is serving, so no node announces %s", list(g.Addresses))
}

// notCovered explains a Service none of whose addresses is covered.
func (r *Result) notCovered(i int) reason.Reason {
	svc := &r.snapshot.Services[i]
	for j, ip := range svc.Assigned {
		if r.services[i].sets[j] == uncovered {
			continue
		}
		var others []lb.ServiceKey
		for o := range r.snapshot.Services {
			at := slices.Index(r.snapshot.Services[o].Assigned, ip)
			if at >= 0 && r.services[o].sets[at] == uncovered {
				others = append(others, r.snapshot.Services[o].Key)
			}
		}
		return reason.New(reason.NoAdvertisement, "%s is shared with %s, which no L2Advertisement selects", ip, list(others))
	}
	var pools []string
	for _, ip := range svc.Assigned {
		pools = append(pools, r.selection.pools.of(ip, svc)...)
	}
	slices.Sort(pools)
	pools = slices.Compact(pools)
	if len(pools) == 0 {
		return reason.New(reason.NoAdvertisement, "no L2Advertisement or BGPAdvertisement covers %s, which %s in no known pool", list(svc.Assigned), isAre(len(svc.Assigned)))
	}
	return reason.New(reason.NoAdvertisement, "no L2Advertisement or BGPAdvertisement covers both this Service and %s %s, which %s from",
		plural(len(pools), "pool"), list(pools), list(svc.Assigned)+" "+isAre(len(svc.Assigned)))
}

func (r *Result) explain(i int, name lb.NodeName) reason.Reason {
	if r.services[i].group < 0 {
		return r.verdict(i)
	}
	g := &r.Groups[r.services[i].group]
	if _, ok := g.Candidate(name); ok {
		return reason.Reason{}
	}
	at, ok := slices.BinarySearchFunc(r.snapshot.Nodes, name, func(n lb.Node, want lb.NodeName) int { return cmp.Compare(n.Name, want) })
	if !ok {
		return reason.New(reason.NodeNotSelected, "node %q does not exist", name)
	}
	node := &r.snapshot.Nodes[at]
	switch {
	case node.NetworkUnavailable:
		return reason.New(reason.NodeNetworkUnavailable, "node %q: its condition NetworkUnavailable is True", name)
	case node.Excluded:
		return reason.New(reason.NodeExcluded, "node %q has the label node.kubernetes.io/exclude-from-external-load-balancers", name)
	}
	if text := r.notSelected(g, node); text != "" {
		return reason.New(reason.NodeNotSelected, "node %q is not selected by %s", name, text)
	}
	if svc := &r.snapshot.Services[i]; !serves(svc) {
		return noEndpoints(g) // nowhere, whatever the policy
	}
	return reason.New(reason.NodeNoEndpoint, "node %q has no serving endpoint, which externalTrafficPolicy Local asks for", name)
}

// notSelected names the advertisements that would have to select node, for the
// first address and Service of the group for which none of them does; empty if
// there is no such.
func (r *Result) notSelected(g *Group, node *lb.Node) string {
	for _, key := range g.Services {
		i := r.byKey[key]
		for j, ip := range r.snapshot.Services[i].Assigned {
			set := r.services[i].sets[j]
			if set == uncovered || !g.Has(ip) {
				continue
			}
			ads := r.selection.sets[set].ads
			if _, ok := r.selection.candidate(ads, node); ok {
				continue
			}
			names := make([]string, len(ads))
			for n, a := range ads {
				names[n] = r.snapshot.L2Advertisements[a].Name
			}
			text := plural(len(names), "L2Advertisement") + " " + list(names)
			if len(g.Services) > 1 {
				text += " for " + key.String()
			}
			return text
		}
	}
	return ""
}

// list writes up to maxListed items with commas.
func list[T any](items []T) string {
	var b strings.Builder
	for i, item := range items {
		if i == maxListed {
			fmt.Fprintf(&b, " and %d more", len(items)-maxListed)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, item)
	}
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func are(addresses []netip.Addr) string { return list(addresses) + " " + isAre(len(addresses)) }
