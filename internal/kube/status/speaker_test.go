// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

var (
	earlier = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now     = metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
	webKey  = lb.ServiceKey{Namespace: "default", Name: "web"}
	node1   = status.Speaker{Node: "node1", Namespace: "herald", Owner: &metav1.OwnerReference{Kind: "Pod", Name: "p", UID: "pod-1"}}
)

func announcing(node lb.NodeName) reason.Reason {
	return reason.New(reason.Announcing, "%s", status.AnnouncingText(node, "layer2"))
}

func web(conditions ...metav1.Condition) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Generation: 3},
		Status:     corev1.ServiceStatus{Conditions: conditions},
	}
}

func announced(st metav1.ConditionStatus, r reason.Reason) metav1.Condition {
	return metav1.Condition{
		Type: api.ConditionAnnounced, Status: st, Reason: string(r.Code), Message: r.Text,
		LastTransitionTime: earlier, ObservedGeneration: 3,
	}
}

func TestSpeakerCondition(t *testing.T) {
	t.Parallel()
	noEndpoints := reason.New(reason.NoEndpoints, "no endpoint serves")
	noAdvertisement := reason.New(reason.NoAdvertisement, "nothing covers pool %q", "a")
	noSession := reason.New(reason.NoSession, "node1 has no session")
	tests := []struct {
		name   string
		have   []metav1.Condition
		report status.ServiceReport
		// want is the status that is written; empty: no write.
		want       metav1.ConditionStatus
		transition metav1.Time
		event      string
	}{
		{"a new owner is told once", nil, status.ServiceReport{Reason: announcing("node1"), Write: true}, "True", now, api.EventNodeAssigned},
		{"nothing changed", []metav1.Condition{announced("True", announcing("node1"))},
			status.ServiceReport{Reason: announcing("node1"), Write: true}, "", now, ""},
		{"only the writer writes", nil, status.ServiceReport{Reason: announcing("node2")}, "", now, ""},
		{"the owner changed, the status did not", []metav1.Condition{announced("True", announcing("node2"))},
			status.ServiceReport{Reason: announcing("node1"), Write: true}, "True", earlier, api.EventNodeAssigned},
		{"a failure", nil, status.ServiceReport{Reason: noAdvertisement, Write: true}, "False", now, api.EventAnnounceFailed},
		{"who may not know what others do makes no event", []metav1.Condition{announced("True", announcing("node1"))},
			status.ServiceReport{Reason: noSession, Write: true, Unsure: true}, "Unknown", now, ""},
		{"it is a failure if it stays so", []metav1.Condition{announced("Unknown", noSession)},
			status.ServiceReport{Reason: reason.New(reason.NoSession, "nobody has a session"), Write: true}, "False", now, api.EventAnnounceFailed},
		{"or news if another one announces it", []metav1.Condition{announced("Unknown", noSession)},
			status.ServiceReport{Reason: announcing("node2"), Write: true}, "True", now, api.EventNodeAssigned},
		{"no endpoints yet is no failure", nil, status.ServiceReport{Reason: noEndpoints, Write: true}, "False", now, ""},
		{"no endpoints any more is one", []metav1.Condition{announced("True", announcing("node1"))},
			status.ServiceReport{Reason: noEndpoints, Write: true}, "False", now, api.EventAnnounceFailed},
		{"no address yet: the other condition says it", nil,
			status.ServiceReport{Reason: reason.New(reason.NoAddress, "none"), Write: true}, "", now, ""},
		{"the same failure in other words is no news", []metav1.Condition{announced("False", noAdvertisement)},
			status.ServiceReport{Reason: reason.New(reason.NoAdvertisement, "nothing covers pool %q", "b"), Write: true}, "False", earlier, ""},
		{"a deputy leaves other words alone", []metav1.Condition{announced("False", noAdvertisement)},
			status.ServiceReport{Reason: reason.New(reason.NoAdvertisement, "nothing covers pool %q", "b"), Write: true, Deputy: 1}, "", now, ""},
		{"a deputy corrects another reason", []metav1.Condition{announced("False", noAdvertisement)},
			status.ServiceReport{Reason: noEndpoints, Write: true, Deputy: 1}, "False", earlier, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			svc := web(tt.have...)
			tt.report.Key = webKey
			writes := status.SpeakerReports(node1, snapshot.Objects{Services: []*corev1.Service{svc}}, []status.ServiceReport{tt.report}, now.Time)
			if tt.want == "" {
				if len(writes) > 0 {
					t.Fatalf("unwanted writes: %+v", writes)
				}
				return
			}
			if len(writes) != 1 || writes[0].Object != snapshot.Object(svc) {
				t.Fatalf("writes: %+v, want one on the Service", writes)
			}
			want := announced(tt.want, tt.report.Reason)
			want.LastTransitionTime = tt.transition
			if diff := cmp.Diff([]metav1.Condition{want}, patched(t, writes[0])); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			event := ""
			if len(writes[0].Events) > 0 {
				event = writes[0].Events[0].Reason
			}
			if event != tt.event || len(writes[0].Events) > 1 {
				t.Errorf("events %+v, want %q", writes[0].Events, tt.event)
			}
		})
	}
}

