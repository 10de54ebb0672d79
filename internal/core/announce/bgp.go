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

// Announcement is an address that Self announces with BGP because of one
// advertisement. An address that several advertisements or Services name has
// several.
type Announcement struct {
	Service lb.ServiceKey
	Address netip.Addr
	// Advertisement is an index in the snapshot's BGPAdvertisements.
	Advertisement int
	// Endpoints of the Service that serve on Self; 0 unless its
	// externalTrafficPolicy is Local, because only then it depends on them
	// what the node can do.
	Endpoints int
	// HealthPort is where kube-proxy says whether it serves these Endpoints; 0:
	// nowhere.
	HealthPort uint16
}

// planBGP fills in r.BGP. Other than with ARP, any number of nodes may announce
// an address, so that no node depends on another.
func (r *Result) planBGP() {
	if len(r.snapshot.BGPAdvertisements) == 0 {
		return
	}
	r.shared = sharedAddresses(r.snapshot.Services)
	node, ok := r.node(r.Self)
	if !ok || node.NetworkUnavailable || node.Excluded {
		return
	}
	for i := range r.snapshot.Services {
		svc := &r.snapshot.Services[i]
		if !servesOn(svc, node.Name) {
			continue
		}
		count := 0
		if svc.Local {
			count = endpointsOn(svc, node.Name)
		}
		for _, ip := range svc.Assigned {
			ads := r.bgpAdsFor(svc, ip, node)
			if len(ads) == 0 || !r.allCovered(r.shared[ip], ip, node) {
				continue
			}
			for _, a := range ads {
				if r.BGP == nil {
					r.BGP = make([]Announcement, 0, len(r.snapshot.Services))
				}
				r.BGP = append(r.BGP, Announcement{Service: svc.Key, Address: ip, Advertisement: a, Endpoints: count, HealthPort: svc.HealthPort})
			}
		}
	}
}

// sharedAddresses lists the Services of each address that several have.
func sharedAddresses(services []lb.Service) map[netip.Addr][]int {
	first := make(map[netip.Addr]int, len(services))
	shared := map[netip.Addr][]int{}
	for i := range services {
		for _, ip := range services[i].Assigned {
			j, seen := first[ip]
			if !seen {
				first[ip] = i
				continue
			}
			if len(shared[ip]) == 0 {
				shared[ip] = []int{j}
			}
			shared[ip] = append(shared[ip], i)
		}
	}
	return shared
}

// allCovered reports whether each of the Services that share an address is
// covered: to announce it for only some of them would take the traffic of the
// others along although no advertisement says so.
func (r *Result) allCovered(services []int, ip netip.Addr, node *lb.Node) bool {
	for _, i := range services {
		if len(r.bgpAdsFor(&r.snapshot.Services[i], ip, node)) == 0 {
			return false
		}
	}
	return true
}

// bgpAdsFor lists the advertisements that cover an address of a Service, and
// select the node; a nil node stands for any.
func (r *Result) bgpAdsFor(svc *lb.Service, ip netip.Addr, node *lb.Node) []int {
	var out []int
	pools := r.selection.pools.of(ip, svc)
	for a := range r.snapshot.BGPAdvertisements {
		ad := &r.snapshot.BGPAdvertisements[a]
		if (ad.AllPools || slices.ContainsFunc(pools, ad.SelectsPool)) && ad.SelectsService(svc.Labels) &&
			(node == nil || ad.SelectsNode(node.Labels)) {
			out = append(out, a)
		}
	}
	return out
}

func (r *Result) node(name lb.NodeName) (*lb.Node, bool) {
	at, ok := slices.BinarySearchFunc(r.snapshot.Nodes, name, func(n lb.Node, want lb.NodeName) int { return cmp.Compare(n.Name, want) })
	if !ok {
		return nil, false
	}
	return &r.snapshot.Nodes[at], true
}

// servesOn reports whether traffic for the Service may be sent to the node.
func servesOn(svc *lb.Service, node lb.NodeName) bool {
	if svc.Local {
		return endpointsOn(svc, node) > 0
	}
	return serves(svc)
}

func endpointsOn(svc *lb.Service, node lb.NodeName) int {
	for _, e := range svc.Endpoints {
		if e.Node == node {
			return e.Count
		}
	}
	return 0
}

// CoveredByBGP reports whether a BGPAdvertisement covers an address of the
// Service, whichever nodes it selects.
func (r *Result) CoveredByBGP(key lb.ServiceKey) bool {
	i, ok := r.byKey[key]
	if !ok || len(r.snapshot.BGPAdvertisements) == 0 {
		return false
	}
	svc := &r.snapshot.Services[i]
	return slices.ContainsFunc(svc.Assigned, func(ip netip.Addr) bool { return len(r.bgpAdsFor(svc, ip, nil)) > 0 })
}

