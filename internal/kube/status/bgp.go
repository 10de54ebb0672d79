// SPDX-License-Identifier: Apache-2.0

package status

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// The protocols of AnnouncingText.
const (
	ProtocolL2  = "layer2"
	ProtocolBGP = "bgp"
)

// AnnouncedBy reads AnnouncingText back: which node the Service's condition
// says announces it, and with which protocol.
func AnnouncedBy(svc *corev1.Service) (node lb.NodeName, protocol string) {
	c := find(svc.Status.Conditions, api.ConditionAnnounced)
	if c == nil || c.Status != metav1.ConditionTrue {
		return "", ""
	}
	// By hand: this is asked of every Service in every report.
	rest, ok1 := strings.CutPrefix(c.Message, `announcing from node "`)
	name, rest, ok2 := strings.Cut(rest, `" with protocol "`)
	protocol, _, ok3 := strings.Cut(rest, `"`)
	if !ok1 || !ok2 || !ok3 {
		return "", ""
	}
	return lb.NodeName(name), protocol
}

// BFD is the state of the BFD session with a peer, and in words what keeps it
// from coming up (empty: nothing is known).
type BFD struct {
	State   v1alpha1.BFDState
	Problem string
}

// BGPReports returns what a speaker has to write about BGP: one
// ServiceBGPStatus for each Service that it announces routes for, and one
// BGPSession for each peer it wants a session with.
func BGPReports(who Speaker, services []*v1beta1.ServiceBGPStatus, sessions []*v1alpha1.BGPSession,
	wanted bgp.Wanted, states []bgp.SessionState, bfd map[string]BFD) []Write {
	return append(bgpStatuses(who, services, wanted.Services), bgpSessions(who, sessions, states, bfd)...)
}

// bgpStatuses keeps exactly one object for each Service that routers get routes
// for, and none for the others.
func bgpStatuses(who Speaker, have []*v1beta1.ServiceBGPStatus, announced []bgp.ServicePeers) []Write {
	return perService[*v1beta1.ServiceBGPStatus, bgp.ServicePeers]{
		key: func(p *bgp.ServicePeers) (lb.ServiceKey, bool) { return p.Service, len(p.Peers) > 0 },
		same: func(h *v1beta1.ServiceBGPStatus, p *bgp.ServicePeers) bool {
			return h.Status.Node == string(who.Node) && h.Status.ServiceName == p.Service.Name &&
				h.Status.ServiceNamespace == p.Service.Namespace && slices.Equal(h.Status.Peers, p.Peers)
		},
		make: func(p *bgp.ServicePeers) (*v1beta1.ServiceBGPStatus, any) {
			s := who.bgpStatus(p)
			return s, s.Status
		},
	}.writes(who, have, announced)
}

func (who Speaker) bgpStatus(p *bgp.ServicePeers) *v1beta1.ServiceBGPStatus {
	return &v1beta1.ServiceBGPStatus{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: api.GenerateNameBGPStatus,
			Namespace:    who.Namespace,
			Labels: map[string]string{
				api.LabelNode:             string(who.Node),
				api.LabelServiceName:      p.Service.Name,
				api.LabelServiceNamespace: p.Service.Namespace,
			},
			OwnerReferences: who.owners(),
		},
		Status: v1beta1.ServiceBGPStatusStatus{
			Node: string(who.Node), ServiceName: p.Service.Name, ServiceNamespace: p.Service.Namespace, Peers: p.Peers,
		},
	}
}

