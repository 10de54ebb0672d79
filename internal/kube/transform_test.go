// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
)

// noisy is the metadata that real objects have.
func noisy(annotations map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: "n", Namespace: "ns", UID: "u", ResourceVersion: "7", Generation: 3,
		Labels: map[string]string{"app": "web"}, Annotations: annotations,
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}, Finalizers: []string{"x/y"},
	}
}

func quiet(annotations map[string]string) metav1.ObjectMeta {
	m := noisy(annotations)
	m.ManagedFields, m.Finalizers = nil, nil
	return m
}

func TestStripService(t *testing.T) {
	t.Parallel()
	policy := corev1.IPFamilyPolicySingleStack
	svc := &corev1.Service{
		ObjectMeta: noisy(map[string]string{
			"kubectl.kubernetes.io/last-applied-configuration": "{}",
			api.AnnotationAddressPool:                          "p",
			api.AnnotationAllowSharedIPLegacy:                  "k",
		}),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &policy,
			HealthCheckNodePort: 30001, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Selector: map[string]string{"app": "web"}, SessionAffinity: corev1.ServiceAffinityClientIP,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080}},
		},
		Status: corev1.ServiceStatus{
			LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}},
			Conditions:   []metav1.Condition{{Type: api.ConditionAllocated}, {Type: api.ConditionAnnounced}, {Type: "other"}},
		},
	}
	want := &corev1.Service{
		ObjectMeta: quiet(map[string]string{api.AnnotationAddressPool: "p", api.AnnotationAllowSharedIPLegacy: "k"}),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &policy,
			Selector: map[string]string{"app": "web"}, HealthCheckNodePort: 30001, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
		Status: corev1.ServiceStatus{
			LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}},
			Conditions:   []metav1.Condition{{Type: api.ConditionAllocated}},
		},
	}
	stripService(svc, api.ConditionAllocated)
	if diff := cmp.Diff(want, svc); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Without the policy Local nobody asks for the selector.
	svc.Spec.ExternalTrafficPolicy, want.Spec.ExternalTrafficPolicy = "", ""
	want.Spec.Selector = nil
	stripService(svc, api.ConditionAllocated)
	if diff := cmp.Diff(want, svc); diff != "" {
		t.Errorf("policy Cluster (-want +got):\n%s", diff)
	}
}

// TestStripReports: what a speaker compares is kept.
func TestStripReports(t *testing.T) {
	t.Parallel()
	kind := metav1.TypeMeta{Kind: "K", APIVersion: "metallb.io/v1beta1"}
	meta := func() metav1.ObjectMeta {
		m := noisy(map[string]string{"a": "b"})
		m.GenerateName = "x-"
		m.Labels = map[string]string{api.LabelNode: "n1", api.LabelServiceName: "web", api.LabelServiceNamespace: "shop"}
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "speaker", UID: "p"}}
		return m
	}
	wantMeta := meta()
	wantMeta.ManagedFields, wantMeta.Annotations = nil, nil

	l2 := &v1beta1.ServiceL2Status{TypeMeta: kind, ObjectMeta: meta(), Status: v1beta1.ServiceL2StatusStatus{
		Node: "n1", ServiceName: "web", ServiceNamespace: "shop", Interfaces: []v1beta1.InterfaceInfo{{Name: "eth0"}, {Name: "eth1"}},
	}}
	wantL2 := l2.DeepCopy()
	wantL2.ObjectMeta = wantMeta
	stripL2Status(l2)
	if diff := cmp.Diff(wantL2, l2); diff != "" {
		t.Errorf("ServiceL2Status (-want +got):\n%s", diff)
	}
	bgp := &v1beta1.ServiceBGPStatus{TypeMeta: kind, ObjectMeta: meta(), Status: v1beta1.ServiceBGPStatusStatus{
		Node: "n1", ServiceName: "web", ServiceNamespace: "shop", Peers: []string{"a", "b"},
	}}
	wantBGP := bgp.DeepCopy()
	wantBGP.ObjectMeta = wantMeta
	stripBGPStatus(bgp)
	if diff := cmp.Diff(wantBGP, bgp); diff != "" {
		t.Errorf("ServiceBGPStatus (-want +got):\n%s", diff)
	}
}

func TestStripOthers(t *testing.T) {
	t.Parallel()
	node, yes := "n1", true

	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: noisy(nil), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.1.0.1", "10.1.0.2"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
			TargetRef: &corev1.ObjectReference{Name: "pod"},
		}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "web", "app": "web"}
	stripEndpointSlice(slice)
	wantSlice := &discoveryv1.EndpointSlice{
		ObjectMeta: quiet(nil), AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
	}
	wantSlice.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	if diff := cmp.Diff(wantSlice, slice); diff != "" {
		t.Errorf("EndpointSlice (-want +got):\n%s", diff)
	}

	n := &corev1.Node{
		ObjectMeta: noisy(map[string]string{"a": "b"}), Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady}, {Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Reason: "R"}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.9"}},
			Images:     []corev1.ContainerImage{{SizeBytes: 1}},
		},
	}
	stripNode(n)
	wantNode := &corev1.Node{ObjectMeta: quiet(nil), Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.9"}},
	}}
	if diff := cmp.Diff(wantNode, n); diff != "" {
		t.Errorf("Node (-want +got):\n%s", diff)
	}

	p := &corev1.Pod{ObjectMeta: noisy(nil), Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: true},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "192.0.2.9", Message: "m"}}
	stripPod(p)
	wantPod := &corev1.Pod{ObjectMeta: quiet(nil), Spec: corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "192.0.2.9"}}
	if diff := cmp.Diff(wantPod, p); diff != "" {
		t.Errorf("Pod (-want +got):\n%s", diff)
	}
}
