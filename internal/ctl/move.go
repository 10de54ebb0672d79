// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// Patcher changes an object of an API server: one JSON merge patch.
type Patcher interface {
	Getter
	Patch(ctx context.Context, path string, patch []byte) error
}

// Move is a wish to have another node answer for a Service's addresses.
type Move struct {
	Service lb.ServiceKey `json:"service"`
	From    string        `json:"from"`
	To      string        `json:"to"`
}

// Move checks whether a Service's addresses can go to a node. Done means that
// they are there already.
func (v *View) Move(key lb.ServiceKey, to string) (m Move, done bool, err error) {
	svc, ok := v.service(key)
	switch {
	case !ok:
		return Move{}, false, v.unserved(key)
	case len(svc.Assigned) == 0:
		return Move{}, false, fmt.Errorf("the Service %s has no address yet: see heraldctl explain service %s", key, key)
	}
	g, ok := v.announce.Group(key)
	if !ok {
		return Move{}, false, fmt.Errorf("no L2Advertisement covers Service %s: no node answers for it by ARP or NDP, so there is nothing to move", key)
	}
	o := v.ownership(g)
	m = Move{Service: key, From: strings.Join(o.Nodes, ","), To: to}
	if slices.Equal(o.Nodes, []string{to}) {
		return m, true, nil
	}
	if len(o.Nodes) == 0 {
		return Move{}, false, fmt.Errorf("nobody answers for Service %s now, so nobody can hand it over: see heraldctl explain service %s", key, key)
	}
	if !slices.ContainsFunc(v.snap.Nodes, func(n lb.Node) bool { return string(n.Name) == to }) {
		return Move{}, false, fmt.Errorf("there is no node %q", to)
	}
	if why := v.announce.Explain(key, lb.NodeName(to)); why.Code != "" {
		return Move{}, false, fmt.Errorf("node %q may not answer for Service %s: %s: %s", to, key, why.Code, withoutNode(why.Text, to))
	}
	if known, ready := v.cluster.running(api.ComponentSpeaker, to); known && ready == 0 {
		return Move{}, false, fmt.Errorf("no speaker Pod is ready on node %q", to)
	}
	return m, false, nil
}

// unserved says why a Service is none of Herald's.
func (v *View) unserved(key lb.ServiceKey) error {
	if v.cluster.service(key) == nil {
		return fmt.Errorf("there is no Service %s of type LoadBalancer", key)
	}
	return fmt.Errorf("the Service %s is not Herald's to serve: see heraldctl explain service %s", key, key)
}

// How Carry waits.
const (
	carryPoll  = 100 * time.Millisecond
	carryLimit = 15 * time.Second
)

// Carry carries out a move: it writes the wish, waits until the node and no
// other reports that it answers, and takes the wish away again. The speakers do
// the rest: the node answers before the old one stops.
func Carry(ctx context.Context, p Patcher, namespace string, m Move, now time.Time) error {
	path := pathCore + "/namespaces/" + m.Service.Namespace + "/services/" + m.Service.Name
	if err := annotate(ctx, p, path, m.To+" "+now.UTC().Format(time.RFC3339)); err != nil {
		return allowed(fmt.Errorf("ask for the move of Service %s: %w", m.Service, err))
	}
	moved := arrives(ctx, p, namespace, m)
	// Also when interrupted: the wish ends by itself, but need not be left behind.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), carryLimit)
	defer cancel()
	if err := annotate(clean, p, path, nil); err != nil && moved == nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("take the annotation %s off Service %s again: %w", api.AnnotationL2MoveTo, m.Service, err)
	}
	return moved
}

func annotate(ctx context.Context, p Patcher, path string, value any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{api.AnnotationL2MoveTo: value}}})
	if err != nil {
		return err
	}
	return p.Patch(ctx, path, patch)
}

// arrives waits until the node alone reports the Service.
func arrives(ctx context.Context, g Getter, namespace string, m Move) error {
	ctx, cancel := context.WithTimeout(ctx, carryLimit)
	defer cancel()
	tick := time.NewTicker(carryPoll)
	defer tick.Stop()
	var nodes []string
	for {
		c := &Cluster{Namespace: namespace}
		r := &reader{ctx: ctx, get: g, cluster: c}
		c.L2Statuses = list[*v1beta1.ServiceL2Status](r, pathBeta1, namespace, "servicel2statuses",
			url.Values{"labelSelector": {api.LabelServiceName + "=" + m.Service.Name + "," + api.LabelServiceNamespace + "=" + m.Service.Namespace}})
		if r.err != nil && ctx.Err() == nil {
			return r.err
		}
		if r.err == nil {
			nodes = nil
			for _, o := range c.owners(m.Service) {
				nodes = append(nodes, o.node)
			}
			if slices.Equal(nodes, []string{m.To}) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Service %s has not moved to node %q in %s: node %s reports that it answers. Is an interface up on node %q that the L2Advertisement allows, and do the clocks of the nodes agree?",
				m.Service, m.To, carryLimit, orDash(strings.Join(nodes, " and ")), m.To)
		case <-tick.C:
		}
	}
}

func allowed(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w (ask for a role that allows to patch Services)", err)
	}
	return err
}

// Balance returns the moves, one after the other, that make the nodes answer for
// about as many addresses each. A node that another one is preferred to gets
// nothing.
func (v *View) Balance() []Move {
	holdings := make([]ownership.Holding, 0, len(v.announce.Groups))
	services := map[netip.Addr]lb.ServiceKey{}
	for i := range v.announce.Groups {
		g := &v.announce.Groups[i]
		o := v.ownership(g)
		if len(o.Nodes) != 1 { // nobody, or a move is under way
			continue
		}
		services[g.Key] = o.key
		holdings = append(holdings, ownership.Holding{Key: g.Key, Owner: lb.NodeName(o.Nodes[0]), Candidates: v.preferred(g)})
	}
	var out []Move
	for _, m := range ownership.Balance(holdings) {
		out = append(out, Move{Service: services[m.Key], From: string(m.From), To: string(m.To)})
	}
	return out
}

// preferred lists the candidates with the highest score that have a speaker.
func (v *View) preferred(g *announce.Group) []lb.NodeName {
	var out []lb.NodeName
	best := 0
	for _, c := range g.Candidates {
		known, ready := v.cluster.running(api.ComponentSpeaker, string(c.Node))
		if known && ready == 0 || len(out) > 0 && c.Score < best {
			continue
		}
		if c.Score > best {
			out = nil
		}
		best = c.Score
		out = append(out, c.Node)
	}
	return out
}
