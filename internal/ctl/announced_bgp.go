// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/reason"
)

// announcedBGP compares what the plan allows with what the nodes report of
// their routers. Any number of nodes may announce a Service.
func (t *tale) announcedBGP() announced {
	v := t.view
	verdict := v.announce.VerdictBGP(t.key)
	routers := v.cluster.routers(t.key)
	a := announced{code: reason.NoSession}
	switch {
	case len(routers) == 1:
		a.code, a.who = reason.Announcing, fmt.Sprintf("node %q announces it to %s", routers[0].node, enumerate(routers[0].interfaces, 3))
	case len(routers) > 1:
		names := make([]string, len(routers))
		for i, r := range routers {
			names[i] = r.node
		}
		a.code, a.who = reason.Announcing, fmt.Sprintf("%d nodes announce it to routers (%s)", len(routers), enumerate(names, 5))
	case verdict.Code != "":
		a.code = verdict.Code
	}
	if verdict.Code != "" && verdict.Code != reason.NoCandidate { // that one is told node by node
		a.lines = append(a.lines, verdict.String())
	} else {
		a.lines = t.nodesBGP(routers)
	}
	if a.code != reason.Announcing {
		t.fixFor(a.code)
	}
	return a
}

// nodesBGP tells of each node: those that announce first, then by name.
func (t *tale) nodesBGP(routers []owner) []string {
	v := t.view
	var first, rest []string
	for i := range v.snap.Nodes {
		name := v.snap.Nodes[i].Name
		why := v.announce.ExplainBGP(t.key, name)
		at := slices.IndexFunc(routers, func(o owner) bool { return o.node == string(name) })
		switch {
		case at >= 0 && why.Code == "":
			first = append(first, fmt.Sprintf("%s\t%s\tannounces it with BGP to %s", name, reason.NodeOwner, enumerate(routers[at].interfaces, 5)))
		case at >= 0:
			first = append(first, fmt.Sprintf("%s\t%s\tstill reports that it announces it with BGP, but must not: %s", name, why.Code, withoutNode(why.Text, string(name))))
		case why.Code != "":
			rest = append(rest, fmt.Sprintf("%s\t%s\t%s", name, why.Code, withoutNode(why.Text, string(name))))
			if len(routers) == 0 {
				t.fixFor(why.Code)
			}
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
		return "it reports no session"
	}
	return strings.Join(texts, "; ")
}
