// SPDX-License-Identifier: Apache-2.0

package status

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

func bgpSpeaker() Speaker {
	return Speaker{Node: "n1", Namespace: "herald", Owner: &metav1.OwnerReference{Kind: "Pod", Name: "speaker-1", UID: types.UID("u1")}}
}

func upSince(t time.Time) bgp.SessionState {
	return bgp.SessionState{Peer: "tor", State: bgp.Established, Since: t, Address: netip.MustParseAddr("192.0.2.254"), Prefixes: 3, LastError: "no route to 192.0.2.254"}
}

// settleBGP writes what is to be written into lists of objects, as the API server
// would, and returns the writes.
func settleBGP(t *testing.T, services *[]*v1beta1.ServiceBGPStatus, sessions *[]*v1alpha1.BGPSession, w bgp.Wanted, states []bgp.SessionState) []Write {
	t.Helper()
	writes := BGPReports(bgpSpeaker(), *services, *sessions, w, states, map[string]BFD{"tor": {State: v1alpha1.BFDUp}})
	for _, x := range writes {
		switch obj := x.Object.(type) {
		case *v1beta1.ServiceBGPStatus:
			*services = without(*services, obj)
			if !x.Delete {
				made := obj.DeepCopy()
				if x.Create {
					made.Name = made.GenerateName + "x"
				}
				apply(t, x.Patch, &made.Status)
				*services = append(*services, made)
			}
		case *v1alpha1.BGPSession:
			*sessions = without(*sessions, obj)
			if !x.Delete {
				made := obj.DeepCopy()
				apply(t, x.Patch, &made.Status)
				*sessions = append(*sessions, made)
			}
		}
	}
	return writes
}

func without[T comparable](list []T, gone T) []T {
	var out []T
	for _, x := range list {
		if x != gone {
			out = append(out, x)
		}
	}
	return out
}

func apply(t *testing.T, patch []byte, status any) {
	t.Helper()
	var p struct {
		Status json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(p.Status, status); err != nil {
		t.Fatal(err)
	}
}

func TestBGPReports(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 700, time.UTC)
	var services []*v1beta1.ServiceBGPStatus
	var sessions []*v1alpha1.BGPSession
	web := bgp.ServicePeers{Service: lb.ServiceKey{Namespace: "d", Name: "web"}, Peers: []string{"tor"}}
	alone := bgp.ServicePeers{Service: lb.ServiceKey{Namespace: "d", Name: "alone"}} // no router wants it
	wanted := bgp.Wanted{Services: []bgp.ServicePeers{alone, web}}
	states := []bgp.SessionState{upSince(now)}

	step := func(what string, want int) []Write {
		t.Helper()
		writes := settleBGP(t, &services, &sessions, wanted, states)
		if len(writes) != want {
			t.Fatalf("%s: %d writes, want %d: %+v", what, len(writes), want, writes)
		}
		if again := settleBGP(t, &services, &sessions, wanted, states); len(again) != 0 {
			t.Fatalf("%s: written again: %+v", what, again)
		}
		return writes
	}
	step("first", 2)
	want := v1alpha1.BGPSessionStatus{
		Node: "n1", Peer: "tor", PeerAddress: "192.0.2.254", State: v1alpha1.SessionEstablished, LastError: "no route to 192.0.2.254", PrefixesSent: 3, BFDState: v1alpha1.BFDUp,
	}
	got := sessions[0].Status
	got.Since = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	if sessions[0].Name != "n1.tor" || sessions[0].Labels[api.LabelPeer] != "tor" || sessions[0].OwnerReferences[0].UID != "u1" {
		t.Errorf("session %+v", sessions[0].ObjectMeta)
	}
	if diff := cmp.Diff(v1beta1.ServiceBGPStatusStatus{Node: "n1", ServiceName: "web", ServiceNamespace: "d", Peers: []string{"tor"}}, services[0].Status); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}

	states[0].Prefixes = 4
	if w := step("one more prefix", 1); !w[0].Minor {
		t.Error("the number of prefixes alone is no minor write")
	}
	states[0].LastError, states[0].State, states[0].Prefixes = "", bgp.Idle, 0
	if w := step("down", 1); w[0].Minor || sessions[0].Status.LastError != "" {
		t.Errorf("write %+v, session %+v", w[0], sessions[0].Status)
	}
	states[0].State, states[0].Notice = bgp.Established, "no IPv6"
	step("notice", 1)
	if sessions[0].Status.LastError != "no IPv6" {
		t.Errorf("session %+v", sessions[0].Status)
	}
	wanted.Services[1].Peers = []string{"other", "tor"}
	step("another peer", 1)
	sessions[0].OwnerReferences[0].UID = "u0" // of the Pod before this one
	writes := BGPReports(bgpSpeaker(), nil, sessions, bgp.Wanted{}, states, map[string]BFD{"tor": {State: v1alpha1.BFDUp}})
	if len(writes) != 1 || !writes[0].Delete {
		t.Errorf("session of another Pod: %+v, want it deleted first", writes)
	}
	sessions[0].OwnerReferences[0].UID = "u1"
	foreign := &v1alpha1.BGPSession{ObjectMeta: metav1.ObjectMeta{Name: "n2.tor", Labels: map[string]string{api.LabelNode: "n2"}}}
	sessions = append(sessions, foreign)
	wanted, states = bgp.Wanted{}, nil
	step("gone", 2)
	if len(sessions) != 1 || sessions[0] != foreign || len(services) != 0 {
		t.Errorf("left: %+v, %+v", sessions, services)
	}
}

