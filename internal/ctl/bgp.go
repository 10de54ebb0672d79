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

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// Session is the session of a node with a router: one that the plan wants, one
// that the node reports, or both.
type Session struct {
	Node    string `json:"node"`
	Peer    string `json:"peer"`
	Address string `json:"address,omitempty"`
	// State is what the node reports; empty: it reports nothing.
	State string `json:"state,omitempty"`
	Since string `json:"since,omitempty"`
	// Prefixes is what the router has been sent, Wanted what the plan has for
	// it.
	Prefixes int    `json:"prefixes"`
	Wanted   int    `json:"wanted"`
	BFD      string `json:"bfd,omitempty"`
	// Problem says in words what is wrong now.
	Problem string `json:"problem,omitempty"`
	// LastError says why a session that is up was down before.
	LastError string `json:"lastError,omitempty"`
}

// Route is a prefix that a node wants a router to have.
type Route struct {
	Node        string       `json:"node"`
	Peer        string       `json:"peer"`
	Prefix      netip.Prefix `json:"prefix"`
	LocalPref   uint32       `json:"localPref,omitempty"`
	Communities []string     `json:"communities,omitempty"`
	// Bandwidth of the link bandwidth community, in bytes per second.
	Bandwidth float32  `json:"bandwidth,omitempty"`
	Services  []string `json:"services"`
	// Established: the node reports that the session is up.
	Established bool `json:"established"`
}

// BGPFilter chooses sessions and routes; empty fields choose all.
type BGPFilter struct {
	Node, Peer string
	Service    lb.ServiceKey // for routes
}

func (f *BGPFilter) admits(node, peer string) bool {
	return (f.Node == "" || f.Node == node) && (f.Peer == "" || f.Peer == peer)
}

// wanted is what one node wants of BGP. Passwords are of no interest here.
func (v *View) wanted(node lb.NodeName) bgp.Wanted {
	plan := announce.Plan(&v.snap, node)
	return bgp.Plan(&v.snap, node, plan.BGP, bgp.Inputs{Secret: func(string) (bgp.Password, error) { return "", nil }})
}

// checkBGP finds names that do not exist.
func (v *View) checkBGP(f BGPFilter) error {
	if f.Node != "" && !slices.ContainsFunc(v.snap.Nodes, func(n lb.Node) bool { return string(n.Name) == f.Node }) {
		return fmt.Errorf("there is no node %q", f.Node)
	}
	if f.Peer != "" && !slices.ContainsFunc(v.snap.Peers, func(p lb.Peer) bool { return p.Name == f.Peer }) {
		return fmt.Errorf("there is no valid BGPPeer %q in namespace %s", f.Peer, v.cluster.Namespace)
	}
	if f.Service != (lb.ServiceKey{}) {
		if _, ok := v.service(f.Service); !ok {
			return v.unserved(f.Service)
		}
	}
	return nil
}

// Sessions lists the sessions with routers, by node and peer.
func (v *View) Sessions(f BGPFilter) ([]Session, error) {
	if err := v.checkBGP(f); err != nil {
		return nil, err
	}
	out := []Session{}
	for i := range v.snap.Nodes {
		node := v.snap.Nodes[i].Name
		w := v.wanted(node)
		for j := range w.Sessions {
			s := &w.Sessions[j]
			if f.admits(string(node), s.Peer) {
				out = append(out, v.session(node, s))
			}
		}
	}
	for _, o := range v.cluster.Sessions { // what is reported and not wanted
		node, peer := sessionNames(o)
		known := slices.ContainsFunc(out, func(s Session) bool { return s.Node == node && s.Peer == peer })
		if !known && f.admits(node, peer) && o.Namespace == v.cluster.Namespace {
			s := reported(o)
			s.Problem = "is reported, but by the objects there should be no such session"
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Peer, b.Peer)) })
	return out, nil
}

func sessionNames(o *v1alpha1.BGPSession) (node, peer string) {
	return cmp.Or(o.Status.Node, o.Labels[api.LabelNode]), cmp.Or(o.Status.Peer, o.Labels[api.LabelPeer])
}

