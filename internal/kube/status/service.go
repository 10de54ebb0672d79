// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/reason"
)

// services returns the writes that carry out the changes, the longest-waiting
// Service first.
func services(all []change, opt ControllerOptions) []Write {
	var out []Write
	for i := range all {
		c := &all[i]
		if c.obj.DeletionTimestamp != nil {
			continue
		}
		if w, ok := service(c.obj, &c.Decision, opt.Now, c.force); ok {
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b Write) int {
		return a.Object.GetCreationTimestamp().Compare(b.Object.GetCreationTimestamp().Time)
	})
	return out
}

// patch is the part of an object that one request changes. A nil value in a
// map removes the key.
type patch struct {
	Metadata patchMeta      `json:"metadata"`
	Status   map[string]any `json:"status,omitempty"`
}

type patchMeta struct {
	ResourceVersion string         `json:"resourceVersion,omitempty"`
	UID             string         `json:"uid,omitempty"`
	Annotations     map[string]any `json:"annotations,omitempty"`
}

// service returns the write that a Service needs. With force there is always
// one: another write to this version is under way, and every new version keeps
// that from being carried out later.
func service(obj *corev1.Service, d *ipam.Decision, now time.Time, force bool) (Write, bool) {
	// The UID keeps the patch from meeting a new Service of the same name.
	p := patch{Metadata: patchMeta{ResourceVersion: obj.ResourceVersion, UID: string(obj.UID)}, Status: map[string]any{}}
	p.Metadata.Annotations = annotations(obj, d.Pools)
	moves := !slices.Equal(addresses(obj.Status.LoadBalancer.Ingress), d.Addresses)
	if moves {
		p.Status["loadBalancer"] = map[string]any{"ingress": ingress(obj.Status.LoadBalancer.Ingress, d.Addresses)}
		p.assignedAt(obj, d.Addresses, now)
	}
	cond, differs := condition(obj.Status.Conditions, metav1.Condition{
		Type:               api.ConditionAllocated,
		Status:             conditionStatus(d.Reason.Good()),
		Reason:             string(d.Reason.Code),
		Message:            d.Reason.Text,
		ObservedGeneration: obj.Generation,
	}, now)
	if differs {
		// Merged by type: conditions of others stay.
		p.Status["conditions"] = []metav1.Condition{cond}
	}
	if len(p.Status) == 0 && len(p.Metadata.Annotations) == 0 {
		if !force {
			return Write{}, false
		}
		// Without an older one the condition would differ. The time makes it.
		cond.LastTransitionTime = metav1.NewTime(find(obj.Status.Conditions, cond.Type).LastTransitionTime.Add(time.Second))
		p.Status["conditions"] = []metav1.Condition{cond}
	}
	old := find(obj.Status.Conditions, api.ConditionAllocated)
	news := old == nil || old.Reason != cond.Reason || old.Message != cond.Message
	w := Write{Object: obj, Patch: encode(p), PatchType: types.StrategicMergePatchType, Events: serviceEvents(d, news)}
	if moves {
		w.Moves, w.Addresses = true, d.Addresses
	}
	return w, true
}

// annotations returns what must change for the annotation to name the pools.
// The old name goes away with the first change.
func annotations(obj *corev1.Service, pools []string) map[string]any {
	want := strings.Join(pools, ",")
	have := obj.Annotations[api.AnnotationAllocatedFromPool]
	_, legacy := obj.Annotations[api.AnnotationAllocatedFromPoolLegacy]
	if want == have && (want != "" || !legacy) {
		return nil
	}
	out := map[string]any{api.AnnotationAllocatedFromPool: nil}
	if want != "" {
		out[api.AnnotationAllocatedFromPool] = want
	}
	if legacy {
		out[api.AnnotationAllocatedFromPoolLegacy] = nil
	}
	return out
}

// assignedAt makes the annotation name the time of each address that is new.
// It keeps what it says of the others.
func (p *patch) assignedAt(obj *corev1.Service, want []netip.Addr, now time.Time) {
	have, there := obj.Annotations[api.AnnotationAssignedAt]
	times := AssignedAt(have)
	old := addresses(obj.Status.LoadBalancer.Ingress)
	var parts []string
	for _, a := range want {
		at, known := times[a], slices.Contains(old, a)
		if !known {
			at = now.UTC().Format(time.RFC3339)
		}
		if at != "" {
			parts = append(parts, a.String()+"="+at)
		}
	}
	text := strings.Join(parts, ",")
	if text == have {
		return
	}
	if p.Metadata.Annotations == nil {
		p.Metadata.Annotations = map[string]any{}
	}
	if text != "" {
		p.Metadata.Annotations[api.AnnotationAssignedAt] = text
	} else if there {
		p.Metadata.Annotations[api.AnnotationAssignedAt] = nil
	}
}

