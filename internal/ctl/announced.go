// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/reason"
)

// announced is who announces a Service, or why nobody does.
type announced struct {
	code  reason.Code // empty: nobody says
	who   string      // a clause, if somebody does
	lines []string
}

// announced tells by which protocols the Service is announced, or may be.
func (t *tale) announced() announced {
	if len(t.svc.Assigned) == 0 {
		return announced{code: reason.NoAddress}
	}
	if !t.view.announce.CoveredByBGP(t.key) {
		return t.announcedL2()
	}
	routed := t.announcedBGP()
	if _, l2 := t.view.announce.Group(t.key); !l2 {
		return routed
	}
	a := t.announcedL2()
	a.lines = append(a.lines, routed.lines...)
	switch {
	case routed.code != reason.Announcing:
	case a.code == reason.Announcing:
		a.who += "; " + routed.who
	case a.code != reason.AddressConflict:
		a.code, a.who = routed.code, routed.who
	}
	return a
}

// announcedL2 compares what the plan allows, what the nodes report, and what
// the condition heraldlb.io/Announced says.
func (t *tale) announcedL2() announced {
	v := t.view
	verdict := v.announce.Verdict(t.key)
	owners := v.cluster.owners(t.key)
	c := condition(t.obj, api.ConditionAnnounced)
	var a announced
	switch {
	case len(owners) > 0:
		a.code = reason.Announcing
		names := make([]string, len(owners))
		for i, o := range owners {
			names[i] = fmt.Sprintf("%q", o.node)
		}
		a.who = fmt.Sprintf("node %s answers for it", names[0])
		if len(owners) > 1 {
			a.who = fmt.Sprintf("nodes %s report that they answer for it", enumerate(names, 5))
			t.fix("More than one node reports the Service, as happens while one takes over. If it lasts, see the logs of their speakers.")
		}
		if c != nil && c.Reason == string(reason.AddressConflict) {
			a.code = reason.AddressConflict
		}
	case verdict.Code != "":
		a.code = verdict.Code
	case c != nil && c.Status == metav1.ConditionFalse && known(c.Reason):
		a.code = reason.Code(c.Reason)
	case v.speakerless(t.key):
		a.code = reason.NoSpeaker
	default:
		t.fix("Nodes may answer and none reports that it does. If that lasts for more than a few seconds, see the logs of their speakers.")
	}
	if verdict.Code != "" && verdict.Code != reason.NoCandidate { // that one is told node by node
		a.lines = append(a.lines, verdict.String())
		t.fixFor(verdict.Code)
	}
	a.lines = append(a.lines, t.said(c, a.code, verdict)...)
	before := len(t.fixes)
	if verdict.Code == "" || verdict.Code == reason.NoCandidate || len(owners) > 0 {
		a.lines = append(a.lines, t.nodes(len(owners) == 0)...)
	}
	if a.code != reason.NoCandidate || len(t.fixes) == before { // else the reasons of the nodes have been told
		t.fixFor(a.code)
	}
	return a
}

// said repeats what the speakers wrote into the condition, unless the rest of
// the story says it too.
func (t *tale) said(c *metav1.Condition, code reason.Code, verdict reason.Reason) []string {
	switch {
	case c == nil && (verdict.Code != "" || code == reason.Announcing):
		return nil
	case c == nil:
		return []string{"the Service has no condition " + api.ConditionAnnounced + ": no speaker has reported yet"}
	case c.Reason == string(reason.Announcing) && code == reason.Announcing, c.Reason == string(verdict.Code):
		return nil
	}
	return []string{fmt.Sprintf("condition since %s: %s: %s", orDash(stamp(c.LastTransitionTime)), c.Reason, c.Message)}
}

func known(code string) bool {
	_, ok := reason.Lookup(reason.Code(code))
	return ok
}

// nodes tells of each node. If nobody answers, it adds what to do about each
// obstacle.
func (t *tale) nodes(advise bool) []string {
	all := t.view.part(t.key)
	if advise {
		for _, info := range reason.All() {
			if info.Subject == reason.Node && slices.ContainsFunc(all, func(n nodeLine) bool { return n.reason.Code == info.Code }) {
				t.fix(info.Fix)
			}
		}
	}
	var lines []string
	for _, n := range all[:min(len(all), maxLines)] {
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s", n.name, orDash(string(n.reason.Code)), withoutNode(n.reason.Text, n.name)))
	}
	if len(all) > maxLines {
		lines = append(lines, fmt.Sprintf("and %d more nodes", len(all)-maxLines))
	}
	if len(all) == 0 {
		lines = append(lines, "there are no nodes")
	}
	return lines
}
