// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// bytesPerEndpoint is the bandwidth that one endpoint stands for: 1 Mbit/s, in
// the unit of the link bandwidth community. Only proportions matter, and
// routers show it as a round number.
const bytesPerEndpoint = 125_000

// One UPDATE has to hold all communities of a route, beside room for prefixes.
const (
	maxCommunities = 250
	maxLarge       = 200
)

// Inputs is what a plan needs beside the cluster.
type Inputs struct {
	// Secret returns the password in a Secret, or why there is none.
	Secret func(name string) (Password, error)
	// Draining asks routers to prefer other nodes (RFC 8326).
	Draining bool
}

// Plan says what node self wants of BGP: a session for each peer that selects
// it, with the routes that announcements (announce.Result.BGP) amount to.
func Plan(s *lb.Snapshot, self lb.NodeName, announcements []announce.Announcement, in Inputs) Wanted {
	i, ok := slices.BinarySearchFunc(s.Nodes, self, func(n lb.Node, want lb.NodeName) int { return cmp.Compare(n.Name, want) })
	if !ok {
		return Wanted{}
	}
	p := planner{s: s, node: &s.Nodes[i], announcements: announcements, in: in, routes: map[string][]Route{}}
	var w Wanted
	for i := range s.Peers {
		if peer := &s.Peers[i]; len(peer.NodeSelectors) == 0 || lb.MatchesAny(peer.NodeSelectors, p.node.Labels) {
			w.Sessions = append(w.Sessions, p.session(peer))
		}
	}
	w.Services = p.services(w.Sessions)
	return w
}

type planner struct {
	s             *lb.Snapshot
	node          *lb.Node
	announcements []announce.Announcement
	in            Inputs
	routes        map[string][]Route // by what selects them; see routesFor
}

func (p *planner) session(peer *lb.Peer) Session {
	out := Session{Peer: peer.Name, Key: p.key(peer), MultiHop: peer.EBGPMultiHop, Timers: Timers{Hold: peer.HoldTime, Keepalive: peer.KeepaliveTime, Connect: peer.ConnectTime}}
	out.Key.Password = Password(peer.Password)
	if peer.PasswordSecret != "" {
		password, err := p.in.Secret(peer.PasswordSecret)
		if err != nil {
			out.Problem = err.Error()
		}
		out.Key.Password = password
	}
	for i := range p.s.BFDProfiles {
		if p.s.BFDProfiles[i].Name == peer.BFDProfile {
			out.BFD = &p.s.BFDProfiles[i]
		}
	}
	out.NextHop4 = firstOf(p.node.Addresses, lb.IPv4)
	out.NextHop6 = firstOf(p.node.Addresses, lb.IPv6)
	out.Routes = p.routesFor(peer.Name, out.Key.V4, out.Key.V6)
	return out
}

func (p *planner) key(peer *lb.Peer) Key {
	k := Key{
		Endpoint: Endpoint{Address: peer.Address, Interface: peer.Interface, Port: peer.Port, Source: peer.SourceAddress, Device: peer.VRF},
		LocalAS:  peer.MyASN, PeerAS: peer.PeerASN, Dynamic: peer.DynamicASN,
		RouterID: peer.RouterID, GracefulRestart: peer.GracefulRestart,
		// An interface without addresses says nothing about the family.
		V4: peer.DualStack || peer.Interface != "" || peer.Address.Is4(),
		V6: peer.DualStack || peer.Interface != "" || peer.Address.Is6(),
	}
	if peer.LocalASN != 0 {
		k.LocalAS = peer.LocalASN
	}
	if !k.RouterID.IsValid() {
		k.RouterID = p.routerID()
	}
	return k
}

// routerID is the node's first IPv4 address, or four bytes that stay the same
// as long as the node has its name (RFC 6286: it need not be an address).
func (p *planner) routerID() netip.Addr {
	if a := firstOf(p.node.Addresses, lb.IPv4); a.IsValid() {
		return a
	}
	sum := sha256.Sum256([]byte(p.node.Name))
	sum[0] |= 1 // never 0.0.0.0
	return netip.AddrFrom4([4]byte(sum[:4]))
}

