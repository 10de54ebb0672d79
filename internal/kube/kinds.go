// SPDX-License-Identifier: Apache-2.0

package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Kind is one kind of object to watch: which of them, what to keep of each,
// and where they go in snapshot.Objects.
type Kind struct {
	gvk      schema.GroupVersionKind
	resource string
	// own restricts the kind to the program's own namespace.
	own    bool
	fields fields.Selector // nil: all
	labels labels.Selector // nil: all
	// report: the objects are what the program itself says, and nothing that it
	// decides depends on them.
	report bool
	// definition names the CustomResourceDefinition without which the objects
	// are not gone for good; see limbo.go.
	definition string

	object runtime.Object
	strip  func(obj any)
	put    func(o *snapshot.Objects, items []any)
}

// String names the kind as a user writes it.
func (k Kind) String() string {
	if k.gvk.Group == "" {
		return k.gvk.Kind
	}
	return k.gvk.Kind + "." + k.gvk.Group
}

// ControllerKinds are what the controller watches. It reads no endpoints.
func ControllerKinds() []Kind {
	reservations := configKind("IPReservation", "ipreservations",
		func(o *snapshot.Objects) *[]*v1alpha1.IPReservation { return &o.Reservations })
	reservations.gvk = v1alpha1.GroupVersion.WithKind("IPReservation")
	reservations.own = false // they are their users'
	reservations.definition = "ipreservations." + v1alpha1.GroupVersion.Group
	return append(commonKinds(api.ConditionAllocated), configurationState(api.ComponentController), reservations)
}

// SpeakerKinds are what the speaker of a node watches: everything the
// controller does, endpoints, the objects it writes itself, and the Pods of
// all speakers, found by label.
func SpeakerKinds(node string, speakers labels.Selector) []Kind {
	ofNode := labels.SelectorFromSet(labels.Set{api.LabelNode: node})

	slices := kindOf(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), "endpointslices", stripEndpointSlice,
		func(o *snapshot.Objects) *[]*discoveryv1.EndpointSlice { return &o.EndpointSlices })
	pods := kindOf(corev1.SchemeGroupVersion.WithKind("Pod"), "pods", stripPod,
		func(o *snapshot.Objects) *[]*corev1.Pod { return &o.SpeakerPods })
	pods.own, pods.labels = true, speakers
	l2 := kindOf(v1beta1.GroupVersion.WithKind("ServiceL2Status"), "servicel2statuses", stripL2Status,
		func(o *snapshot.Objects) *[]*v1beta1.ServiceL2Status { return &o.L2Statuses })
	l2.own, l2.labels = true, ofNode
	bgp := kindOf(v1beta1.GroupVersion.WithKind("ServiceBGPStatus"), "servicebgpstatuses", stripBGPStatus,
		func(o *snapshot.Objects) *[]*v1beta1.ServiceBGPStatus { return &o.BGPStatuses })
	bgp.own, bgp.labels = true, ofNode
	sessions := configKind("BGPSession", "bgpsessions",
		func(o *snapshot.Objects) *[]*v1alpha1.BGPSession { return &o.BGPSessions })
	sessions.gvk, sessions.labels = v1alpha1.GroupVersion.WithKind("BGPSession"), ofNode

	state := configurationState(api.ComponentSpeaker + "-" + node)
	state.report, l2.report, bgp.report, sessions.report = true, true, true, true

	common := commonKinds(api.ConditionAnnounced)
	for i, k := range common {
		// A pool that is gone is missed by nobody: what was given from it is
		// announced nevertheless.
		if k.own && k.resource != "ipaddresspools" {
			common[i].definition = k.resource + "." + k.gvk.Group
		}
	}
	return append(common, state, slices, pods, l2, bgp, sessions)
}

func commonKinds(condition string) []Kind {
	services := kindOf(corev1.SchemeGroupVersion.WithKind("Service"), "services",
		func(s *corev1.Service) { stripService(s, condition) },
		func(o *snapshot.Objects) *[]*corev1.Service { return &o.Services })
	// The others never reach us; one that changes its type leaves the cache.
	services.fields = fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))

	peers := configKind("BGPPeer", "bgppeers",
		func(o *snapshot.Objects) *[]*v1beta2.BGPPeer { return &o.Peers })
	peers.gvk.Version = v1beta2.GroupVersion.Version

	return []Kind{
		services,
		kindOf(corev1.SchemeGroupVersion.WithKind("Node"), "nodes", stripNode,
			func(o *snapshot.Objects) *[]*corev1.Node { return &o.Nodes }),
		kindOf(corev1.SchemeGroupVersion.WithKind("Namespace"), "namespaces", stripNamespace,
			func(o *snapshot.Objects) *[]*corev1.Namespace { return &o.Namespaces }),
		configKind("IPAddressPool", "ipaddresspools",
			func(o *snapshot.Objects) *[]*v1beta1.IPAddressPool { return &o.Pools }),
		configKind("L2Advertisement", "l2advertisements",
			func(o *snapshot.Objects) *[]*v1beta1.L2Advertisement { return &o.L2Advertisements }),
		configKind("BGPAdvertisement", "bgpadvertisements",
			func(o *snapshot.Objects) *[]*v1beta1.BGPAdvertisement { return &o.BGPAdvertisements }),
		peers,
		configKind("BFDProfile", "bfdprofiles",
			func(o *snapshot.Objects) *[]*v1beta1.BFDProfile { return &o.BFDProfiles }),
		configKind("Community", "communities",
			func(o *snapshot.Objects) *[]*v1beta1.Community { return &o.Communities }),
	}
}

// configurationState is the one object of that kind with the given name: each
// program reads back only its own.
func configurationState(name string) Kind {
	k := configKind("ConfigurationState", "configurationstates",
		func(o *snapshot.Objects) *[]*v1beta1.ConfigurationState { return &o.ConfigurationStates })
	k.fields = fields.OneTermEqualSelector(metav1.ObjectNameField, name)
	return k
}

// configKind is a kind of group metallb.io, in the own namespace, of which
// only the history of field owners and the copy that kubectl keeps are left
// out.
func configKind[T any, P pointer[T]](kind, resource string, list func(*snapshot.Objects) *[]P) Kind {
	k := kindOf(v1beta1.GroupVersion.WithKind(kind), resource, func(obj P) {
		obj.SetManagedFields(nil)
		obj.SetAnnotations(nil)
	}, list)
	k.own = true
	return k
}

// pointer is *T, which is the API object.
type pointer[T any] interface {
	*T
	snapshot.Object
}

func kindOf[T any, P pointer[T]](gvk schema.GroupVersionKind, resource string, strip func(P), list func(*snapshot.Objects) *[]P) Kind {
	return Kind{
		gvk:      gvk,
		resource: resource,
		object:   P(new(T)),
		strip:    func(obj any) { strip(obj.(P)) },
		put: func(o *snapshot.Objects, items []any) {
			out := make([]P, len(items))
			for i, item := range items {
				out[i] = item.(P)
			}
			*list(o) = out
		},
	}
}

// NewScheme returns a scheme with the kinds that the two programs use, and no
// others: registering all of Kubernetes costs memory on every node.
func NewScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		metav1.AddMetaToScheme, corev1.AddToScheme, discoveryv1.AddToScheme, v1beta1.AddToScheme, v1beta2.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}
