// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 holds the kinds of the group metallb.io in version v1beta1.
//
// The markers become the CustomResourceDefinitions in config/crd: structural
// schema and CEL refuse what one object alone shows to be wrong. What needs a
// second object to be seen (an overlap of two pools, a reference to nothing)
// is reported in the condition Valid of the object.
//
// An empty string, the number 0 where 0 is not a value, and an absent field
// mean the same thing everywhere, because Go clients write the former.
//
// +kubebuilder:object:generate=true
// +groupName=metallb.io
package v1beta1
