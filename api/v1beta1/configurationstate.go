// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConfigurationState says whether one program (the controller, or the speaker
// of a node) could use the whole configuration. The labels
// metallb.io/component-type and metallb.io/node-name say which program.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Result",type=string,JSONPath=`.status.result`
// +kubebuilder:printcolumn:name="ErrorSummary",type=string,JSONPath=`.status.errorSummary`
// +kubebuilder:printcolumn:name="Connected",type=string,JSONPath=`.status.conditions[?(@.type=="heraldlb.io/Connected")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ConfigurationState struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what the program says.
	// +optional
	Status ConfigurationStateStatus `json:"status,omitempty"`
}

// ConfigurationResult is the judgement over the whole configuration.
// +kubebuilder:validation:Enum=Valid;Invalid;Unknown
type ConfigurationResult string

// The judgements.
const (
	// ConfigurationValid: every object is used.
	ConfigurationValid ConfigurationResult = "Valid"
	// ConfigurationInvalid: at least one object is not used.
	ConfigurationInvalid ConfigurationResult = "Invalid"
	// ConfigurationUnknown: the configuration could not be read.
	ConfigurationUnknown ConfigurationResult = "Unknown"
)

// ConfigurationStateStatus is the judgement and its reasons.
type ConfigurationStateStatus struct {
	// result is Valid, Invalid (some object is not used) or Unknown.
	// +optional
	Result ConfigurationResult `json:"result,omitempty"`

	// errorSummary holds what is wrong with which object; empty if Valid.
	// +optional
	ErrorSummary string `json:"errorSummary,omitempty"`

	// conditions holds poolReconcilerValid (controller) or
	// configReconcilerValid and heraldlb.io/Connected (speaker).
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ConfigurationStateList is a list of ConfigurationState.
//
// +kubebuilder:object:root=true
type ConfigurationStateList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the objects.
	Items []ConfigurationState `json:"items"`
}
