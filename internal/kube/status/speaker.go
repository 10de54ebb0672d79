// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	// Write is set on the speaker that writes the condition: the owner, or the
	// first live one when there is no owner, and its deputies.
	Write bool
	// Deputy is 0 on the speaker whose turn it is, and else how many come before
	// this one. A deputy gives them time, and leaves their words alone: it writes
	// only what is another state of affairs.
	Deputy int
	// Patient is set when another speaker is likely to write the same: it is
	// given time to do so.
	Patient bool
	// Unsure is set when others may know better: the condition becomes Unknown,
	// and there is no event.
	Unsure bool
	// Extra is how much longer than others it has to stay true before it is
	// written.
	Extra time.Duration
	// Addresses that this node answers for, and Interfaces on which it does;
	// empty: it does not.
	Addresses  []netip.Addr
	Interfaces []string
}

// AnnouncingText is the message of the condition heraldlb.io/Announced, and of
// the event nodeAssigned.
func AnnouncingText(node lb.NodeName, protocol string) string {
	return fmt.Sprintf("announcing from node %q with protocol %q", node, protocol)
}

// SpeakerReports returns what a speaker has to write so that the cluster shows
// its reports: conditions of Services first, then its ServiceL2Status objects.
// Reports are sorted by key.
func SpeakerReports(who Speaker, objs snapshot.Objects, reports []ServiceReport, now time.Time) []Write {
	services := make(map[lb.ServiceKey]*corev1.Service, len(objs.Services))
	for _, s := range objs.Services {
		services[lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}] = s
	}
	var out []Write
	for _, r := range reports {
		if svc := services[r.Key]; r.Write && svc != nil && svc.DeletionTimestamp == nil {
			if w, ok := announced(svc, &r, now); ok {
				out = append(out, w)
			}
		}
	}
	return append(out, l2Statuses(who, objs.L2Statuses, reports)...)
}

// announced returns the write for the condition heraldlb.io/Announced.
func announced(svc *corev1.Service, report *ServiceReport, now time.Time) (Write, bool) {
	r := report.Reason
	have := find(svc.Status.Conditions, api.ConditionAnnounced)
	wanted := conditionStatus(r.Good())
	if report.Unsure {
		wanted = metav1.ConditionUnknown
	}
	if report.Deputy > 0 && have != nil && have.Status == wanted && have.Reason == string(r.Code) {
		return Write{}, false
	}
	if have == nil && r.Code == reason.NoAddress {
		return Write{}, false // the condition heraldlb.io/Allocated says it already
	}
	cond, differs := condition(svc.Status.Conditions, metav1.Condition{
		Type:               api.ConditionAnnounced,
		Status:             wanted,
		ObservedGeneration: svc.Generation,
		Reason:             string(r.Code),
		Message:            r.Text,
	}, now)
	if !differs {
		return Write{}, false
	}
	p := patch{
		Metadata: patchMeta{ResourceVersion: svc.ResourceVersion, UID: string(svc.UID)},
		Status:   map[string]any{"conditions": []metav1.Condition{cond}},
	}
	w := Write{Object: svc, PatchType: types.StrategicMergePatchType, Patch: encode(p)}
	if report.Unsure {
		return w, true
	}
	if have == nil || have.Reason != cond.Reason || have.Message != cond.Message {
		w.Events = announcementEvents(have, r)
	}
	return w, true
}

// announcementEvents tell of a new owner once, and of a failure once per
// cause. That endpoints are not ready yet, or the address is not there yet, is
// part of every Service's beginning and no failure; losing them later is one.
func announcementEvents(before *metav1.Condition, r reason.Reason) []Event {
	if r.Good() {
		return []Event{{corev1.EventTypeNormal, api.EventNodeAssigned, r.Text}}
	}
	announced := before != nil && before.Status == metav1.ConditionTrue
	sameCause := before != nil && before.Reason == string(r.Code) && before.Status != metav1.ConditionUnknown
	ordinary := r.Code == reason.NoEndpoints || r.Code == reason.NoAddress
	if sameCause || (ordinary && !announced) {
		return nil
	}
	return []Event{{corev1.EventTypeWarning, api.EventAnnounceFailed, r.Text}}
}

// l2Statuses keeps exactly one object for each Service that this node answers
// for, and none for the others.
func l2Statuses(who Speaker, have []*v1beta1.ServiceL2Status, reports []ServiceReport) []Write {
	return perService[*v1beta1.ServiceL2Status, ServiceReport]{
		key: func(r *ServiceReport) (lb.ServiceKey, bool) { return r.Key, len(r.Interfaces) > 0 },
		same: func(h *v1beta1.ServiceL2Status, r *ServiceReport) bool {
			return h.Status.Node == string(who.Node) && h.Status.ServiceName == r.Key.Name && h.Status.ServiceNamespace == r.Key.Namespace &&
				slices.EqualFunc(h.Status.Interfaces, r.Interfaces, func(i v1beta1.InterfaceInfo, name string) bool { return i.Name == name })
		},
		make: func(r *ServiceReport) (*v1beta1.ServiceL2Status, any) {
			s := who.l2Status(r)
			return s, s.Status
		},
	}.writes(who, have, reports)
}

// Contact is what a speaker knows of its way to the others.
type Contact uint8

// The zero Contact: it is not known yet.
const (
	Connected Contact = iota + 1
	CutOff
)

// condition says it in words, for a ConfigurationState.
func (c Contact) condition() []metav1.Condition {
	switch c {
	case Connected:
		return []metav1.Condition{{
			Type: api.ConditionConnected, Status: metav1.ConditionTrue, Reason: api.ReasonConnected,
			Message: "other speakers are heard, or there are none",
		}}
	case CutOff:
		return []metav1.Condition{{
			Type: api.ConditionConnected, Status: metav1.ConditionFalse, Reason: api.ReasonCutOff,
			Message: "no other speaker is heard: this node may be cut off from the others, or they are dead; " +
				"see whether packets to the memberlist port (--ml-bindport, TCP and UDP) get through",
		}}
	}
	return nil
}

// SpeakerState returns the write for the ConfigurationState of a speaker. A
// non-nil unknown says why the configuration could not be read.
func SpeakerState(who Speaker, have []*v1beta1.ConfigurationState, problems []snapshot.Problem, unknown error, contact Contact, now time.Time) (Write, bool) {
	want := stateOf(problems, unknown)
	want.Conditions = append([]metav1.Condition{{Type: api.ConditionConfigReconcilerValid}}, contact.condition()...)
	name := types.NamespacedName{Namespace: who.Namespace, Name: api.ComponentSpeaker + "-" + string(who.Node)}
	labels := map[string]string{api.LabelComponentType: api.ComponentSpeaker, api.LabelNodeName: string(who.Node)}
	return state(have, name, labels, want, now)
}

func (who Speaker) l2Status(r *ServiceReport) *v1beta1.ServiceL2Status {
	s := &v1beta1.ServiceL2Status{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: api.GenerateNameL2Status,
			Namespace:    who.Namespace,
			Labels: map[string]string{
				api.LabelNode:             string(who.Node),
				api.LabelServiceName:      r.Key.Name,
				api.LabelServiceNamespace: r.Key.Namespace,
			},
			OwnerReferences: who.owners(),
		},
		Status: v1beta1.ServiceL2StatusStatus{
			Node:             string(who.Node),
			ServiceName:      r.Key.Name,
			ServiceNamespace: r.Key.Namespace,
		},
	}
	for _, name := range r.Interfaces {
		s.Status.Interfaces = append(s.Status.Interfaces, v1beta1.InterfaceInfo{Name: name})
	}
	return s
}
