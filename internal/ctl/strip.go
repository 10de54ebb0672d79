// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// A dump is mailed around, so a Cluster has only what is named here. Each
// function makes a new object out of the parts to keep: a field that nobody
// thought of is left out. Annotations are the dangerous part: kubectl keeps a
// whole copy of the object in one, passwords included.

// removed stands for a password. It is not empty, because whether there is one
// decides whether the object is valid.
const removed = "(removed)"

func meta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              m.Name,
		Namespace:         m.Namespace,
		Generation:        m.Generation,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            m.Labels,
	}
}

func stripService(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{ObjectMeta: meta(s.ObjectMeta)}
	for name, value := range s.Annotations {
		if name == api.AnnotationAssignedAt || strings.HasPrefix(name, api.Prefix) || strings.HasPrefix(name, api.PrefixLegacy) {
			metav1.SetMetaDataAnnotation(&out.ObjectMeta, name, value)
		}
	}
	out.Spec = corev1.ServiceSpec{
		Type:                  s.Spec.Type,
		ClusterIP:             s.Spec.ClusterIP,
		ClusterIPs:            s.Spec.ClusterIPs,
		Selector:              s.Spec.Selector,
		IPFamilies:            s.Spec.IPFamilies,
		IPFamilyPolicy:        s.Spec.IPFamilyPolicy,
		ExternalTrafficPolicy: s.Spec.ExternalTrafficPolicy,
		HealthCheckNodePort:   s.Spec.HealthCheckNodePort,
		LoadBalancerClass:     s.Spec.LoadBalancerClass,
		LoadBalancerIP:        s.Spec.LoadBalancerIP,
	}
	for _, p := range s.Spec.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port})
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: in.IP, Hostname: in.Hostname})
	}
	for _, of := range []string{api.ConditionAllocated, api.ConditionAnnounced} {
		if c := condition(s, of); c != nil {
			out.Status.Conditions = append(out.Status.Conditions, *c)
		}
	}
	return out
}

func stripEndpointSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: meta(s.ObjectMeta), AddressType: s.AddressType}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName})
	}
	return out
}

func stripNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: meta(n.ObjectMeta)}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			out.Status.Conditions = append(out.Status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out.Status.Addresses = append(out.Status.Addresses, a)
		}
	}
	return out
}

func stripNamespace(n *corev1.Namespace) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: meta(n.ObjectMeta)}
}

func stripPool(p *v1beta1.IPAddressPool) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: meta(p.ObjectMeta), Spec: p.Spec}
}

func stripL2Advertisement(a *v1beta1.L2Advertisement) *v1beta1.L2Advertisement {
	return &v1beta1.L2Advertisement{ObjectMeta: meta(a.ObjectMeta), Spec: a.Spec}
}

func stripBGPAdvertisement(a *v1beta1.BGPAdvertisement) *v1beta1.BGPAdvertisement {
	return &v1beta1.BGPAdvertisement{ObjectMeta: meta(a.ObjectMeta), Spec: a.Spec}
}

func stripPeer(p *v1beta2.BGPPeer) *v1beta2.BGPPeer {
	out := &v1beta2.BGPPeer{ObjectMeta: meta(p.ObjectMeta), Spec: p.Spec}
	if out.Spec.Password != "" {
		out.Spec.Password = removed
	}
	return out
}

func stripBFDProfile(p *v1beta1.BFDProfile) *v1beta1.BFDProfile {
	return &v1beta1.BFDProfile{ObjectMeta: meta(p.ObjectMeta), Spec: p.Spec}
}

func stripCommunity(c *v1beta1.Community) *v1beta1.Community {
	return &v1beta1.Community{ObjectMeta: meta(c.ObjectMeta), Spec: c.Spec}
}

func stripL2Status(s *v1beta1.ServiceL2Status) *v1beta1.ServiceL2Status {
	return &v1beta1.ServiceL2Status{ObjectMeta: meta(s.ObjectMeta), Status: s.Status}
}

func stripBGPStatus(s *v1beta1.ServiceBGPStatus) *v1beta1.ServiceBGPStatus {
	return &v1beta1.ServiceBGPStatus{ObjectMeta: meta(s.ObjectMeta), Status: s.Status}
}

func stripSession(s *v1alpha1.BGPSession) *v1alpha1.BGPSession {
	return &v1alpha1.BGPSession{ObjectMeta: meta(s.ObjectMeta), Status: s.Status}
}

func stripState(s *v1beta1.ConfigurationState) *v1beta1.ConfigurationState {
	return &v1beta1.ConfigurationState{ObjectMeta: meta(s.ObjectMeta), Status: s.Status}
}

func stripReservation(r *v1alpha1.IPReservation) *v1alpha1.IPReservation {
	out := &v1alpha1.IPReservation{ObjectMeta: meta(r.ObjectMeta), Spec: r.Spec}
	for _, a := range r.Status.Addresses {
		out.Status.Addresses = append(out.Status.Addresses, v1alpha1.ReservedAddress{Address: a.Address, LastUsedBy: a.LastUsedBy})
	}
	return out
}

// stripped sorts the objects by namespace and name and keeps what strip keeps
// of each.
func stripped[T snapshot.Object](objs []T, strip func(T) T) []T {
	var out []T
	for _, o := range objs {
		out = append(out, strip(o))
	}
	slices.SortFunc(out, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out
}
