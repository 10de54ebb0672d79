// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Speaker is who reports.
type Speaker struct {
	Node      lb.NodeName
	Namespace string
	// Owner is the speaker's Pod: what it wrote goes when it goes. Nil: no owner.
	Owner *metav1.OwnerReference
}

// ServiceReport is what a speaker has to say about one Service.
type ServiceReport struct {
	Key lb.ServiceKey
	// Reason is the state of affairs: who announces, or why nobody does.
	Reason reason.Reason
	// Write is set on the one speaker that writes the condition: the owner, or
	// the first live one when there is no owner.
	Write bool
	// Interfaces on which this node answers for the Service; empty: it does not.
	Interfaces []string
}

// ConditionWrite is a condition to be set on a Service.
type ConditionWrite struct {
	Service   *corev1.Service // as read; not to be changed
	Condition metav1.Condition
}

// EventWrite is an event to be sent.
type EventWrite struct {
	Service *corev1.Service // as read; not to be changed
	Type    string          // corev1.EventTypeNormal or EventTypeWarning
	Reason  string
	Message string
}

// SpeakerWrites is the difference between what a speaker reports and what the
// API server shows. It is empty when nothing changed.
type SpeakerWrites struct {
	Conditions []ConditionWrite
	Events     []EventWrite
	Create     []*v1beta1.ServiceL2Status
	Update     []*v1beta1.ServiceL2Status // copies; only their status differs
	Delete     []*v1beta1.ServiceL2Status
}

// Empty reports whether there is nothing to write.
func (w *SpeakerWrites) Empty() bool {
	return len(w.Conditions)+len(w.Events)+len(w.Create)+len(w.Update)+len(w.Delete) == 0
}

// AnnouncingText is the message of the condition heraldlb.io/Announced, and of
// the event nodeAssigned.
func AnnouncingText(node lb.NodeName, protocol string) string {
	return fmt.Sprintf("announcing from node %q with protocol %q", node, protocol)
}

// DiffSpeaker compares reports with the objects. Reports are in the order of
// their Services' keys, and so are the writes.
func DiffSpeaker(who Speaker, objs snapshot.Objects, reports []ServiceReport, now metav1.Time) SpeakerWrites {
	var w SpeakerWrites
	services := make(map[lb.ServiceKey]*corev1.Service, len(objs.Services))
	for _, s := range objs.Services {
		services[lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}] = s
	}
	for _, r := range reports {
		if svc, ok := services[r.Key]; ok && r.Write {
			w.condition(svc, r.Reason, now)
		}
	}
	w.l2Statuses(who, objs.L2Statuses, reports)
	return w
}

func (w *SpeakerWrites) condition(svc *corev1.Service, r reason.Reason, now metav1.Time) {
	want := metav1.Condition{
		Type:               api.ConditionAnnounced,
		Status:             metav1.ConditionFalse,
		ObservedGeneration: svc.Generation,
		LastTransitionTime: now,
		Reason:             string(r.Code),
		Message:            r.Text,
	}
	if r.Good() {
		want.Status = metav1.ConditionTrue
	}
	have := meta.FindStatusCondition(svc.Status.Conditions, api.ConditionAnnounced)
	if have != nil {
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		if *have == want {
			return
		}
	}
	if have == nil && r.Code == reason.NoAddress {
		return // the condition heraldlb.io/Allocated says it already
	}
	w.Conditions = append(w.Conditions, ConditionWrite{Service: svc, Condition: want})
	if have == nil || have.Reason != want.Reason || have.Message != want.Message {
		w.event(svc, have, r)
	}
}

// event tells of a new owner once, and of a failure once per cause. That
// endpoints are not ready yet, or the address is not there yet, is part of
// every Service's beginning and no failure; losing them later is one.
func (w *SpeakerWrites) event(svc *corev1.Service, before *metav1.Condition, r reason.Reason) {
	if r.Good() {
		w.Events = append(w.Events, EventWrite{svc, corev1.EventTypeNormal, api.EventNodeAssigned, r.Text})
		return
	}
	announced := before != nil && before.Status == metav1.ConditionTrue
	sameCause := before != nil && before.Reason == string(r.Code)
	ordinary := r.Code == reason.NoEndpoints || r.Code == reason.NoAddress
	if sameCause || (ordinary && !announced) {
		return
	}
	w.Events = append(w.Events, EventWrite{svc, corev1.EventTypeWarning, api.EventAnnounceFailed, r.Text})
}

// l2Statuses keeps exactly one object for each Service that this node answers
// for, and none for the others.
func (w *SpeakerWrites) l2Statuses(who Speaker, have []*v1beta1.ServiceL2Status, reports []ServiceReport) {
	wanted := make(map[lb.ServiceKey]*v1beta1.ServiceL2Status)
	for _, r := range reports {
		if len(r.Interfaces) > 0 {
			wanted[r.Key] = who.l2Status(r)
		}
	}
	have = slices.Clone(have)
	slices.SortFunc(have, func(a, b *v1beta1.ServiceL2Status) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range have {
		key := lb.ServiceKey{Namespace: h.Labels[api.LabelServiceNamespace], Name: h.Labels[api.LabelServiceName]}
		want, ok := wanted[key]
		switch {
		case h.Labels[api.LabelNode] != string(who.Node):
			// Another node's: not ours to touch.
		case !ok || !sameOwner(h.OwnerReferences, want.OwnerReferences):
			w.Delete = append(w.Delete, h)
		default:
			delete(wanted, key)
			if !sameL2Status(h.Status, want.Status) {
				c := h.DeepCopy()
				c.Status = want.Status
				w.Update = append(w.Update, c)
			}
		}
	}
	for _, r := range reports {
		if s, ok := wanted[r.Key]; ok {
			w.Create = append(w.Create, s)
		}
	}
}

func (who Speaker) l2Status(r ServiceReport) *v1beta1.ServiceL2Status {
	s := &v1beta1.ServiceL2Status{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: api.GenerateNameL2Status,
			Namespace:    who.Namespace,
			Labels: map[string]string{
				api.LabelNode:             string(who.Node),
				api.LabelServiceName:      r.Key.Name,
				api.LabelServiceNamespace: r.Key.Namespace,
			},
		},
		Status: v1beta1.ServiceL2StatusStatus{
			Node:             string(who.Node),
			ServiceName:      r.Key.Name,
			ServiceNamespace: r.Key.Namespace,
		},
	}
	if who.Owner != nil {
		s.OwnerReferences = []metav1.OwnerReference{*who.Owner}
	}
	for _, name := range r.Interfaces {
		s.Status.Interfaces = append(s.Status.Interfaces, v1beta1.InterfaceInfo{Name: name})
	}
	return s
}

// sameOwner compares by UID: a Pod of the same name may be another one.
func sameOwner(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool { return x.UID == y.UID })
}

func sameL2Status(a, b v1beta1.ServiceL2StatusStatus) bool {
	return a.Node == b.Node && a.ServiceName == b.ServiceName && a.ServiceNamespace == b.ServiceNamespace &&
		slices.Equal(a.Interfaces, b.Interfaces)
}