// TestBGPSessionTellsOfBFD: what keeps BFD from coming up is on the BGPSession,
// as long as BGP has nothing worse to say.
func TestBGPSessionTellsOfBFD(t *testing.T) {
	t.Parallel()
	const why = "packet with TTL 254, a neighbour sends 255: is there a hop in between?"
	up := upSince(time.Unix(0, 0))
	noticed, down := up, up
	noticed.Notice = "no IPv6"
	down.State, down.LastError = bgp.Active, "no route"
	for _, tt := range []struct {
		name  string
		state bgp.SessionState
		bfd   BFD
		want  string
	}{
		{"BFD is up", up, BFD{State: v1alpha1.BFDUp}, "no route to 192.0.2.254"},
		{"BFD does not come up", up, BFD{State: v1alpha1.BFDDown, Problem: why}, "BFD is not up: " + why},
		{"no route is taken either", noticed, BFD{State: v1alpha1.BFDDown, Problem: why}, "no IPv6"},
		{"BGP is down", down, BFD{State: v1alpha1.BFDAdminDown, Problem: why}, "no route"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.state
			got := bgpSpeaker().bgpSession(&s, tt.bfd).Status
			if got.LastError != tt.want || got.BFDState != tt.bfd.State {
				t.Errorf("last error %q, BFD %s; want %q", got.LastError, got.BFDState, tt.want)
			}
		})
	}
}

// TestRemarks: fields without effect are named on objects that are in use.
func TestRemarks(t *testing.T) {
	t.Parallel()
	yes := true
	for _, tt := range []struct {
		obj  snapshot.Object
		want string // part of it; empty: nothing
	}{
		{&v1beta1.BFDProfile{}, ""},
		{&v1beta1.BFDProfile{Spec: v1beta1.BFDProfileSpec{EchoMode: &yes}}, "echoMode has no effect"},
		{&v1beta2.BGPPeer{}, ""},
		{&v1beta2.BGPPeer{Spec: v1beta1.BGPPeerSpec{DisableMP: true}}, "disableMP is deprecated"},
	} {
		w, ok := validity(object{Object: tt.obj}, nil, nil, time.Unix(0, 0))
		if text := string(w.Patch); !ok || !strings.Contains(text, "The object is in use."+map[bool]string{true: "\"", false: " " + tt.want}[tt.want == ""]) ||
			!strings.Contains(text, `"status":"True"`) || len(w.Events) > 0 {
			t.Errorf("%T: %s, want %q", tt.obj, text, tt.want)
		}
	}
}

func TestSessionNames(t *testing.T) {
	t.Parallel()
	who := Speaker{Node: lb.NodeName(strings.Repeat("n", 63) + "." + strings.Repeat("m", 60))}
	a, b := who.sessionName(strings.Repeat("p", 200)+"1"), who.sessionName(strings.Repeat("p", 200)+"2")
	for _, name := range []string{a, b, who.sessionName("tor")} {
		if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
	}
	if a == b {
		t.Error("two peers have one name")
	}
}

func TestAnnouncedBy(t *testing.T) {
	t.Parallel()
	service := func(status metav1.ConditionStatus, message string) *corev1.Service {
		return &corev1.Service{Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: api.ConditionAnnounced, Status: status, Message: message}}}}
	}
	for _, tt := range []struct {
		svc      *corev1.Service
		node     lb.NodeName
		protocol string
	}{
		{service(metav1.ConditionTrue, AnnouncingText("n1", ProtocolBGP)), "n1", "bgp"},
		{service(metav1.ConditionTrue, AnnouncingText("n1", ProtocolL2)+"; but not 192.0.2.1"), "n1", "layer2"},
		{service(metav1.ConditionFalse, AnnouncingText("n1", ProtocolBGP)), "", ""},
		{service(metav1.ConditionTrue, "something else"), "", ""},
		{&corev1.Service{}, "", ""},
	} {
		if node, protocol := AnnouncedBy(tt.svc); node != tt.node || protocol != tt.protocol {
			t.Errorf("%+v: %q %q, want %q %q", tt.svc.Status, node, protocol, tt.node, tt.protocol)
		}
	}
}
