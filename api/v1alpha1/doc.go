// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the kinds of the group heraldlb.io: those that other
// implementations of the group metallb.io do not have.
//
// +kubebuilder:object:generate=true
// +groupName=heraldlb.io
package v1alpha1
