// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// ControllerOptions are the circumstances of a Diff.
type ControllerOptions struct {
	// Namespace is Herald's own.
	Namespace string
	// Now is the time that new conditions carry.
	Now time.Time
	// Underway are writes to Services whose outcome is not known.
	Underway []Underway
	// Memo makes the next call with it quicker, and changes nothing else.
	// Optional.
	Memo *Memo
}

// Controller returns what the controller has to write so that the cluster
// shows the plan and the problems: Services first, then reservations, then
// configuration objects, then its ConfigurationState.
func Controller(o snapshot.Objects, plan ipam.Result, problems []snapshot.Problem, opt ControllerOptions) []Write {
	out := services(holdQuotas(hold(changes(o.Services, plan.Services, opt.Underway, opt.Memo), opt.Underway), plan.Pools, opt.Underway), opt)
	out = append(out, reservations(o.Reservations, plan.Reservations, opt.Now)...)
	out = append(out, configuration(o, plan.Pools, problems, opt)...)
	if w, ok := ControllerState(o.ConfigurationStates, problems, nil, opt); ok {
		out = append(out, w)
	}
	return out
}

// object is a configuration object and what its status says now.
type object struct {
	snapshot.Object
	kind       string
	conditions []metav1.Condition
}

func configuration(o snapshot.Objects, usage []ipam.Usage, problems []snapshot.Problem, opt ControllerOptions) []Write {
	byObject := map[[2]string][]snapshot.Problem{}
	for _, p := range problems {
		key := [2]string{p.Kind, p.Name}
		byObject[key] = append(byObject[key], p)
	}
	byPool := make(map[string]*ipam.Usage, len(usage))
	for i := range usage {
		byPool[usage[i].Name] = &usage[i]
	}
	var out []Write
	for _, obj := range configObjects(o) {
		if obj.GetNamespace() != opt.Namespace || obj.GetDeletionTimestamp() != nil {
			continue
		}
		var counters map[string]any
		if pool, ok := obj.Object.(*v1beta1.IPAddressPool); ok {
			counters = poolCounters(&pool.Status, byPool[pool.Name])
		}
		if w, ok := validity(obj, byObject[[2]string{obj.kind, obj.GetName()}], counters, opt.Now); ok {
			out = append(out, w)
		}
	}
	return out
}

// configObjects lists the objects in a fixed order.
func configObjects(o snapshot.Objects) []object {
	var out []object
	for _, x := range o.Pools {
		out = append(out, object{x, snapshot.KindPool, x.Status.Conditions})
	}
	for _, x := range o.L2Advertisements {
		out = append(out, object{x, snapshot.KindL2Advertisement, x.Status.Conditions})
	}
	for _, x := range o.BGPAdvertisements {
		out = append(out, object{x, snapshot.KindBGPAdvertisement, x.Status.Conditions})
	}
	for _, x := range o.Peers {
		out = append(out, object{x, snapshot.KindPeer, x.Status.Conditions})
	}
	for _, x := range o.BFDProfiles {
		out = append(out, object{x, snapshot.KindBFDProfile, x.Status.Conditions})
	}
	for _, x := range o.Communities {
		out = append(out, object{x, snapshot.KindCommunity, x.Status.Conditions})
	}
	slices.SortFunc(out, func(a, b object) int {
		return strings.Compare(a.kind+"/"+a.GetName(), b.kind+"/"+b.GetName())
	})
	return out
}

// remarks says which fields of a valid object have no effect. Each sentence
// begins with a space.
func remarks(obj snapshot.Object) string {
	switch x := obj.(type) {
	case *v1beta1.BFDProfile:
		if x.Spec.EchoMode != nil && *x.Spec.EchoMode {
			return " echoMode has no effect: routers are asked to send no echo packets, because the node's own forwarding would have to return them, " +
				"where a firewall rule or a sysctl would take the session down; intervals and detectMultiplier do the job."
		}
	case *v1beta2.BGPPeer:
		if x.Spec.DisableMP {
			return " disableMP is deprecated and has no effect: remove it."
		}
	}
	return ""
}

// validity returns the write for the condition Valid and, for a pool, its
// counters; an object without problems says so, too.
func validity(obj object, problems []snapshot.Problem, counters map[string]any, now time.Time) (Write, bool) {
	want := metav1.Condition{
		Type:               api.ConditionValid,
		Status:             metav1.ConditionTrue,
		Reason:             string(reason.ObjectValid),
		Message:            "The object is in use." + remarks(obj.Object),
		ObservedGeneration: obj.GetGeneration(),
	}
	if len(problems) > 0 {
		want.Status = metav1.ConditionFalse
		want.Reason = string(problems[0].Reason.Code)
		want.Message = sentences(problems)
	}
	cond, differs := condition(obj.conditions, want, now)
	if !differs && len(counters) == 0 {
		return Write{}, false
	}
	w := Write{Object: obj.Object, PatchType: types.MergePatchType, Minor: !differs}
	p := patch{Metadata: patchMeta{ResourceVersion: obj.GetResourceVersion()}, Status: counters}
	if differs {
		if p.Status == nil {
			p.Status = map[string]any{}
		}
		p.Status["conditions"] = replaced(obj.conditions, cond)
		old := find(obj.conditions, api.ConditionValid)
		if len(problems) > 0 && (old == nil || old.Reason != cond.Reason || old.Message != cond.Message) {
			w.Events = []Event{{corev1.EventTypeWarning, api.EventInvalid, cond.Message}}
		}
	}
	w.Patch = encode(p)
	return w, true
}

