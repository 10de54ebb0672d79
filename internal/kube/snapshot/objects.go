// SPDX-License-Identifier: Apache-2.0

// Package snapshot turns Kubernetes objects into lb.Snapshot.
//
// It is the edge where strings become types that cannot be wrong. What cannot
// be parsed, or contradicts another object, becomes a Problem of exactly one
// object and leaves all others working. It is pure: the same objects, in
// whatever order, give the same bytes.
package snapshot

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

// Object is any object of the Kubernetes API.
type Object interface {
	metav1.Object
	runtime.Object
}

// Objects is one reading of the caches. The objects are shared with the
// caches: nobody may change them. Lists are in no particular order.
type Objects struct {
	Services       []*corev1.Service // of type LoadBalancer only
	EndpointSlices []*discoveryv1.EndpointSlice
	Nodes          []*corev1.Node
	Namespaces     []*corev1.Namespace

	Pools             []*v1beta1.IPAddressPool
	L2Advertisements  []*v1beta1.L2Advertisement
	BGPAdvertisements []*v1beta1.BGPAdvertisement
	Peers             []*v1beta2.BGPPeer
	BFDProfiles       []*v1beta1.BFDProfile
	Communities       []*v1beta1.Community

	Reservations []*v1alpha1.IPReservation // of all namespaces

	// The rest is read back by those who write it, or finds the other
	// speakers; Build does not look at it.

	ConfigurationStates []*v1beta1.ConfigurationState // the program's own
	L2Statuses          []*v1beta1.ServiceL2Status    // of the speaker's node
	BGPStatuses         []*v1beta1.ServiceBGPStatus   // of the speaker's node
	BGPSessions         []*v1alpha1.BGPSession        // of the speaker's node
	SpeakerPods         []*corev1.Pod
}