// patched returns the conditions in a patch, with their times in UTC.
func patched(t *testing.T, w status.Write) []metav1.Condition {
	t.Helper()
	var p struct {
		Status struct{ Conditions []metav1.Condition }
	}
	if err := json.Unmarshal(w.Patch, &p); err != nil {
		t.Fatal(err)
	}
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		c.LastTransitionTime = metav1.NewTime(c.LastTransitionTime.UTC())
	}
	return p.Status.Conditions
}

func l2Status(name types.UID, node, service, owner string, interfaces ...string) *v1beta1.ServiceL2Status {
	s := &v1beta1.ServiceL2Status{
		ObjectMeta: metav1.ObjectMeta{
			Name: string(name), UID: name, Namespace: "herald",
			Labels:          map[string]string{api.LabelNode: node, api.LabelServiceName: service, api.LabelServiceNamespace: "default"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Pod", Name: "p", UID: types.UID(owner)}},
		},
		Status: v1beta1.ServiceL2StatusStatus{Node: node, ServiceName: service, ServiceNamespace: "default"},
	}
	for _, i := range interfaces {
		s.Status.Interfaces = append(s.Status.Interfaces, v1beta1.InterfaceInfo{Name: i})
	}
	return s
}

func TestSpeakerL2Status(t *testing.T) {
	t.Parallel()
	type names struct{ Create, Update, Delete []string }
	tests := []struct {
		name       string
		have       []*v1beta1.ServiceL2Status
		interfaces []string // of the report on default/web
		want       names
	}{
		{"first answer", nil, []string{"eth0"}, names{Create: []string{"web"}}},
		{"settled", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "web", "pod-1", "eth0")}, []string{"eth0"}, names{}},
		{"another interface", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "web", "pod-1", "eth0")}, []string{"eth0", "eth1"}, names{Update: []string{"a"}}},
		{"no longer the owner", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "web", "pod-1", "eth0")}, nil, names{Delete: []string{"a"}}},
		{"left by an earlier Pod of this node", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "web", "pod-0", "eth0")}, []string{"eth0"},
			names{Create: []string{"web"}, Delete: []string{"a"}}},
		{"one too many", []*v1beta1.ServiceL2Status{l2Status("b", "node1", "web", "pod-1", "eth0"), l2Status("a", "node1", "web", "pod-1", "eth0")},
			[]string{"eth0"}, names{Delete: []string{"b"}}},
		{"one too many, in another order", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "web", "pod-1", "eth0"), l2Status("b", "node1", "web", "pod-1", "eth0")},
			[]string{"eth0"}, names{Delete: []string{"b"}}},
		{"of a Service that is gone", []*v1beta1.ServiceL2Status{l2Status("a", "node1", "old", "pod-1", "eth0")}, nil, names{Delete: []string{"a"}}},
		{"of another node", []*v1beta1.ServiceL2Status{l2Status("a", "node2", "web", "pod-1", "eth0")}, nil, names{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			svc := web(announced("True", announcing("node1")))
			objs := snapshot.Objects{Services: []*corev1.Service{svc}, L2Statuses: tt.have}
			writes := status.SpeakerReports(node1, objs, []status.ServiceReport{{Key: webKey, Reason: announcing("node1"), Interfaces: tt.interfaces}}, now.Time)
			var got names
			for _, w := range writes {
				s := w.Object.(*v1beta1.ServiceL2Status)
				switch {
				case w.Create:
					got.Create = append(got.Create, s.Status.ServiceName)
					if s.GenerateName != "l2-" || len(s.OwnerReferences) != 1 || s.Labels[api.LabelNode] != "node1" {
						t.Errorf("created object: %+v", s.ObjectMeta)
					}
				case w.Delete:
					got.Delete = append(got.Delete, s.Name)
				default:
					got.Update = append(got.Update, s.Name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSpeakerContact: whether other speakers are heard is said beside the other
// condition, which is as it was, and once.
func TestSpeakerContact(t *testing.T) {
	t.Parallel()
	var have []*v1beta1.ConfigurationState
	var told []string
	for _, contact := range []status.Contact{0, status.Connected, status.Connected, 0, status.CutOff, status.CutOff, 0, status.Connected} {
		w, ok := status.SpeakerState(node1, have, nil, nil, contact, now.Time)
		if !ok {
			told = append(told, "-")
			continue
		}
		text := ""
		s := &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{Namespace: node1.Namespace, Name: "speaker-node1"}}
		s.Status.Result = v1beta1.ConfigurationValid
		s.Status.Conditions = patched(t, w)
		for _, c := range s.Status.Conditions {
			text += fmt.Sprintf("%s=%s %s ", c.Type, c.Status, c.Reason)
		}
		told = append(told, text)
		have = []*v1beta1.ConfigurationState{s}
	}
	const config = "configReconcilerValid=True Reconciled "
	want := []string{
		config, config + "heraldlb.io/Connected=True Connected ", "-", "-", config + "heraldlb.io/Connected=False CutOff ", "-", "-",
		config + "heraldlb.io/Connected=True Connected ",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}
