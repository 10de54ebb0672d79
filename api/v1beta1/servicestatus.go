// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceL2Status says which node answers for the addresses of a Service with
// ARP and NDP. The node writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Allocated Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Service Name",type=string,JSONPath=`.status.serviceName`
// +kubebuilder:printcolumn:name="Service Namespace",type=string,JSONPath=`.status.serviceNamespace`
type ServiceL2Status struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is empty.
	// +optional
	Spec EmptySpec `json:"spec,omitzero"`

	// status is what the node does.
	// +optional
	Status ServiceL2StatusStatus `json:"status,omitempty"`
}

// EmptySpec is the spec of a kind that has only a status.
type EmptySpec struct{}

// ServiceL2StatusStatus says who answers for which Service.
type ServiceL2StatusStatus struct {
	// node is the node that answers.
	// +optional
	Node string `json:"node,omitempty"`

	// serviceName is the name of the Service.
	// +optional
	ServiceName string `json:"serviceName,omitempty"`

	// serviceNamespace is the namespace of the Service.
	// +optional
	ServiceNamespace string `json:"serviceNamespace,omitempty"`

	// interfaces are the network interfaces the node answers on.
	// +optional
	// +listType=atomic
	Interfaces []InterfaceInfo `json:"interfaces,omitempty"`
}

// InterfaceInfo is a network interface of a node.
type InterfaceInfo struct {
	// name is the name of the interface.
	// +optional
	Name string `json:"name,omitempty"`
}

// ServiceL2StatusList is a list of ServiceL2Status.
//
// +kubebuilder:object:root=true
type ServiceL2StatusList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the objects.
	Items []ServiceL2Status `json:"items"`
}

// ServiceBGPStatus says to which peers a node announces a Service. The node
// writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Service Name",type=string,JSONPath=`.status.serviceName`
// +kubebuilder:printcolumn:name="Service Namespace",type=string,JSONPath=`.status.serviceNamespace`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.status.peers`,priority=1
type ServiceBGPStatus struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is empty.
	// +optional
	Spec EmptySpec `json:"spec,omitzero"`

	// status is what the node does.
	// +optional
	Status ServiceBGPStatusStatus `json:"status,omitempty"`
}

// ServiceBGPStatusStatus says who announces which Service to whom.
type ServiceBGPStatusStatus struct {
	// node is the node that announces.
	// +optional
	Node string `json:"node,omitempty"`

	// serviceName is the name of the Service.
	// +optional
	ServiceName string `json:"serviceName,omitempty"`

	// serviceNamespace is the namespace of the Service.
	// +optional
	ServiceNamespace string `json:"serviceNamespace,omitempty"`

	// peers are the names of the BGPPeer objects, sorted. Whether the router
	// has the route depends on the session; see BGPSession.
	// +optional
	// +listType=atomic
	Peers []string `json:"peers,omitempty"`
}

// ServiceBGPStatusList is a list of ServiceBGPStatus.
//
// +kubebuilder:object:root=true
type ServiceBGPStatusList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the objects.
	Items []ServiceBGPStatus `json:"items"`
}