// AssignedAt reads the annotation: the time of each address, as written.
func AssignedAt(text string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for part := range strings.SplitSeq(text, ",") {
		address, at, _ := strings.Cut(part, "=")
		a, err := netip.ParseAddr(address)
		if _, bad := time.Parse(time.RFC3339, at); err == nil && bad == nil {
			out[a] = at
		}
	}
	return out
}

// addresses returns what is assigned; host names of others do not count.
func addresses(in []corev1.LoadBalancerIngress) []netip.Addr {
	var out []netip.Addr
	for _, i := range in {
		if a, err := netip.ParseAddr(i.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// ingress returns the wanted list. An address that stays keeps the ipMode and
// ports that it has. Nil removes the list.
func ingress(have []corev1.LoadBalancerIngress, want []netip.Addr) any {
	if len(want) == 0 {
		return nil
	}
	out := make([]corev1.LoadBalancerIngress, len(want))
	for i, a := range want {
		out[i].IP = a.String()
		for _, h := range have {
			if b, err := netip.ParseAddr(h.IP); err == nil && b.Unmap() == a {
				out[i] = h
			}
		}
	}
	return out
}

// serviceEvents returns the events of one change; news says that the condition
// says something else than before.
func serviceEvents(d *ipam.Decision, news bool) []Event {
	var out []Event
	if len(d.Cleared) > 0 {
		why := make([]string, len(d.Cleared))
		for i, c := range d.Cleared {
			why[i] = fmt.Sprintf("%s (%s)", c.Address, c.Why)
		}
		out = append(out, Event{corev1.EventTypeNormal, api.EventClearAssignment, "Cleared " + strings.Join(why, ", ")})
	}
	if len(d.Added) > 0 {
		out = append(out, Event{corev1.EventTypeNormal, api.EventIPAllocated, fmt.Sprintf("Assigned IP %q", texts(d.Addresses))})
	}
	if !news {
		return out
	}
	failed := func(event, what string) {
		out = append(out, Event{corev1.EventTypeWarning, event, bounded(fmt.Sprintf("%s %q: %s", what, d.Key, d.Reason.Text))})
	}
	switch d.Trouble() {
	case ipam.NotAllocated:
		if d.Reason.Code == reason.AddressFreeing {
			break // it is on its way
		}
		failed(api.EventAllocationFailed, "Failed to allocate IP for")
	case ipam.BadRequest:
		failed(api.EventLoadBalancerFailed, "Invalid request of")
	case ipam.SecondMissing:
		failed(api.EventAdditionalAssignFailed, "Failed to allocate an additional IP for")
	}
	for _, name := range d.Deprecated {
		replacement := api.Prefix + strings.TrimPrefix(name, api.PrefixLegacy)
		out = append(out, Event{corev1.EventTypeWarning, api.EventDeprecatedAnnotation, fmt.Sprintf("The annotation %s is deprecated: use %s", name, replacement)})
	}
	return out
}

func texts(in []netip.Addr) []string {
	out := make([]string, len(in))
	for i, a := range in {
		out[i] = a.String()
	}
	return out
}

// Release returns the write that removes everything of Herald's from a Service
// that is no longer of type LoadBalancer. (The API server itself clears
// status.loadBalancer.) Its object is a complete one, not one of a cache.
func Release(obj *corev1.Service) (Write, bool) {
	p := patch{Metadata: patchMeta{ResourceVersion: obj.ResourceVersion, UID: string(obj.UID), Annotations: map[string]any{}}}
	for _, name := range []string{api.AnnotationAllocatedFromPool, api.AnnotationAllocatedFromPoolLegacy, api.AnnotationAssignedAt} {
		if _, ok := obj.Annotations[name]; ok {
			p.Metadata.Annotations[name] = nil
		}
	}
	var gone []map[string]string
	for _, c := range []string{api.ConditionAllocated, api.ConditionAnnounced} {
		if find(obj.Status.Conditions, c) != nil {
			gone = append(gone, map[string]string{"$patch": "delete", "type": c})
		}
	}
	if len(gone) > 0 {
		p.Status = map[string]any{"conditions": gone}
	}
	if cmp.Or(len(gone), len(p.Metadata.Annotations)) == 0 {
		return Write{}, false
	}
	return Write{Object: obj, Patch: encode(p), PatchType: types.StrategicMergePatchType}, true
}
