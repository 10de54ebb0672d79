// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConfigurationStatus is the status of a configuration object whose only
// result is whether it could be used.
type ConfigurationStatus struct {
	// conditions holds Valid: whether the object is used, and if not, why.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
