// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement lets addresses of pools be answered for with ARP and NDP.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=10
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=10
type L2Advertisement struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`

	// status is what Herald sees.
	// +optional
	Status ConfigurationStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec says which addresses are announced, and from where.
type L2AdvertisementSpec struct {
	// ipAddressPools are names of pools. Together with
	// ipAddressPoolSelectors; if both are empty all pools are meant.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors select pools by their labels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// nodeSelectors select the nodes that may answer; one of them must match.
	// Empty: all nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// interfaces are the network interfaces to answer on. Empty: all. A node
	// on which none of them exists and is up is no candidate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	Interfaces []string `json:"interfaces,omitempty"`

	// serviceSelectors select Services by their labels; one of them must
	// match. Empty: all Services.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// preferredNodeSelectors say which of the possible nodes should answer:
	// the weights of all that select a node are added, and the node with the
	// highest sum is taken.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`
}

// PreferredNodeSelector is a preference for some nodes.
type PreferredNodeSelector struct {
	// weight is added to the score of the nodes that preference selects.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// preference selects nodes by their labels.
	// +required
	Preference LabelSelector `json:"preference"`
}

// L2AdvertisementList is a list of L2Advertisement.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the advertisements.
	Items []L2Advertisement `json:"items"`
}