func firstOf(list []netip.Addr, f lb.Family) netip.Addr {
	for _, a := range list {
		if lb.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// usesPeer reports whether an advertisement is for the peer.
func usesPeer(ad *lb.BGPAdvertisement, peer string) bool {
	return len(ad.Peers) == 0 || slices.Contains(ad.Peers, peer)
}

// routesFor returns the routes for a peer. Peers that get the same ones share
// one list.
func (p *planner) routesFor(peer string, v4, v6 bool) []Route {
	uses := make([]byte, len(p.s.BGPAdvertisements))
	for a := range p.s.BGPAdvertisements {
		if usesPeer(&p.s.BGPAdvertisements[a], peer) {
			uses[a] = 1
		}
	}
	key := fmt.Sprintf("%s %t %t", uses, v4, v6)
	if list, ok := p.routes[key]; ok {
		return list
	}
	building := make(map[netip.Prefix]*building, len(p.announcements))
	for _, a := range p.announcements {
		if uses[a.Advertisement] == 0 || !carries(a.Address, v4, v6) {
			continue
		}
		ad := &p.s.BGPAdvertisements[a.Advertisement]
		prefix := aggregate(a.Address, ad)
		b := building[prefix]
		if b == nil {
			b = newBuilding(ad)
			building[prefix] = b
		}
		b.add(ad, a)
	}
	list := make([]Route, 0, len(building))
	prefixes := slices.AppendSeq(make([]netip.Prefix, 0, len(building)), maps.Keys(building))
	slices.SortFunc(prefixes, comparePrefix)
	for _, prefix := range prefixes {
		list = append(list, Route{Prefix: prefix, Attributes: building[prefix].finish(p.in.Draining)})
	}
	p.routes[key] = list
	return list
}

func carries(a netip.Addr, v4, v6 bool) bool { return a.Is4() && v4 || a.Is6() && v6 }

// aggregate returns the prefix that an advertisement announces for an address.
func aggregate(a netip.Addr, ad *lb.BGPAdvertisement) netip.Prefix {
	bits := ad.AggregationLengthV6
	if a.Is4() {
		bits = ad.AggregationLength
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// building is a route on its way: the advertisements that name its prefix, each
// once, and the endpoints behind its addresses.
type building struct {
	localPref   uint32
	ads         map[*lb.BGPAdvertisement]bool
	communities []uint32
	large       []lb.LargeCommunity
	endpoints   map[netip.Addr]int
}

func newBuilding(ad *lb.BGPAdvertisement) *building {
	return &building{localPref: ad.LocalPref, ads: map[*lb.BGPAdvertisement]bool{}}
}

func (b *building) add(ad *lb.BGPAdvertisement, a announce.Announcement) {
	if !b.ads[ad] {
		b.ads[ad] = true
		// Advertisements that differ here are refused by the snapshot, as far
		// as it can tell.
		b.localPref = max(b.localPref, ad.LocalPref)
		b.communities = append(b.communities, ad.Communities...)
		b.large = append(b.large, ad.LargeCommunities...)
	}
	if ad.WeightByEndpoints && a.Endpoints > 0 {
		if b.endpoints == nil {
			b.endpoints = map[netip.Addr]int{}
		}
		// Services that share an address have the same endpoints.
		b.endpoints[a.Address] = max(b.endpoints[a.Address], a.Endpoints)
	}
}

func (b *building) finish(draining bool) Attributes {
	out := Attributes{LocalPref: b.localPref, Communities: b.communities, Large: b.large}
	if draining {
		out.LocalPref = 0
		out.Communities = append(out.Communities, GracefulShutdown)
	}
	slices.Sort(out.Communities)
	out.Communities = slices.Compact(out.Communities)
	out.Communities = out.Communities[:min(len(out.Communities), maxCommunities)]
	slices.SortFunc(out.Large, compareLarge)
	out.Large = slices.Compact(out.Large)
	out.Large = out.Large[:min(len(out.Large), maxLarge)]
	total := 0
	for _, n := range b.endpoints { // a sum: the order does not matter
		total += n
	}
	out.Bandwidth = float32(total) * bytesPerEndpoint
	return out
}

// sorted sorts addresses in place, and drops those that are there already.
func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// services says which peers get routes for which Service.
func (p *planner) services(sessions []Session) []ServicePeers {
	byService := make(map[lb.ServiceKey]*ServicePeers, len(p.announcements))
	for _, a := range p.announcements {
		sp := byService[a.Service]
		if sp == nil {
			sp = &ServicePeers{Service: a.Service}
			byService[a.Service] = sp
		}
		carried := false
		for i := range sessions {
			key := &sessions[i].Key
			if usesPeer(&p.s.BGPAdvertisements[a.Advertisement], sessions[i].Peer) && carries(a.Address, key.V4, key.V6) {
				sp.Peers, carried = append(sp.Peers, sessions[i].Peer), true
			}
		}
		if carried {
			sp.Addresses = append(sp.Addresses, a.Address)
		} else {
			sp.Uncarried = append(sp.Uncarried, a.Address)
		}
	}
	out := make([]ServicePeers, 0, len(byService))
	keys := slices.AppendSeq(make([]lb.ServiceKey, 0, len(byService)), maps.Keys(byService))
	slices.SortFunc(keys, lb.ServiceKey.Compare)
	for _, key := range keys {
		sp := byService[key]
		sp.Addresses, sp.Uncarried = sorted(sp.Addresses), sorted(sp.Uncarried)
		// Another advertisement may have a session for it.
		sp.Uncarried = slices.DeleteFunc(sp.Uncarried, func(a netip.Addr) bool { return slices.Contains(sp.Addresses, a) })
		slices.SortFunc(sp.Peers, strings.Compare)
		sp.Peers = slices.Compact(sp.Peers)
		out = append(out, *sp)
	}
	return out
}
