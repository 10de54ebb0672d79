// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// announcedBGP compares what the plan allows with what the nodes report of
// their routers. Any number of nodes may announce a Service.
func (t *tale) announcedBGP() announced {
	v := t.view
	verdict := v.announce.VerdictBGP(t.key)
	routers := v.routed[t.key]
	var up []routing
	var names []string
	for _, r := range routers {
		if len(r.up) > 0 {
			up, names = append(up, r), append(names, r.node)
		}
	}
	a := announced{code: reason.NoSession}
	switch {
	case len(up) == 1:
		a.code, a.who = reason.Announcing, fmt.Sprintf("node %q announces it to %s", up[0].node, enumerate(up[0].up, 3))
	case len(up) > 1:
		a.code, a.who = reason.Announcing, fmt.Sprintf("%d nodes announce it to routers (%s)", len(up), enumerate(names, 5))
	case verdict.Code != "":
		a.code = verdict.Code
	case t.held(routers):
		a.code = reason.ProxyNotReady
	}
	if verdict.Code != "" && verdict.Code != reason.NoCandidate { // that one is told node by node
		a.lines = append(a.lines, verdict.String())
	} else {
		a.lines = t.nodesBGP(routers)
	}
	if a.code != reason.Announcing && a.code != reason.ProxyNotReady { // of that the nodes tell
		t.fixFor(a.code)
	}
	return a
}

// nodesBGP tells of each node: those that announce first, then by name.
func (t *tale) nodesBGP(routers []routing) []string {
	v := t.view
	var first, rest []string
	for i := range v.snap.Nodes {
		name := v.snap.Nodes[i].Name
		why := v.announce.ExplainBGP(t.key, name)
		at := slices.IndexFunc(routers, func(r routing) bool { return r.node == string(name) })
		switch {
		case at >= 0 && why.Code == "" && len(routers[at].up) > 0:
			first = append(first, fmt.Sprintf("%s\t%s\tannounces it with BGP to %s%s", name, reason.NodeOwner, enumerate(routers[at].up, 5), t.short(&routers[at])))
		case at >= 0 && len(routers[at].up) > 0:
			first = append(first, fmt.Sprintf("%s\t%s\tstill reports that it announces it with BGP, but must not: %s", name, why.Code, withoutNode(why.Text, string(name))))
		case why.Code != "":
			rest = append(rest, fmt.Sprintf("%s\t%s\t%s", name, why.Code, withoutNode(why.Text, string(name))))
			if !slices.ContainsFunc(routers, func(r routing) bool { return len(r.up) > 0 }) {
				t.fixFor(why.Code)
			}
		case at < 0 && v.anyEstablished(string(name)):
			why, fix := held(t.svc)
			rest = append(rest, fmt.Sprintf("%s\t%s\t%s", name, why.Code, why.Text))
			t.fix(fix)
		default:
			rest = append(rest, fmt.Sprintf("%s\t%s\tmay announce it with BGP, but %s", name, reason.NoSession, t.sessionProblem(string(name))))
		}
	}
	lines := append(first, rest...)
	if len(lines) > maxLines {
		lines = append(lines[:maxLines:maxLines], fmt.Sprintf("and %d more nodes", len(lines)-maxLines))
	}
	return lines
}

// held reports whether a node waits for its kube-proxy before it announces the
// Service.
func (t *tale) held(routers []routing) bool {
	return slices.ContainsFunc(t.view.snap.Nodes, func(n lb.Node) bool {
		name := string(n.Name)
		return t.view.announce.ExplainBGP(t.key, n.Name).Code == "" && t.view.anyEstablished(name) &&
			!slices.ContainsFunc(routers, func(r routing) bool { return r.node == name })
	})
}

// short says what routers do not have of what a node announces, and what to do.
func (t *tale) short(r *routing) string {
	text := ""
	if len(r.down) > 0 {
		text = fmt.Sprintf(" (not up: the session with %s)", enumerate(r.down, 5))
		t.fix("See what is wrong with the sessions that are not up: heraldctl bgp sessions.")
	}
	if left := t.view.uncarried(r.node, t.key); len(left) > 0 {
		text += fmt.Sprintf("; not %s: no session carries that family", enumerate(left, 2))
		t.fix(familyFix)
	}
	return text
}

// sessionProblem says why no router has routes from a node.
func (t *tale) sessionProblem(node string) string {
	c := t.view.cluster
	if known, ready := c.running(api.ComponentSpeaker, node); known && ready == 0 {
		return "no speaker Pod is ready there"
	}
	var texts []string
	for _, s := range c.Sessions {
		n, peer := sessionNames(s)
		if n != node || s.Namespace != c.Namespace {
			continue
		}
		text := fmt.Sprintf("its session with %s is %s", peer, s.Status.State)
		if s.Status.LastError != "" {
			text += ": " + s.Status.LastError
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return "no session is reported: its speaker has just started, or the others do not hear it"
	}
	return strings.Join(texts, "; ")
}
