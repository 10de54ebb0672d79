// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisement lets addresses of pools be announced with BGP.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=10
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=10
type BGPAdvertisement struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +optional
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`

	// status is what Herald sees.
	// +optional
	Status ConfigurationStatus `json:"status,omitempty"`
}

// BGPAdvertisementSpec says which addresses are announced, from where, to whom
// and with which attributes.
type BGPAdvertisementSpec struct {
	// aggregationLength is the length of the IPv4 prefixes announced: 32
	// announces each address, 24 one prefix for up to 256 addresses.
	// +optional
	// +kubebuilder:default=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// aggregationLengthV6 is the length of the IPv6 prefixes announced.
	// +optional
	// +kubebuilder:default=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// localPref is the LOCAL_PREF attribute, sent to peers of the same AS
	// only. Absent: 100.
	// +optional
	// +kubebuilder:validation:Format=int64
	LocalPref *uint32 `json:"localPref,omitempty"`

	// communities are added to the announcement: standard communities
	// (64512:100), large communities (large:64512:1:2), or names of aliases
	// from a Community object.
	// +optional
	// +listType=atomic
	Communities []string `json:"communities,omitempty"`

	// ipAddressPools are names of pools. Together with
	// ipAddressPoolSelectors; if both are empty all pools are meant.
	// +optional
	// +listType=atomic
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors select pools by their labels.
	// +optional
	// +listType=atomic
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// nodeSelectors select the nodes that announce; one of them must match.
	// Empty: all nodes.
	// +optional
	// +listType=atomic
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// peers are names of the BGPPeer objects to announce to. Empty: all.
	// +optional
	// +listType=atomic
	Peers []string `json:"peers,omitempty"`

	// serviceSelectors select Services by their labels; one of them must
	// match. Empty: all Services. Not together with aggregation.
	// +optional
	// +listType=atomic
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// weighted "endpoints" adds a link bandwidth community in proportion to
	// the serving endpoints of the node, so that routers spread the traffic
	// of externalTrafficPolicy Local by Pod, not by node.
	// +optional
	Weighted BGPWeighting `json:"weighted,omitempty"`
}

// BGPWeighting says what the share of a node depends on.
// +kubebuilder:validation:Enum="";endpoints
type BGPWeighting string

// The kinds of weighting.
const (
	BGPWeightedNone      BGPWeighting = ""
	BGPWeightedEndpoints BGPWeighting = "endpoints"
)

// BGPAdvertisementList is a list of BGPAdvertisement.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the advertisements.
	Items []BGPAdvertisement `json:"items"`
}