func reported(o *v1alpha1.BGPSession) Session {
	s := Session{
		Address: o.Status.PeerAddress, State: string(o.Status.State), Prefixes: int(o.Status.PrefixesSent),
		BFD: string(o.Status.BFDState), Problem: o.Status.LastError,
	}
	if o.Status.State == v1alpha1.SessionEstablished {
		s.Problem, s.LastError = "", s.Problem
	}
	s.Node, s.Peer = sessionNames(o)
	if o.Status.Since != nil {
		s.Since = stamp(*o.Status.Since)
	}
	return s
}

// session joins what is wanted with what the node reports.
func (v *View) session(node lb.NodeName, w *bgp.Session) Session {
	s := Session{Node: string(node), Peer: w.Peer}
	i := slices.IndexFunc(v.cluster.Sessions, func(o *v1alpha1.BGPSession) bool {
		n, p := sessionNames(o)
		return n == s.Node && p == s.Peer && o.Namespace == v.cluster.Namespace
	})
	known, ready := v.cluster.running(api.ComponentSpeaker, s.Node)
	switch {
	case i >= 0:
		s = reported(v.cluster.Sessions[i])
		if known && ready == 0 {
			s.Problem = "no speaker Pod is ready on the node; this is its last report"
		}
	case known && ready == 0:
		s.Problem = "no speaker Pod is ready on the node"
	default:
		s.Problem = "nothing is reported about it: the speaker has just started, or the others do not hear it"
	}
	s.Address = cmp.Or(s.Address, w.Key.String())
	s.Wanted = len(w.Routes)
	return s
}

// Routes lists what nodes want routers to have, by node, peer and prefix.
func (v *View) Routes(f BGPFilter) ([]Route, error) {
	if err := v.checkBGP(f); err != nil {
		return nil, err
	}
	out := []Route{}
	for i := range v.snap.Nodes {
		node := v.snap.Nodes[i].Name
		w := v.wanted(node)
		for j := range w.Sessions {
			if s := &w.Sessions[j]; f.admits(string(node), s.Peer) {
				out = append(out, v.routes(node, s, &w, f.Service)...)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Route) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Peer, b.Peer)) })
	return out, nil
}

func (v *View) routes(node lb.NodeName, s *bgp.Session, w *bgp.Wanted, of lb.ServiceKey) []Route {
	var out []Route
	up := v.session(node, s).State == string(v1alpha1.SessionEstablished)
	for _, x := range s.Routes {
		r := Route{
			Node: string(node), Peer: s.Peer, Prefix: x.Prefix,
			Communities: communities(x.Attributes), Bandwidth: x.Bandwidth, Established: up,
		}
		if s.Key.LocalAS == s.Key.PeerAS || s.Key.Dynamic == "internal" {
			r.LocalPref = x.LocalPref // others are not told (RFC 4271, section 5.1.5)
		}
		wanted := of == lb.ServiceKey{}
		for _, sp := range w.Services {
			if slices.Contains(sp.Peers, s.Peer) && slices.ContainsFunc(sp.Addresses, x.Prefix.Contains) {
				r.Services = append(r.Services, sp.Service.String())
				wanted = wanted || sp.Service == of
			}
		}
		if wanted {
			out = append(out, r)
		}
	}
	return out
}

