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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Ownership is a set of addresses that one node answers for: addresses that
// share a Service share their owner.
type Ownership struct {
	Addresses []netip.Addr `json:"addresses"`
	Services  []string     `json:"services"`
	// Nodes report that they answer: one, or for a moment two, while one takes
	// over. Empty: nobody does, and Reason says why as far as it is known. With
	// both, somebody else answers as well.
	Nodes      []string `json:"nodes,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"`
	// Others may answer too, by name: they are where the addresses can go.
	Others []string `json:"others,omitempty"`
	Reason string   `json:"reason,omitempty"`

	key   lb.ServiceKey // the oldest Service
	group *announce.Group
}

// NodeShare is how much one node answers for.
type NodeShare struct {
	Node      string `json:"node"`
	Addresses int    `json:"addresses"`
	Sets      int    `json:"sets"`
	// CutOff is what the node's speaker says if it hears no other one. Others may
	// answer for the same addresses then.
	CutOff string `json:"cutOff,omitempty"`
}

// OwnersFilter chooses sets of addresses; empty fields choose all.
type OwnersFilter struct {
	Namespace string
	Node      string
}

// Owners lists who answers for what, by address. It is an error to ask for a
// node that neither exists nor answers for anything.
func (v *View) Owners(f OwnersFilter) ([]Ownership, error) {
	out := []Ownership{}
	known := f.Node == "" || slices.ContainsFunc(v.snap.Nodes, func(n lb.Node) bool { return string(n.Name) == f.Node })
	for i := range v.announce.Groups {
		o := v.ownership(&v.announce.Groups[i])
		mine := slices.Contains(o.Nodes, f.Node)
		known = known || mine
		if (f.Node == "" || mine) && (f.Namespace == "" || inNamespace(o.group, f.Namespace)) {
			out = append(out, o)
		}
	}
	if !known {
		return nil, fmt.Errorf("there is no node %q", f.Node)
	}
	return out, nil
}

func inNamespace(g *announce.Group, namespace string) bool {
	return slices.ContainsFunc(g.Services, func(k lb.ServiceKey) bool { return k.Namespace == namespace })
}

func (v *View) ownership(g *announce.Group) Ownership {
	o := Ownership{Addresses: g.Addresses, key: g.Services[0], group: g}
	for _, key := range g.Services {
		o.Services = append(o.Services, key.String())
		for _, x := range v.cluster.owners(key) {
			o.Nodes = append(o.Nodes, x.node)
			o.Interfaces = append(o.Interfaces, x.interfaces...)
		}
	}
	slices.Sort(o.Nodes)
	o.Nodes = slices.Compact(o.Nodes)
	slices.Sort(o.Interfaces)
	o.Interfaces = slices.Compact(o.Interfaces)
	for _, c := range g.Candidates {
		if known, ready := v.cluster.running(api.ComponentSpeaker, string(c.Node)); (!known || ready > 0) && !slices.Contains(o.Nodes, string(c.Node)) {
			o.Others = append(o.Others, string(c.Node))
		}
	}
	o.Reason = string(v.whyNot(&o))
	return o
}

// whyNot says why nobody answers, or that somebody else does: what the objects
// show, else what the speakers have written on one of the Services.
func (v *View) whyNot(o *Ownership) reason.Code {
	nobody := len(o.Nodes) == 0
	if verdict := v.announce.Verdict(o.key); nobody && verdict.Code != "" {
		return verdict.Code
	}
	if nobody && v.speakerless(o.key) {
		return reason.NoSpeaker
	}
	for _, key := range o.group.Services {
		obj := v.cluster.service(key)
		if obj == nil {
			continue
		}
		c := condition(obj, api.ConditionAnnounced)
		if c == nil || c.Status != metav1.ConditionFalse || !known(c.Reason) {
			continue
		}
		if nobody || c.Reason == string(reason.AddressConflict) {
			return reason.Code(c.Reason)
		}
	}
	return ""
}

// Shares counts what each node answers for in all, by node; nodes that answer
// for nothing are listed too.
func (v *View) Shares() []NodeShare {
	at := map[string]int{}
	var out []NodeShare
	share := func(node string) *NodeShare {
		i, ok := at[node]
		if !ok {
			i = len(out)
			at[node] = i
			out = append(out, NodeShare{Node: node, CutOff: v.cluster.cutOff(node)})
		}
		return &out[i]
	}
	for i := range v.snap.Nodes {
		share(string(v.snap.Nodes[i].Name))
	}
	for i := range v.announce.Groups {
		o := v.ownership(&v.announce.Groups[i])
		for _, n := range o.Nodes {
			s := share(n)
			s.Addresses += len(o.Addresses)
			s.Sets++
		}
	}
	slices.SortFunc(out, func(a, b NodeShare) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// PrintOwners writes the list as table, wide, json or yaml.
func PrintOwners(w io.Writer, list []Ownership, shares []NodeShare, format string) error {
	if format != "table" && format != "wide" {
		return printData(w, map[string]any{"owners": list, "nodes": shares}, format)
	}
	most := 3
	if format == "wide" {
		most = 100
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "ADDRESSES\tSERVICES\tNODE\tINTERFACES\tCOULD TAKE OVER")
	for i := range list {
		o := &list[i]
		node := strings.Join(o.Nodes, ",")
		if o.Reason != "" {
			node = orDash(node) + " (" + o.Reason + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", short(o.Addresses, most), short(o.Services, most), orDash(node),
			orDash(strings.Join(o.Interfaces, ",")), orDash(short(o.Others, most)))
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "NODE\tADDRESSES")
	for _, s := range shares {
		fmt.Fprintf(t, "%s\t%d\n", s.Node, s.Addresses)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range shares {
		if s.CutOff != "" {
			fmt.Fprintf(w, "\nThe speaker of %s says: %s.\n", s.Node, s.CutOff)
		}
	}
	return nil
}

// short lists items as "a,b,+3".
func short[T any](items []T, most int) string {
	texts := make([]string, 0, most+1)
	for _, x := range items[:min(len(items), most)] {
		texts = append(texts, fmt.Sprint(x))
	}
	if len(items) > most {
		texts = append(texts, fmt.Sprintf("+%d", len(items)-most))
	}
	return strings.Join(texts, ",")
}
