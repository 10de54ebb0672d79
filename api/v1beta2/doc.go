// SPDX-License-Identifier: Apache-2.0

// Package v1beta2 holds BGPPeer, the only kind of the group metallb.io that
// has a version v1beta2. It is the version that is stored.
//
// +kubebuilder:object:generate=true
// +groupName=metallb.io
package v1beta2