func sentences(problems []snapshot.Problem) string {
	parts := make([]string, len(problems))
	for i, p := range problems {
		parts[i] = p.Reason.Text
	}
	return bounded(strings.Join(parts, "; "))
}

// poolCounters returns the fields of a pool's status that differ.
func poolCounters(have *v1beta1.IPAddressPoolStatus, use *ipam.Usage) map[string]any {
	if use == nil {
		return nil
	}
	out := map[string]any{}
	number := func(field string, have, want int64) {
		if have != want {
			out[field] = want
		}
	}
	text := func(field, have, want string) {
		if have != want {
			out[field] = want
		}
	}
	number("assignedIPv4", have.AssignedIPv4, use.IPv4.Assigned)
	number("assignedIPv6", have.AssignedIPv6, use.IPv6.Assigned)
	number("availableIPv4", have.AvailableIPv4, use.IPv4.Available)
	number("availableIPv6", have.AvailableIPv6, use.IPv6.Available)
	number("reservedIPv4", have.ReservedIPv4, use.IPv4.Reserved)
	number("reservedIPv6", have.ReservedIPv6, use.IPv6.Reserved)
	text("usedIPv4", have.UsedIPv4, used(use.IPv4))
	text("usedIPv6", have.UsedIPv6, used(use.IPv6))
	return out
}

// used is "used/total" for people; empty for a family that the pool has not.
func used(c ipam.Count) string {
	switch c.Total {
	case 0:
		return ""
	case math.MaxInt64:
		return fmt.Sprintf("%d/2^63+", c.Assigned)
	}
	return fmt.Sprintf("%d/%d", c.Assigned, c.Total)
}

// ControllerState returns the write for the ConfigurationState of the
// controller. A non-nil unknown says why the configuration could not be read.
func ControllerState(have []*v1beta1.ConfigurationState, problems []snapshot.Problem, unknown error, opt ControllerOptions) (Write, bool) {
	want := stateOf(problems, unknown)
	want.Conditions = []metav1.Condition{{Type: api.ConditionPoolReconcilerValid}}
	name := types.NamespacedName{Namespace: opt.Namespace, Name: api.ComponentController}
	labels := map[string]string{api.LabelComponentType: api.ComponentController}
	return state(have, name, labels, want, opt.Now)
}

// stateOf judges the configuration as a whole.
func stateOf(problems []snapshot.Problem, unknown error) v1beta1.ConfigurationStateStatus {
	switch {
	case unknown != nil:
		return v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationUnknown, ErrorSummary: bounded(unknown.Error())}
	case len(problems) > 0:
		lines := make([]string, len(problems))
		for i, p := range problems {
			lines[i] = fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Reason.Text)
		}
		return v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationInvalid, ErrorSummary: bounded(strings.Join(lines, "\n"))}
	}
	return v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationValid}
}

// state returns the write for a ConfigurationState; want has the result, the
// summary, a first condition of which only the type is set, and others that are
// whole.
func state(have []*v1beta1.ConfigurationState, name types.NamespacedName, labels map[string]string, want v1beta1.ConfigurationStateStatus, now time.Time) (Write, bool) {
	cond := metav1.Condition{Type: want.Conditions[0].Type, Status: metav1.ConditionTrue, Reason: api.ReasonReconciled}
	switch want.Result {
	case v1beta1.ConfigurationInvalid:
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, api.ReasonConfigurationError, want.ErrorSummary
	case v1beta1.ConfigurationUnknown:
		cond.Status, cond.Reason, cond.Message = metav1.ConditionUnknown, api.ReasonUnknownError, want.ErrorSummary
	}
	i := slices.IndexFunc(have, func(s *v1beta1.ConfigurationState) bool { return s.Namespace == name.Namespace && s.Name == name.Name })
	w := Write{PatchType: types.MergePatchType}
	var old v1beta1.ConfigurationStateStatus
	var p patch
	if i >= 0 {
		w.Object, old = have[i], have[i].Status
		p.Metadata.ResourceVersion = have[i].ResourceVersion
	} else {
		w.Create = true
		w.Object = &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: labels}}
	}
	conditions, differs := old.Conditions, false
	for _, c := range append([]metav1.Condition{cond}, want.Conditions[1:]...) {
		c, news := condition(old.Conditions, c, now)
		conditions, differs = replaced(conditions, c), differs || news
	}
	if !w.Create && !differs && old.Result == want.Result && old.ErrorSummary == want.ErrorSummary {
		return Write{}, false
	}
	p.Status = map[string]any{"result": want.Result, "errorSummary": want.ErrorSummary, "conditions": conditions}
	w.Patch = encode(p)
	return w, true
}
