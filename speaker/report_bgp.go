// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// routed is what this node does with BGP, as seen by one report.
type routed struct {
	wanted bgp.Wanted
	states []bgp.SessionState
	up     map[string]bool // peers whose session is established
	byKey  map[lb.ServiceKey]*bgp.ServicePeers
	held   map[lb.ServiceKey]uint16 // Services that wait for kube-proxy, with their health ports
	// conditions says which node each Service's condition names, if that
	// announces it with BGP.
	conditions map[lb.ServiceKey]lb.NodeName
}

func newRouted(r *router, services []*corev1.Service, advertisements []lb.BGPAdvertisement) routed {
	out := routed{up: map[string]bool{}}
	if r == nil {
		return out
	}
	out.wanted, out.states = r.state()
	out.held = r.waiting()
	out.byKey = make(map[lb.ServiceKey]*bgp.ServicePeers, len(out.wanted.Services))
	for i := range out.states {
		out.up[out.states[i].Peer] = out.states[i].State == bgp.Established
	}
	for i := range out.wanted.Services {
		out.byKey[out.wanted.Services[i].Service] = &out.wanted.Services[i]
	}
	if len(out.wanted.Sessions) == 0 && len(advertisements) == 0 {
		return out // most clusters have only one of L2 and BGP
	}
	out.conditions = make(map[lb.ServiceKey]lb.NodeName, len(services))
	for _, svc := range services {
		if node, protocol := status.AnnouncedBy(svc); protocol == status.ProtocolBGP {
			out.conditions[lb.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}] = node
		}
	}
	return out
}

// announces reports whether a router has routes of the Service from this node.
func (x *routed) announces(key lb.ServiceKey) bool {
	sp, ok := x.byKey[key]
	return ok && slices.ContainsFunc(sp.Peers, func(p string) bool { return x.up[p] })
}

// reportBGP completes the report on a Service that no node announces by ARP or
// NDP.
//
// Any number of nodes announce it, and none knows of the others' sessions. So
// whoever announces and finds the condition saying otherwise corrects it: the
// first in hash order at once, the others when it has not done so for a while.
// Whoever is named there and announces no longer says that, and no more: others
// may announce the Service. Only if none of them says so for a while does it
// become a failure.
func (r *reporter) reportBGP(m *ownership.Machine, plan *announce.Result, out *status.ServiceReport, x *routed) {
	write, deputy := turn(m, out.Key)
	out.Write, out.Deputy = false, 0
	if why := plan.VerdictBGP(out.Key); why.Code != "" {
		out.Reason, out.Write, out.Deputy = why, write, deputy
		return
	}
	named := x.conditions[out.Key]
	valid := named != "" && named != r.who.Node && m.Lives(named)
	if x.announces(out.Key) {
		out.Reason = r.announcing(r.who.Node, status.ProtocolBGP)
		if left := x.byKey[out.Key].Uncarried; len(left) > 0 {
			out.Reason.Text += "; but not " + list(left) + ": no session with a router carries that family"
		}
		out.Write, out.Patient = !valid, deputy > 0 && named != r.who.Node
		return
	}
	r.notRouted(plan, out, x)
	switch {
	case named == r.who.Node && plan.AnyBGP(out.Key, func(n lb.NodeName) bool { return n != r.who.Node && m.Lives(n) }):
		out.Reason = reason.New(reason.NoSession, "node %q has no session with a router for it any more, and no other node has said yet that it announces it", r.who.Node)
		out.Write, out.Unsure = true, true
	case named == r.who.Node:
		out.Write = true
	case !valid:
		out.Write, out.Deputy = write, deputy
	}
}

// notRouted says why no router has routes of a Service from this node.
func (r *reporter) notRouted(plan *announce.Result, out *status.ServiceReport, x *routed) {
	port, held := x.held[out.Key]
	if plan.Local(out.Key) {
		out.Extra = bgp.SilenceLimit // others may wait for their kube-proxy, and only they know
	}
	switch {
	case plan.ExplainBGP(out.Key, r.who.Node).Code != "":
		out.Reason = reason.New(reason.NoSession, "nodes may announce the Service with BGP, but none of them says that a router has it; see BGPSession objects")
	case held && port != 0:
		out.Reason = reason.New(reason.ProxyNotReady, "node %q does not announce the Service yet: kube-proxy there does not say at port %d that it serves it", r.who.Node, port)
	case held:
		out.Reason = reason.New(reason.ProxyNotReady, "node %q does not announce the Service yet: new routes wait for kube-proxy, as long as --bgp-announce-delay says", r.who.Node)
	default:
		out.Reason = reason.New(reason.NoSession, "node %q may announce the Service with BGP, but has no session with a router for it; see BGPSession objects", r.who.Node)
	}
}

func list(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// bgpWrites returns the status objects about BGP.
func (r *reporter) bgpWrites(objs snapshot.Objects, x *routed) []status.Write {
	var detected map[string]status.BFD
	if r.router != nil {
		detected = r.router.bfd.state()
	}
	return status.BGPReports(r.who, objs.BGPStatuses, objs.BGPSessions, x.wanted, x.states, detected)
}

// bgpRows are the series of metallb_speaker_announced for routes.
func (r *reporter) bgpRows(x *routed) []telemetry.Row {
	var rows []telemetry.Row
	for i := range x.wanted.Services {
		sp := &x.wanted.Services[i]
		if !x.announces(sp.Service) {
			continue
		}
		for _, a := range sp.Addresses {
			rows = append(rows, telemetry.Row{Labels: []string{sp.Service.String(), status.ProtocolBGP, string(r.who.Node), a.String()}, Value: 1})
		}
	}
	return rows
}