// Local reports whether the Service has externalTrafficPolicy Local.
func (r *Result) Local(key lb.ServiceKey) bool {
	i, ok := r.byKey[key]
	return ok && r.snapshot.Services[i].Local
}

// AnyBGP reports whether one of the nodes that ok picks may announce the Service
// with BGP.
func (r *Result) AnyBGP(key lb.ServiceKey, ok func(lb.NodeName) bool) bool {
	i, known := r.byKey[key]
	return known && slices.ContainsFunc(r.snapshot.Nodes, func(n lb.Node) bool {
		return ok(n.Name) && r.explainBGP(i, &n).Code == ""
	})
}

// ExplainBGP says why a node does not announce a Service with BGP. The zero
// Reason means that it does, as far as the API server knows.
func (r *Result) ExplainBGP(key lb.ServiceKey, name lb.NodeName) reason.Reason {
	i, ok := r.byKey[key]
	if !ok {
		return reason.Reason{}
	}
	node, ok := r.node(name)
	if !ok {
		return reason.New(reason.NodeNotSelected, "node %q does not exist", name)
	}
	return r.explainBGP(i, node)
}

func (r *Result) explainBGP(i int, node *lb.Node) reason.Reason {
	svc := &r.snapshot.Services[i]
	switch {
	case node.NetworkUnavailable:
		return reason.New(reason.NodeNetworkUnavailable, "node %q: its condition NetworkUnavailable is True", node.Name)
	case node.Excluded:
		return reason.New(reason.NodeExcluded, "node %q has the label node.kubernetes.io/exclude-from-external-load-balancers", node.Name)
	}
	ads := map[int]bool{}
	var alone []netip.Addr // covered for this Service, and not for others that share it
	for _, ip := range svc.Assigned {
		covering := r.bgpAdsFor(svc, ip, node)
		if len(covering) > 0 && !r.allCovered(r.shared[ip], ip, node) {
			alone = append(alone, ip)
			continue
		}
		for _, a := range covering {
			ads[a] = true
		}
	}
	switch {
	case len(ads) == 0 && len(alone) > 0:
		return reason.New(reason.NodeNotSelected, "node %q: %s shared with a Service that no BGPAdvertisement for the node covers", node.Name, are(alone))
	case len(ads) == 0:
		return reason.New(reason.NodeNotSelected, "node %q is not selected by a BGPAdvertisement of the Service", node.Name)
	}
	if !r.hasPeer(ads, node) {
		return reason.New(reason.NodeNoPeer, "node %q is selected by no valid BGPPeer that the Service is announced to", node.Name)
	}
	if !serves(svc) {
		return reason.New(reason.NoEndpoints, "no endpoint of this Service is serving")
	}
	if !servesOn(svc, node.Name) {
		return reason.New(reason.NodeNoEndpoint, "node %q has no serving endpoint, which externalTrafficPolicy Local asks for", node.Name)
	}
	return reason.Reason{}
}

// hasPeer reports whether the node has a session that one of the
// advertisements is for.
func (r *Result) hasPeer(ads map[int]bool, node *lb.Node) bool {
	for p := range r.snapshot.Peers {
		peer := &r.snapshot.Peers[p]
		if len(peer.NodeSelectors) > 0 && !lb.MatchesAny(peer.NodeSelectors, node.Labels) {
			continue
		}
		for a := range r.snapshot.BGPAdvertisements {
			ad := &r.snapshot.BGPAdvertisements[a]
			if ads[a] && (len(ad.Peers) == 0 || slices.Contains(ad.Peers, peer.Name)) {
				return true
			}
		}
	}
	return false
}

// VerdictBGP says why nobody can announce a Service with BGP. The zero Reason
// means that some node may.
func (r *Result) VerdictBGP(key lb.ServiceKey) reason.Reason {
	i, ok := r.byKey[key]
	if !ok {
		return reason.Reason{}
	}
	svc := &r.snapshot.Services[i]
	switch {
	case len(svc.Assigned) == 0:
		return reason.New(reason.NoAddress, "no address has been assigned yet")
	case !r.CoveredByBGP(key):
		return reason.New(reason.NoAdvertisement, "no BGPAdvertisement covers the Service and %s", list(svc.Assigned))
	case !serves(svc):
		return reason.New(reason.NoEndpoints, "no endpoint of this Service is serving, so no node announces %s", list(svc.Assigned))
	case len(r.snapshot.Nodes) == 0:
		return reason.New(reason.NoCandidate, "there are no nodes")
	}
	var texts []string
	for n := range r.snapshot.Nodes {
		why := r.explainBGP(i, &r.snapshot.Nodes[n])
		if why.Code == "" {
			return reason.Reason{}
		}
		if n < maxListed {
			texts = append(texts, why.Text)
		}
	}
	if more := len(r.snapshot.Nodes) - maxListed; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more nodes", more))
	}
	return reason.New(reason.NoCandidate, "no node may announce %s with BGP: %s", list(svc.Assigned), strings.Join(texts, "; "))
}
