// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
)

// The functions of this file run on every object on its way into a cache.
// They keep what planners and writers read. That saves most of the memory,
// and changes of other fields (heartbeats, for example) wake nobody, because
// the stripped objects are equal. An object stripped like this must never be
// sent back whole; writes are patches.

// stripMeta keeps identity, version and labels, and no annotation.
func stripMeta(m *metav1.ObjectMeta) {
	*m = metav1.ObjectMeta{
		Name:              m.Name,
		Namespace:         m.Namespace,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		Generation:        m.Generation,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            m.Labels,
	}
}

// stripService keeps, of the conditions, only the one of the given type: the
// one this program writes.
func stripService(s *corev1.Service, condition string) {
	annotations := s.Annotations
	stripMeta(&s.ObjectMeta)
	maps.DeleteFunc(annotations, func(k, _ string) bool {
		if k == api.AnnotationAssignedAt {
			return condition != api.ConditionAllocated // the controller's
		}
		return !strings.HasPrefix(k, api.Prefix) && !strings.HasPrefix(k, api.PrefixLegacy) && k != api.AnnotationL2MoveTo
	})
	if len(annotations) > 0 {
		s.Annotations = make(map[string]string, len(annotations))
		for k, v := range annotations { // into another map
			if k == api.AnnotationAllocatedFromPool {
				v = shared(v)
			}
			s.Annotations[shared(k)] = v
		}
	}
	spec, selector := &s.Spec, s.Spec.Selector
	s.Spec = corev1.ServiceSpec{
		Type:                  spec.Type,
		ClusterIP:             spec.ClusterIP,
		ClusterIPs:            spec.ClusterIPs,
		IPFamilies:            spec.IPFamilies,
		IPFamilyPolicy:        spec.IPFamilyPolicy,
		ExternalTrafficPolicy: spec.ExternalTrafficPolicy,
		LoadBalancerClass:     spec.LoadBalancerClass,
		LoadBalancerIP:        spec.LoadBalancerIP,
		HealthCheckNodePort:   spec.HealthCheckNodePort,
		Ports:                 spec.Ports,
	}
	if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.Spec.Selector = selector // only then it says who may share an address
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		*p = corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
	}
	var keep []metav1.Condition
	for _, c := range s.Status.Conditions {
		if c.Type == condition {
			c.Type, c.Status, c.Reason, c.Message = shared(c.Type), shared(c.Status), shared(c.Reason), shared(c.Message)
			keep = []metav1.Condition{c} // there is one of each type
		}
	}
	s.Status.Conditions = keep
}

// stripReport is for the objects of which there is one for each Service: what
// many have in common takes memory once.
func stripReport(m *metav1.ObjectMeta, t *metav1.TypeMeta) {
	m.ManagedFields, m.Annotations = nil, nil
	t.Kind, t.APIVersion = shared(t.Kind), shared(t.APIVersion)
	m.Namespace, m.GenerateName = shared(m.Namespace), shared(m.GenerateName)
	set := make(map[string]string, len(m.Labels))
	for k, v := range m.Labels { // into another map
		if k != api.LabelServiceName {
			v = shared(v)
		}
		set[shared(k)] = v
	}
	m.Labels = set
	for i := range m.OwnerReferences {
		o := &m.OwnerReferences[i]
		o.APIVersion, o.Kind, o.Name, o.UID = shared(o.APIVersion), shared(o.Kind), shared(o.Name), shared(o.UID)
	}
}

func stripL2Status(s *v1beta1.ServiceL2Status) {
	stripReport(&s.ObjectMeta, &s.TypeMeta)
	s.Status.Node, s.Status.ServiceNamespace = shared(s.Status.Node), shared(s.Status.ServiceNamespace)
	for i := range s.Status.Interfaces {
		s.Status.Interfaces[i].Name = shared(s.Status.Interfaces[i].Name)
	}
}

func stripBGPStatus(s *v1beta1.ServiceBGPStatus) {
	stripReport(&s.ObjectMeta, &s.TypeMeta)
	s.Status.Node, s.Status.ServiceNamespace = shared(s.Status.Node), shared(s.Status.ServiceNamespace)
	for i := range s.Status.Peers {
		s.Status.Peers[i] = shared(s.Status.Peers[i])
	}
}

// shared returns the same string, in memory that all equal ones share: ten
// thousand Services have the same annotations, and name the same pool.
func shared[S ~string](s S) S { return unique.Make(s).Value() }

func stripEndpointSlice(s *discoveryv1.EndpointSlice) {
	service := s.Labels[discoveryv1.LabelServiceName]
	stripMeta(&s.ObjectMeta)
	s.Labels = nil
	if service != "" {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	s.Ports = nil
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		// One address is enough to tell endpoints apart.
		*e = discoveryv1.Endpoint{Addresses: e.Addresses[:min(1, len(e.Addresses))], Conditions: e.Conditions, NodeName: e.NodeName}
	}
}

func stripNode(n *corev1.Node) {
	stripMeta(&n.ObjectMeta)
	n.Spec = corev1.NodeSpec{}
	var status corev1.NodeStatus
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			status.Conditions = append(status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			status.Addresses = append(status.Addresses, a)
		}
	}
	n.Status = status
}

func stripNamespace(n *corev1.Namespace) {
	stripMeta(&n.ObjectMeta)
	n.Spec = corev1.NamespaceSpec{}
	n.Status = corev1.NamespaceStatus{}
}

func stripPod(p *corev1.Pod) {
	stripMeta(&p.ObjectMeta)
	p.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName}
	p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
}
