// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Community gives names to BGP communities, for use in BGPAdvertisement
// objects.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities[*].name`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=1
type Community struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +optional
	Spec CommunitySpec `json:"spec,omitempty"`

	// status is what Herald sees.
	// +optional
	Status ConfigurationStatus `json:"status,omitempty"`
}

// CommunitySpec holds the aliases.
type CommunitySpec struct {
	// communities are the aliases. A name may be used once, over all
	// Community objects.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:XValidation:rule="self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))",messageExpression="self.map(a, has(a.name) && !self.exists_one(b, has(b.name) && a.name == b.name), 'communities: the name \"' + a.name + '\" is there more than once: remove one of them, or give it another name')[0]"
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is a name for one community.
//
// Neither field is required by the schema, but by a rule: a required field
// would make an alias without it, stored before, impossible to change.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",fieldPath=".name",message="name is missing: give the community the name that a BGPAdvertisement writes"
// +kubebuilder:validation:XValidation:rule="has(self.value)",fieldPath=".value",message="value is missing: write n:n with numbers up to 65535, or large:n:n:n with numbers up to 4294967295"
type CommunityAlias struct {
	// name is what a BGPAdvertisement writes.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name,omitempty"`

	// value is a standard community (64512:100) or a large community
	// (large:64512:1:2).
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="(self.matches('^[0-9]{1,9}:[0-9]{1,9}$') && self.split(':').all(n, int(n) <= 65535)) || (self.matches('^large(:[0-9]{1,10}){3}$') && self.substring(6).split(':').all(n, int(n) <= 4294967295))",messageExpression="'value \"' + self + '\" is no community: write n:n with numbers up to 65535, or large:n:n:n with numbers up to 4294967295'"
	Value string `json:"value,omitempty"`
}

// CommunityList is a list of Community.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the objects.
	Items []Community `json:"items"`
}
