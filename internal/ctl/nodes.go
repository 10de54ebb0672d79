// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
)

// nodeLine says what part one node has in announcing a Service.
type nodeLine struct {
	name   string
	reason reason.Reason
}

// part lists the nodes: owners first, then by name. Whether a node may announce
// is the planner's word; whether it does is the node's own, in its
// ServiceL2Status; whether it could, if it may but does not, depends on a
// speaker that runs there.
func (v *View) part(key lb.ServiceKey) []nodeLine {
	owners := v.cluster.owners(key)
	group, _ := v.announce.Group(key)
	var first, rest []nodeLine
	for i := range v.snap.Nodes {
		name := v.snap.Nodes[i].Name
		at := slices.IndexFunc(owners, func(o owner) bool { return o.node == string(name) })
		why := v.announce.Explain(key, name)
		if at >= 0 {
			line := ownerReason(owners[at], why)
			if group != nil && slices.ContainsFunc(group.Draining, func(c announce.Candidate) bool { return c.Node == name }) {
				line = ownerReason(owners[at], reason.Reason{})
				line.Text += ", for a moment: its endpoints terminate, and still serve"
			}
			first = append(first, nodeLine{string(name), line})
			owners[at].node = "" // has its line
			continue
		}
		if why.Code == "" && group != nil {
			why = v.candidateReason(group, name, v.cluster.owners(key))
		}
		rest = append(rest, nodeLine{string(name), why})
	}
	for _, o := range owners {
		if o.node != "" {
			first = append(first, nodeLine{o.node, ownerReason(o, reason.New(reason.NodeNotSelected, "node %q does not exist any more", o.node))})
		}
	}
	return append(first, rest...)
}

func ownerReason(o owner, why reason.Reason) reason.Reason {
	on := ""
	if len(o.interfaces) > 0 {
		on = " on " + enumerate(o.interfaces, 5)
	}
	if why.Code == "" {
		return reason.New(reason.NodeOwner, "answers%s", on)
	}
	return reason.New(why.Code, "still reports that it answers%s, but must not: %s", on, why.Text)
}

// speakerless reports whether it is known that no speaker runs on any node that
// may announce the Service.
func (v *View) speakerless(key lb.ServiceKey) bool {
	g, ok := v.announce.Group(key)
	if !ok {
		return false
	}
	return !slices.ContainsFunc(g.Candidates, func(c announce.Candidate) bool {
		known, ready := v.cluster.running(api.ComponentSpeaker, string(c.Node))
		return !known || ready > 0
	})
}

// candidateReason says why a node that may answer does not.
func (v *View) candidateReason(g *announce.Group, name lb.NodeName, owners []owner) reason.Reason {
	if known, ready := v.cluster.running(api.ComponentSpeaker, string(name)); known && ready == 0 {
		return reason.New(reason.NodeNotAlive, "may answer, but no speaker Pod is ready there")
	}
	c, _ := g.Candidate(name)
	if told := v.told(g); len(owners) == 0 && told != "" {
		if why, ok := ownership.SaysNoInterface(told, c); ok {
			return why
		}
	}
	var extra []string
	if c.Score != 0 {
		extra = append(extra, fmt.Sprintf("preference %d", c.Score))
	}
	if len(c.Interfaces) > 0 {
		extra = append(extra, "only on "+enumerate(c.Interfaces, 5))
	}
	text := "could answer"
	if len(extra) > 0 {
		text += " (" + strings.Join(extra, ", ") + ")"
	}
	if len(owners) == 0 {
		return reason.New(reason.NodeNotElected, "%s, which nobody does now", text)
	}
	return reason.New(reason.NodeNotElected, "%s; node %q does", text, owners[0].node)
}

// told is what the speakers have written about why nobody answers for the group.
func (v *View) told(g *announce.Group) string {
	for _, key := range g.Services {
		if obj := v.cluster.service(key); obj != nil {
			if c := condition(obj, api.ConditionAnnounced); c != nil && c.Status == metav1.ConditionFalse {
				return c.Message
			}
		}
	}
	return ""
}

// withoutNode takes the name of the node from the front of a sentence that
// stands beside it.
func withoutNode(text, node string) string {
	text = strings.TrimPrefix(text, fmt.Sprintf("node %q", node))
	return strings.TrimLeft(text, ": ")
}
