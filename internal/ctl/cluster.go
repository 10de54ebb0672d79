// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Format names the layout of a dump. It changes when an older heraldctl could
// misread the file.
const Format = "heraldlb.io/dump/v1"

// Cluster is one reading of a cluster, and the content of a dump. Lists are
// sorted by namespace and name.
type Cluster struct {
	Format string      `json:"format"`
	Taken  metav1.Time `json:"taken"`

	// Namespace is Herald's own.
	Namespace string `json:"namespace"`
	// LBClass and IgnoreExcludeLB are the flags that Herald's Pods run with.
	LBClass         string `json:"lbClass,omitempty"`
	IgnoreExcludeLB bool   `json:"ignoreExcludeLB,omitempty"`
	// Notes say what could not be read, and what was guessed.
	Notes []string `json:"notes,omitempty"`
	// Programs are Herald's Pods. Empty: none was found, or none may be read.
	Programs []Program `json:"programs,omitempty"`

	Services          []*corev1.Service            `json:"services,omitempty"`
	EndpointSlices    []*discoveryv1.EndpointSlice `json:"endpointSlices,omitempty"`
	Nodes             []*corev1.Node               `json:"nodes,omitempty"`
	Namespaces        []*corev1.Namespace          `json:"namespaces,omitempty"`
	Pools             []*v1beta1.IPAddressPool     `json:"ipAddressPools,omitempty"`
	L2Advertisements  []*v1beta1.L2Advertisement   `json:"l2Advertisements,omitempty"`
	BGPAdvertisements []*v1beta1.BGPAdvertisement  `json:"bgpAdvertisements,omitempty"`
	Peers             []*v1beta2.BGPPeer           `json:"bgpPeers,omitempty"`
	BFDProfiles       []*v1beta1.BFDProfile        `json:"bfdProfiles,omitempty"`
	Communities       []*v1beta1.Community         `json:"communities,omitempty"`
	L2Statuses        []*v1beta1.ServiceL2Status   `json:"serviceL2Statuses,omitempty"`
	BGPStatuses       []*v1beta1.ServiceBGPStatus  `json:"serviceBGPStatuses,omitempty"`
	Sessions          []*v1alpha1.BGPSession       `json:"bgpSessions,omitempty"`
	// States are what speakers and the controller say of themselves.
	States       []*v1beta1.ConfigurationState `json:"configurationStates,omitempty"`
	Reservations []*v1alpha1.IPReservation     `json:"ipReservations,omitempty"`

	// Remembered are Services that are gone, and what they get if they come
	// back, by namespace and name.
	Remembered []Memory `json:"remembered,omitempty"`
}

// Memory is what the controller remembers of a Service that is gone.
type Memory struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Until     metav1.Time  `json:"until"`
}

// Program is a Pod of Herald.
type Program struct {
	// Component is api.ComponentController or api.ComponentSpeaker.
	Component string `json:"component"`
	Pod       string `json:"pod"`
	Node      string `json:"node,omitempty"`
	Ready     bool   `json:"ready"`
}

// options are the settings that the planners' view of the cluster depends on.
func (c *Cluster) options() snapshot.Options {
	opt := snapshot.Options{Namespace: c.Namespace, LBClass: c.LBClass, IgnoreExcludeLB: c.IgnoreExcludeLB}
	for _, m := range c.Remembered {
		key := lb.ServiceKey{Namespace: m.Namespace, Name: m.Name}
		// The controller forgets what a Service has something else for.
		if s := c.service(key); s == nil || len(s.Status.LoadBalancer.Ingress) == 0 {
			opt.Remembered = append(opt.Remembered, lb.Remembered{Key: key, Addresses: m.Addresses})
		}
	}
	return opt
}

func (c *Cluster) objects() snapshot.Objects {
	return snapshot.Objects{
		Services:          c.Services,
		EndpointSlices:    c.EndpointSlices,
		Nodes:             c.Nodes,
		Namespaces:        c.Namespaces,
		Pools:             c.Pools,
		L2Advertisements:  c.L2Advertisements,
		BGPAdvertisements: c.BGPAdvertisements,
		Peers:             c.Peers,
		BFDProfiles:       c.BFDProfiles,
		Communities:       c.Communities,
		L2Statuses:        c.L2Statuses,
		Reservations:      c.Reservations,
	}
}

// service finds a Service of any type.
func (c *Cluster) service(key lb.ServiceKey) *corev1.Service {
	for _, s := range c.Services {
		if s.Namespace == key.Namespace && s.Name == key.Name {
			return s
		}
	}
	return nil
}

// running reports whether Pods of the component were looked for with success,
// and how many of them are ready, on any node or, if node is not empty, there.
func (c *Cluster) running(component, node string) (known bool, ready int) {
	for _, p := range c.Programs {
		if p.Component == component && p.Ready && (node == "" || p.Node == node) {
			ready++
		}
	}
	return len(c.Programs) > 0, ready
}

// cutOff returns what the speaker of a node says, if it hears no other one.
func (c *Cluster) cutOff(node string) string {
	for _, s := range c.States {
		if s.Namespace != c.Namespace || s.Labels[api.LabelComponentType] != api.ComponentSpeaker || s.Labels[api.LabelNodeName] != node {
			continue
		}
		for _, cond := range s.Status.Conditions {
			if cond.Type == api.ConditionConnected && cond.Status == metav1.ConditionFalse {
				return cond.Message
			}
		}
	}
	return ""
}

// owner is what one node reports about one Service.
type owner struct {
	node       string
	interfaces []string
}

// owners returns the nodes that report that they answer for a Service, by
// name. More than one is possible for a moment, while one takes over.
func (c *Cluster) owners(key lb.ServiceKey) []owner {
	var out []owner
	for _, s := range c.L2Statuses {
		if s.Namespace != c.Namespace ||
			cmp.Or(s.Status.ServiceNamespace, s.Labels[api.LabelServiceNamespace]) != key.Namespace ||
			cmp.Or(s.Status.ServiceName, s.Labels[api.LabelServiceName]) != key.Name {
			continue
		}
		o := owner{node: cmp.Or(s.Status.Node, s.Labels[api.LabelNode])}
		for _, i := range s.Status.Interfaces {
			o.interfaces = append(o.interfaces, i.Name)
		}
		slices.Sort(o.interfaces)
		if o.node != "" && !slices.ContainsFunc(out, func(x owner) bool { return x.node == o.node }) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b owner) int { return cmp.Compare(a.node, b.node) })
	return out
}

// condition returns the condition of that type, or nil.
func condition(s *corev1.Service, of string) *metav1.Condition {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == of {
			return &s.Status.Conditions[i]
		}
	}
	return nil
}
