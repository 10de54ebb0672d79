// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Path is what becomes of a Service's routes between one node and one router.
type Path struct {
	Node string `json:"node"`
	// Peer is empty if the reason is the same for all routers.
	Peer string `json:"peer,omitempty"`
	// Announced: the router has the routes, as far as the node reports.
	Announced bool        `json:"announced"`
	Reason    reason.Code `json:"reason"`
	Text      string      `json:"text"`
	Fix       string      `json:"fix,omitempty"`
}

// ExplainBGP says for each node and router why the router has the routes of a
// Service, or why not, and what to do.
func (v *View) ExplainBGP(f BGPFilter) ([]Path, error) {
	if err := v.checkBGP(f); err != nil {
		return nil, err
	}
	svc, ok := v.service(f.Service)
	if !ok {
		return nil, v.unserved(f.Service)
	}
	if verdict := v.announce.VerdictBGP(f.Service); verdict.Code != "" && verdict.Code != reason.NoCandidate {
		fix := fixOf(verdict.Code)
		if verdict.Code == reason.NoAdvertisement { // the list of reasons thinks of ARP and NDP
			fix = "Create a BGPAdvertisement, or have one select the Service and the pool of its address."
			if _, l2 := v.announce.Group(f.Service); l2 {
				fix = "Nothing, if an L2Advertisement is all it is to have: heraldctl explain service. Else create a BGPAdvertisement, or have one select it."
			}
		}
		return []Path{path("", "", verdict, fix)}, nil
	}
	out := []Path{}
	for i := range v.snap.Nodes {
		node := &v.snap.Nodes[i]
		if f.Node != "" && f.Node != string(node.Name) {
			continue
		}
		why := v.announce.ExplainBGP(f.Service, node.Name)
		if why.Code != "" && why.Code != reason.NodeNoPeer {
			why.Text = withoutNode(why.Text, string(node.Name))
			out = append(out, path(string(node.Name), "", why, fixOf(why.Code)))
			continue
		}
		w := v.wanted(node.Name)
		for p := range v.snap.Peers {
			if peer := &v.snap.Peers[p]; f.admits(string(node.Name), peer.Name) {
				out = append(out, v.path(svc, node, peer, &w))
			}
		}
		if len(v.snap.Peers) == 0 {
			out = append(out, path(string(node.Name), "", reason.New(reason.NodeNoPeer, "there is no valid BGPPeer"), "Create a BGPPeer for each router."))
		}
	}
	return out, nil
}

func path(node, peer string, why reason.Reason, fix string) Path {
	return Path{Node: node, Peer: peer, Reason: why.Code, Text: why.Text, Fix: fix}
}

func fixOf(code reason.Code) string {
	info, _ := reason.Lookup(code)
	return info.Fix
}

// path explains one node and one router; the node may announce the Service.
func (v *View) path(svc *lb.Service, node *lb.Node, peer *lb.Peer, w *bgp.Wanted) Path {
	session, ok := w.Find(peer.Name)
	if !ok {
		return path(string(node.Name), peer.Name, reason.New(reason.NodeNoPeer, "the BGPPeer does not select the node"),
			"Change nodeSelectors of the BGPPeer, or the labels of the node.")
	}
	at := func(why reason.Reason, fix string) Path { return path(string(node.Name), peer.Name, why, fix) }
	routes := v.routes(node.Name, session, w, svc.Key)
	if len(routes) == 0 {
		return at(v.noRoute(svc, node, session))
	}
	prefixes := make([]netip.Prefix, len(routes))
	for i := range routes {
		prefixes[i] = routes[i].Prefix
	}
	s := v.session(node.Name, session)
	switch {
	case s.State != string(v1alpha1.SessionEstablished) || s.Problem != "":
		text := "the session is " + cmp.Or(s.State, "unknown")
		if s.Problem != "" {
			text += ": " + s.Problem
		}
		return at(reason.New(reason.NoSession, "%s", text), "Repair the session: docs/bgp.md says for each error what to do.")
	case !v.reports(node.Name, svc.Key):
		return at(held(svc))
	case s.Prefixes < s.Wanted-v.heldRoutes(node.Name, session, w):
		return at(reason.New(reason.NoSession, "the session is up, but the router has %d of %s so far%s", s.Prefixes, plural(s.Wanted, "prefix"), after(s.LastError)),
			"Wait a moment. If it stays so: the router does not take routes of that family, or does not read.")
	}
	p := at(reason.New(reason.Announcing, "the router has %s", enumerate(prefixes, 4)), "")
	if left := v.uncarried(string(node.Name), svc.Key); len(left) > 0 {
		p.Text += fmt.Sprintf(", but not %s: no session of the node carries that family", enumerate(left, 2))
		p.Fix = familyFix
	}
	p.Announced = true
	return p
}

