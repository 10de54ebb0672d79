// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Explain tells the story of one Service: what it asks for, what it gets and
// why, who announces it and why not the others, and what to do. It is an error
// if the Service is not there.
func (v *View) Explain(w io.Writer, key lb.ServiceKey) error {
	obj := v.cluster.service(key)
	if obj == nil {
		return v.notFound(key)
	}
	t := &tale{view: v, obj: obj, key: key}
	if svc, ok := v.service(key); ok {
		t.svc = svc
		t.tell()
	} else {
		t.notServed()
	}
	t.configuration()
	t.advice()
	for _, n := range v.cluster.Notes {
		t.section("Note", n)
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

func (v *View) notFound(key lb.ServiceKey) error {
	var same []string
	for _, s := range v.cluster.Services {
		if s.Name == key.Name {
			same = append(same, s.Namespace+"/"+s.Name)
		}
	}
	if len(same) > 0 {
		return fmt.Errorf("there is no Service %s, but there is %s", key, enumerate(same, 5))
	}
	return fmt.Errorf("there is no Service %s; see kubectl get services -A (a dump has only those of type LoadBalancer)", key)
}

// tale is a story in the making.
type tale struct {
	view *View
	obj  *corev1.Service
	key  lb.ServiceKey
	svc  *lb.Service // nil: not Herald's to serve
	d    *ipam.Decision

	b     strings.Builder
	fixes []string
}

// section writes a title and lines below it. Tabs align columns.
func (t *tale) section(title string, lines ...string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(&t.b, "\n%s\n%s", title, aligned(lines))
}

// fix adds a piece of advice, once.
func (t *tale) fix(text string) {
	if text != "" && !slices.Contains(t.fixes, text) {
		t.fixes = append(t.fixes, text)
	}
}

// fixFor adds what the list of reasons says about a code.
func (t *tale) fixFor(code reason.Code) {
	if i, ok := reason.Lookup(code); ok {
		t.fix(i.Fix)
	}
}

// notServed tells of a Service that is not Herald's.
func (t *tale) notServed() {
	class := ""
	if t.obj.Spec.LoadBalancerClass != nil {
		class = *t.obj.Spec.LoadBalancerClass
	}
	ours := t.view.cluster.LBClass
	switch {
	case t.obj.Spec.Type != corev1.ServiceTypeLoadBalancer:
		fmt.Fprintf(&t.b, "Service %s is of type %s: Herald gives addresses only to Services of type LoadBalancer.\n", t.key, t.obj.Spec.Type)
		t.fix("Set spec.type to LoadBalancer, if it is to have an external address.")
	case class != ours && ours == "":
		fmt.Fprintf(&t.b, "Service %s has spec.loadBalancerClass %q: Herald runs without --lb-class and serves only Services without a class.\n", t.key, class)
		t.fix("Create the Service again without spec.loadBalancerClass (the field cannot be changed), or run Herald with --lb-class " + class + ".")
	case class != ours:
		fmt.Fprintf(&t.b, "Service %s has %s: Herald runs with --lb-class %s and serves only Services of that class.\n", t.key, classText(class), ours)
		t.fix("Set spec.loadBalancerClass to " + ours + ". (The field cannot be changed: create the Service again.)")
	default:
		fmt.Fprintf(&t.b, "Service %s is being deleted and has no address.\n", t.key)
	}
}

func classText(class string) string {
	if class == "" {
		return "no spec.loadBalancerClass"
	}
	return fmt.Sprintf("spec.loadBalancerClass %q", class)
}

func (t *tale) tell() {
	t.d, _ = decision(&t.view.ipam, t.key)
	t.repair(true)
	address, announced := t.address(), t.announced()
	t.headline(announced)
	t.section("It asks for", asks(t.svc)...)
	t.section("Its address", address...)
	t.pools()
	t.reservations()
	if len(t.svc.Assigned) > 0 {
		t.section("Who answers for it", announced.lines...)
	}
	for _, old := range t.svc.Request.Deprecated {
		t.fix(fmt.Sprintf("The annotation %s is deprecated: use %s.", old, api.Prefix+strings.TrimPrefix(old, api.PrefixLegacy)))
	}
	t.repair(false)
}

// repair advises to repair invalid objects: those first of whose kind something
// is missing here, and the others at the end.
func (t *tale) repair(missing bool) {
	for _, p := range t.view.problems {
		var lacks bool
		switch p.Kind {
		case snapshot.KindPool:
			lacks = slices.Contains([]reason.Code{
				reason.NoPools, reason.NoPoolFits, reason.PoolsExhausted, reason.PoolInvalid, reason.AddressNotInPool,
				reason.DualStackUnavailable, reason.AddressKept, reason.SecondFamilyMissing,
			}, t.d.Reason.Code)
		case snapshot.KindL2Advertisement:
			verdict := t.view.announce.Verdict(t.key).Code
			lacks = verdict == reason.NoAdvertisement || verdict == reason.NoCandidate
		}
		if lacks == missing {
			t.fix(fmt.Sprintf("Repair %s %s: see what is wrong with it above.", p.Kind, p.Name))
		}
	}
}

// headline is the story in one sentence.
func (t *tale) headline(a announced) {
	has := enumerate(t.svc.Assigned, 2)
	switch {
	case len(t.svc.Assigned) == 0 && len(t.d.Addresses) > 0:
		fmt.Fprintf(&t.b, "Service %s has no address yet; the plan gives it %s.\n", t.key, enumerate(t.d.Addresses, 2))
	case len(t.svc.Assigned) == 0:
		fmt.Fprintf(&t.b, "Service %s has no address: %s.\n", t.key, t.d.Reason.Code)
	case a.code == reason.Announcing:
		fmt.Fprintf(&t.b, "Service %s has %s; %s.\n", t.key, has, a.who)
	case a.code == reason.AddressConflict && a.who != "":
		fmt.Fprintf(&t.b, "Service %s has %s; %s, but something else on the network answers too: %s.\n", t.key, has, a.who, a.code)
	case a.code == "":
		fmt.Fprintf(&t.b, "Service %s has %s, but no node reports that it answers for it.\n", t.key, has)
	default:
		fmt.Fprintf(&t.b, "Service %s has %s, but nobody answers for it: %s.\n", t.key, has, a.code)
	}
}

// address tells what the Service has, and how that differs from the plan.
func (t *tale) address() []string {
	var lines []string
	dated := 0
	c := condition(t.obj, api.ConditionAllocated)
	for i, a := range t.svc.Assigned {
		line := a.String()
		if p := t.view.poolOf(t.svc, i); p != "" {
			line += fmt.Sprintf(" from pool %q", p)
		}
		if at := status.AssignedAt(t.obj.Annotations[api.AnnotationAssignedAt])[a]; at != "" {
			line += ", since " + at
			dated++
		}
		lines = append(lines, line)
	}
	if len(lines) > dated && c != nil && c.Status == metav1.ConditionTrue {
		// All that is known of addresses from before Herald wrote it down.
		lines = append(lines, fmt.Sprintf("%s is True since %s", api.ConditionAllocated, orDash(stamp(c.LastTransitionTime))))
	}
	if t.d.Reason.Code != reason.AddressAssigned {
		lines = append(lines, t.why())
		t.fixFor(t.d.Reason.Code)
	}
	for _, a := range t.d.Cleared {
		lines = append(lines, fmt.Sprintf("%s is to be taken away: %s", a.Address, a.Why))
	}
	for _, a := range t.d.Added {
		lines = append(lines, fmt.Sprintf("%s is to be added", a))
	}
	known, ready := t.view.cluster.running(api.ComponentController, "")
	switch {
	case known && ready == 0:
		lines = append(lines, "no controller is ready, so nothing is given or taken now")
		t.fix(fmt.Sprintf("Get the controller to run: kubectl -n %s get pods -l %s=%s", t.view.cluster.Namespace, labelComponent, api.ComponentController))
	case len(t.d.Added)+len(t.d.Cleared) > 0:
		t.fix("The controller is about to change the addresses. If it does not within seconds, see its log.")
	}
	return lines
}

// why puts the plan's reason into words. What it says about single pools is
// left to the list of pools.
func (t *tale) why() string {
	r := t.d.Reason
	switch r.Code {
	case reason.NoPoolFits, reason.PoolsExhausted, reason.DualStackUnavailable, reason.QuotaExceeded:
		info, _ := reason.Lookup(r.Code)
		meaning, _, _ := strings.Cut(info.Meaning, ". ")
		return string(r.Code) + ": " + strings.TrimSuffix(meaning, ".")
	}
	return r.String()
}

// maxLines bounds a list of pools or nodes.
const maxLines = 20

// pools tells what each pool is for the Service.
func (t *tale) pools() {
	switch {
	case t.svc.Headless || t.svc.Request.Invalid != "":
		return // no pool is considered
	case len(t.view.snap.Pools) == 0:
		t.section("Pools", fmt.Sprintf("there is no IPAddressPool in namespace %s", t.view.cluster.Namespace))
		return
	}
	all := t.view.considered(t.svc)
	if len(all) == 0 { // it asks for one that does not exist
		t.section("Pools", t.view.poolNames())
		return
	}
	title := "Pools, in the order in which they are tried"
	if t.svc.Request.Pool != "" {
		title = "Pools (only the one asked for is considered)"
	}
	var lines []string
	for _, p := range all[:min(len(all), maxLines)] {
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s", p.name, orDash(p.used), p.text))
	}
	if len(all) > maxLines {
		lines = append(lines, fmt.Sprintf("and %d more", len(all)-maxLines))
	}
	t.section(title, lines...)
}

// configuration lists what is wrong with configuration objects: one of them
// may be the reason for what is missing.
func (t *tale) configuration() {
	var lines []string
	for _, p := range t.view.problems {
		lines = append(lines, fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Reason.Text))
	}
	if len(lines) > maxLines {
		lines = append(lines[:maxLines], fmt.Sprintf("and %d more", len(lines)-maxLines))
	}
	t.section("Wrong in the configuration", lines...)
}

func (t *tale) advice() {
	if len(t.fixes) == 0 {
		t.fixes = []string{"Nothing."}
	}
	t.section("What to do", t.fixes...)
}