// bgpSessions keeps exactly one object for each wanted session.
func bgpSessions(who Speaker, have []*v1alpha1.BGPSession, states []bgp.SessionState, bfd map[string]BFD) []Write {
	wanted := make(map[string]*v1alpha1.BGPSession, len(states))
	for i := range states {
		s := who.bgpSession(&states[i], bfd[states[i].Peer])
		wanted[s.Name] = s
	}
	have = slices.Clone(have)
	slices.SortFunc(have, func(a, b *v1alpha1.BGPSession) int { return strings.Compare(a.Name, b.Name) })
	var out []Write
	for _, h := range have {
		want, ok := wanted[h.Name]
		switch {
		case h.Labels[api.LabelNode] != string(who.Node):
			// Another node's: not ours to touch.
		case !ok || !sameOwner(h.OwnerReferences, want.OwnerReferences):
			out = append(out, Write{Object: h, Delete: true})
			delete(wanted, h.Name) // made anew once it is gone
		default:
			delete(wanted, h.Name)
			if w, ok := updateSession(h, want.Status); ok {
				out = append(out, w)
			}
		}
	}
	for i := range states {
		if s, ok := wanted[who.sessionName(states[i].Peer)]; ok {
			out = append(out, Write{Object: s, Create: true, PatchType: types.MergePatchType, Patch: encode(map[string]any{"status": s.Status})})
		}
	}
	return out
}

// updateSession returns the write that brings a session up to date. That only
// the number of prefixes changed is worth a write now and then.
func updateSession(h *v1alpha1.BGPSession, want v1alpha1.BGPSessionStatus) (Write, bool) {
	others := func(s v1alpha1.BGPSessionStatus) v1alpha1.BGPSessionStatus {
		s.Since, s.PrefixesSent = nil, 0
		return s
	}
	sameSince := h.Status.Since != nil && want.Since != nil && h.Status.Since.Time.Equal(want.Since.Time)
	minor := others(h.Status) == others(want) && sameSince
	if minor && h.Status.PrefixesSent == want.PrefixesSent {
		return Write{}, false
	}
	// Fields that are empty are left out of the JSON; a merge patch needs to
	// see them go.
	status := map[string]any{
		"node": want.Node, "peer": want.Peer, "peerAddress": want.PeerAddress, "state": want.State, "since": want.Since,
		"lastError": want.LastError, "prefixesSent": want.PrefixesSent, "bfdState": want.BFDState,
	}
	return Write{Object: h, PatchType: types.MergePatchType, Patch: encode(map[string]any{"status": status}), Minor: minor}, true
}

func (who Speaker) bgpSession(s *bgp.SessionState, bfd BFD) *v1alpha1.BGPSession {
	since := metav1.NewTime(s.Since.Truncate(time.Second))
	out := &v1alpha1.BGPSession{
		ObjectMeta: metav1.ObjectMeta{
			Name:            who.sessionName(s.Peer),
			Namespace:       who.Namespace,
			Labels:          map[string]string{api.LabelNode: string(who.Node)},
			OwnerReferences: who.owners(),
		},
		Status: v1alpha1.BGPSessionStatus{
			Node: string(who.Node), Peer: s.Peer, State: v1alpha1.SessionState(s.State), Since: &since,
			LastError: bounded(s.LastError), PrefixesSent: int32(s.Prefixes), BFDState: bfd.State,
		},
	}
	// Of a session that is up, what does not work on it now says more than why
	// it was down before.
	switch {
	case s.Notice != "":
		out.Status.LastError = bounded(s.Notice)
	case bfd.Problem != "" && s.State == bgp.Established:
		out.Status.LastError = bounded("BFD is not up: " + bfd.Problem)
	}
	if s.Address.IsValid() {
		out.Status.PeerAddress = s.Address.String()
	}
	if len(validation.IsValidLabelValue(s.Peer)) == 0 {
		out.Labels[api.LabelPeer] = s.Peer
	}
	return out
}

// sessionName is "node.peer", or begins so if that would be too long.
func (who Speaker) sessionName(peer string) string {
	name := string(who.Node) + "." + peer
	if len(name) <= validation.DNS1123SubdomainMaxLength {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x", strings.TrimRight(name[:validation.DNS1123SubdomainMaxLength-17], ".-"), sum[:8])
}