// held says why a node whose session is up does not announce a Service yet.
func held(svc *lb.Service) (reason.Reason, string) {
	if svc.HealthPort == 0 {
		return reason.New(reason.ProxyNotReady, "the session is up, and the speaker does not announce it yet"), "Wait a moment. If it stays so, see the log of the speaker."
	}
	return reason.New(reason.ProxyNotReady, "the session is up; the speaker waits until kube-proxy says at port %d that it serves the Service", svc.HealthPort),
		fixOf(reason.ProxyNotReady)
}

// reports is whether a node says that it announces a Service with BGP.
func (v *View) reports(node lb.NodeName, key lb.ServiceKey) bool {
	return slices.ContainsFunc(v.routed[key], func(r routing) bool { return r.node == string(node) })
}

// heldRoutes is how many routes of a session are for Services only that the node
// does not announce yet.
func (v *View) heldRoutes(node lb.NodeName, s *bgp.Session, w *bgp.Wanted) int {
	count := 0
	for _, x := range s.Routes {
		if !slices.ContainsFunc(w.Services, func(sp bgp.ServicePeers) bool {
			return slices.ContainsFunc(sp.Addresses, x.Prefix.Contains) && v.reports(node, sp.Service)
		}) {
			count++
		}
	}
	return count
}

const familyFix = "Set dualStackAddressFamily of the BGPPeer, and activate the family on the router; or add a BGPPeer with an address of that family."

// after appends what a session says besides that it is up.
func after(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// noRoute says why a session that exists carries no route of the Service.
func (v *View) noRoute(svc *lb.Service, node *lb.Node, session *bgp.Session) (reason.Reason, string) {
	covering, others := []string{}, []string{}
	for i := range v.snap.BGPAdvertisements {
		ad := &v.snap.BGPAdvertisements[i]
		pools := slices.ContainsFunc(svc.Assigned, func(ip netip.Addr) bool {
			at := slices.Index(svc.Assigned, ip)
			return ad.AllPools || ad.SelectsPool(v.poolOf(svc, at))
		})
		if !pools || !ad.SelectsService(svc.Labels) || !ad.SelectsNode(node.Labels) {
			continue
		}
		covering = append(covering, ad.Name)
		if len(ad.Peers) > 0 && !slices.Contains(ad.Peers, session.Peer) {
			others = append(others, ad.Name)
		}
	}
	if len(covering) > 0 && len(covering) == len(others) {
		return reason.New(reason.NodeNoPeer, "peers of BGPAdvertisement %s does not name it", enumerate(others, 3)),
			fmt.Sprintf("Add %s to peers of the BGPAdvertisement.", session.Peer)
	}
	carried := func(ip netip.Addr) bool { return ip.Is4() && session.Key.V4 || ip.Is6() && session.Key.V6 }
	if !slices.ContainsFunc(svc.Assigned, carried) {
		return reason.New(reason.NodeNoPeer, "the session does not carry the family of %s", enumerate(svc.Assigned, 2)),
			familyFix
	}
	return reason.New(reason.NodeNotSelected, "no BGPAdvertisement for this router covers all Services that share %s", enumerate(svc.Assigned, 2)),
		"Have a BGPAdvertisement for the router select all Services that share the address."
}

// PrintPaths writes the list as table, wide, json or yaml.
func PrintPaths(w io.Writer, list []Path, format string) error {
	if format != "table" && format != "wide" {
		return printData(w, map[string]any{"paths": list}, format)
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "NODE\tPEER\tREASON\tWHY")
	var fixes []string
	for i := range list {
		p := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", orDash(p.Node), orDash(p.Peer), p.Reason, p.Text)
		if fix := fmt.Sprintf("%s: %s", p.Reason, p.Fix); p.Fix != "" && !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
	}
	if err := t.Flush(); err != nil || len(fixes) == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "\nWhat to do\n  %s\n", strings.Join(fixes, "\n  "))
	return err
}
