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
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || !has(self.aggregationLength) || self.aggregationLength == 32",fieldPath=".aggregationLength",messageExpression="'aggregationLength ' + '0123456789'.substring(self.aggregationLength / 10 % 10, self.aggregationLength / 10 % 10 + (self.aggregationLength < 10 ? 0 : 1)) + '0123456789'.substring(self.aggregationLength % 10, self.aggregationLength % 10 + 1) + ' announces addresses of Services that serviceSelectors does not select: use 32, or remove serviceSelectors'"
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || !has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128",fieldPath=".aggregationLengthV6",messageExpression="'aggregationLengthV6 ' + '0123456789'.substring(self.aggregationLengthV6 / 100 % 10, self.aggregationLengthV6 / 100 % 10 + (self.aggregationLengthV6 < 100 ? 0 : 1)) + '0123456789'.substring(self.aggregationLengthV6 / 10 % 10, self.aggregationLengthV6 / 10 % 10 + (self.aggregationLengthV6 < 10 ? 0 : 1)) + '0123456789'.substring(self.aggregationLengthV6 % 10, self.aggregationLengthV6 % 10 + 1) + ' announces addresses of Services that serviceSelectors does not select: use 128, or remove serviceSelectors'"
type BGPAdvertisementSpec struct {
	// aggregationLength is the length of the IPv4 prefixes announced: 32
	// announces each address, 24 one prefix for up to 256 addresses.
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// aggregationLengthV6 is the length of the IPv6 prefixes announced.
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// localPref is the LOCAL_PREF attribute, sent to peers of the same AS
	// only. Absent: 100.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *uint32 `json:"localPref,omitempty"`

	// communities are added to the announcement: standard communities
	// (64512:100), large communities (large:64512:1:2), or names of aliases
	// from a Community object.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=250
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="!self.matches('^(large:)?[0-9:]+$') || (self.matches('^[0-9]{1,9}:[0-9]{1,9}$') && self.split(':').all(n, int(n) <= 65535)) || (self.matches('^large(:[0-9]{1,10}){3}$') && self.substring(6).split(':').all(n, int(n) <= 4294967295))",messageExpression="'communities: \"' + self + '\" is no community: write n:n with numbers up to 65535, large:n:n:n with numbers up to 4294967295, or the name of an alias'"
	Communities []string `json:"communities,omitempty"`

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

	// nodeSelectors select the nodes that announce; one of them must match.
	// Empty: all nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// peers are names of the BGPPeer objects to announce to. Empty: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",messageExpression="'peers: \"' + self + '\" cannot be the name of a BGPPeer: write the metadata.name of one (lower case letters, digits, - and .)'"
	Peers []string `json:"peers,omitempty"`

	// serviceSelectors select Services by their labels; one of them must
	// match. Empty: all Services. Not together with aggregation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
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