func communities(a bgp.Attributes) []string {
	var out []string
	for _, c := range a.Communities {
		out = append(out, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
	}
	for _, c := range a.Large {
		out = append(out, fmt.Sprintf("large:%d:%d:%d", c.Global, c.Local1, c.Local2))
	}
	return out
}

// PrintSessions writes the list as table, wide, json or yaml.
func PrintSessions(w io.Writer, list []Session, format string) error {
	if format != "table" && format != "wide" {
		return printData(w, map[string]any{"sessions": list}, format)
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	row := func(cells []string, last string) {
		if format == "wide" {
			cells = append(cells, last)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row([]string{"NODE", "PEER", "ADDRESS", "STATE", "SINCE", "PREFIXES", "BFD", "PROBLEM"}, "LAST ERROR")
	for _, s := range list {
		prefixes := fmt.Sprintf("%d/%d", s.Prefixes, s.Wanted)
		row([]string{s.Node, s.Peer, orDash(s.Address), orDash(s.State), orDash(s.Since), prefixes, orDash(s.BFD), orDash(s.Problem)}, orDash(s.LastError))
	}
	return t.Flush()
}

// PrintRoutes writes the list as table, wide, json or yaml.
func PrintRoutes(w io.Writer, list []Route, format string) error {
	if format != "table" && format != "wide" {
		return printData(w, map[string]any{"routes": list}, format)
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	most := 2
	if format == "wide" {
		most = 100
	}
	fmt.Fprintln(t, "PREFIX\tNODE\tPEER\tSESSION\tLOCAL PREF\tCOMMUNITIES\tSERVICES")
	for i := range list {
		r := &list[i]
		session, pref := "down", "-"
		if r.Established {
			session = "up"
		}
		if r.LocalPref != 0 {
			pref = fmt.Sprint(r.LocalPref)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Prefix, r.Node, r.Peer, session, pref,
			orDash(strings.Join(r.Communities, ",")), orDash(short(r.Services, most)))
	}
	return t.Flush()
}

// routing is a node that announces a Service to routers, as far as sessions are
// up.
type routing struct {
	node     string
	up, down []string // names of BGPPeers
}

// routings lists, for each Service, the nodes that report that they announce it
// with BGP, by name. What they report are the routers that are to have it; which
// of them can is in their BGPSession objects.
func (c *Cluster) routings() map[lb.ServiceKey][]routing {
	type end struct{ node, peer string }
	up := map[end]bool{}
	for _, o := range c.Sessions {
		node, peer := sessionNames(o)
		known, ready := c.running(api.ComponentSpeaker, node)
		up[end{node, peer}] = o.Namespace == c.Namespace && o.Status.State == v1alpha1.SessionEstablished && (!known || ready > 0)
	}
	out := map[lb.ServiceKey][]routing{}
	for _, s := range c.BGPStatuses {
		if s.Namespace != c.Namespace {
			continue
		}
		r := routing{node: cmp.Or(s.Status.Node, s.Labels[api.LabelNode])}
		for _, peer := range s.Status.Peers {
			if up[end{r.node, peer}] {
				r.up = append(r.up, peer)
			} else {
				r.down = append(r.down, peer)
			}
		}
		out[serviceOf(s)] = append(out[serviceOf(s)], r)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b routing) int { return cmp.Compare(a.node, b.node) })
	}
	return out
}

// carries reports whether sessions with a peer carry the family of an address.
func (v *View) carries(peer string, a netip.Addr) bool {
	return slices.ContainsFunc(v.snap.Peers, func(p lb.Peer) bool {
		return p.Name == peer && (p.DualStack || p.Interface != "" || p.Address.Is4() == a.Is4())
	})
}

// anyEstablished reports whether a node has a session that carries routes, and
// is there to use it.
func (v *View) anyEstablished(node string) bool {
	known, ready := v.cluster.running(api.ComponentSpeaker, node)
	return (!known || ready > 0) && slices.ContainsFunc(v.cluster.Sessions, func(o *v1alpha1.BGPSession) bool {
		n, _ := sessionNames(o)
		return n == node && o.Namespace == v.cluster.Namespace && o.Status.State == v1alpha1.SessionEstablished
	})
}

// uncarried are the addresses of a Service that a node announces to nobody,
// because no session of it carries their family.
func (v *View) uncarried(node string, key lb.ServiceKey) []netip.Addr {
	w := v.wanted(lb.NodeName(node))
	i := slices.IndexFunc(w.Services, func(sp bgp.ServicePeers) bool { return sp.Service == key })
	if i < 0 {
		return nil
	}
	return w.Services[i].Uncarried
}

func serviceOf(s *v1beta1.ServiceBGPStatus) lb.ServiceKey {
	return lb.ServiceKey{
		Namespace: cmp.Or(s.Status.ServiceNamespace, s.Labels[api.LabelServiceNamespace]),
		Name:      cmp.Or(s.Status.ServiceName, s.Labels[api.LabelServiceName]),
	}
}
