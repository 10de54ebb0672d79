// SPDX-License-Identifier: Apache-2.0

// Package lb is the vocabulary of Herald: what a cluster looks like to the
// planners.
//
// A Snapshot is everything one plan is made from. It is built at the edge (by
// internal/kube/snapshot) out of Kubernetes objects, with every string parsed
// into a type that cannot be wrong. Planners read it and never change it.
//
//	Kubernetes objects --snapshot.Build--> lb.Snapshot --ipam.Plan-----> assignments
//	                                                  \-announce.Plan-> what a node announces
//
// All slices are sorted as their comments say, so that the same cluster always
// gives the same bytes.
package lb

import (
	"cmp"
	"net/netip"
	"strings"
	"time"
)

// NodeName is the name of a Kubernetes Node, which is also its name in gossip.
type NodeName string

// ServiceKey names a Service.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String returns "namespace/name".
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Snapshot is the state of a cluster at one moment, as far as Herald cares.
type Snapshot struct {
	Pools             []Pool             // by name
	Namespaces        []Namespace        // by name
	Services          []Service          // by creation time, then key: older first
	Reservations      []Reservation      // by creation time, then key: older first
	Remembered        []Remembered       // by key
	Nodes             []Node             // by name
	L2Advertisements  []L2Advertisement  // by name; only valid ones
	BGPAdvertisements []BGPAdvertisement // by name; only valid ones
	Peers             []Peer             // by name; only valid ones
	BFDProfiles       []BFDProfile       // by name; only valid ones
}

// Namespace carries the labels that pool restrictions select by.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Node is a machine that may announce addresses.
type Node struct {
	Name   NodeName
	Labels map[string]string
	// NetworkUnavailable is the Node condition of that name being True.
	NetworkUnavailable bool
	// Excluded means the node carries the label
	// node.kubernetes.io/exclude-from-external-load-balancers and Herald was
	// not told to ignore it.
	Excluded bool
	// Addresses are the node's InternalIPs, in the order of its status.
	Addresses []netip.Addr
}

// Pool is a set of addresses that Services may get.
type Pool struct {
	Name          string
	Ranges        []Range // sorted by From, disjoint
	AutoAssign    bool
	AvoidBuggyIPs bool
	// Pin restricts the pool to some Services; nil is a generic pool.
	Pin *Pin
	// Quotas limit what a namespace may hold of the pool.
	Quotas []Quota
	// Frozen means the object is invalid as it stands now. What was assigned
	// from it stays assigned, and nothing new is handed out. Ranges may be
	// empty then.
	Frozen bool
}

// Contains reports whether a lies in one of the pool's ranges.
func (p *Pool) Contains(a netip.Addr) bool {
	for _, r := range p.Ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// Pin is a pool's serviceAllocation: who may get addresses from it without
// asking, and how early the pool is tried.
type Pin struct {
	// Priority: lower first; 0 means last.
	Priority int
	// Namespaces and NamespaceSelectors form a union; both nil means every
	// namespace. A Pin whose selectors match nothing matches no Service.
	Namespaces         []string
	NamespaceSelectors []Selector
	// ServiceSelectors: any of them; nil means every Service.
	ServiceSelectors []Selector
}

// Range is an inclusive range of addresses of one family.
type Range struct {
	From netip.Addr
	To   netip.Addr
}

// Contains reports whether a lies in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.From.BitLen() && r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
}

// Family is an IP family.
type Family uint8

// The two families. The numbers are those of the IP version field.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// FamilyOf returns the family of a.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// FamilyPolicy is spec.ipFamilyPolicy of a Service.
type FamilyPolicy string

// The values of spec.ipFamilyPolicy.
const (
	SingleStack      FamilyPolicy = "SingleStack"
	PreferDualStack  FamilyPolicy = "PreferDualStack"
	RequireDualStack FamilyPolicy = "RequireDualStack"
)

// Port is one port of a Service as a client sees it.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// Service is a Service of type LoadBalancer that is Herald's to serve.
type Service struct {
	Key     ServiceKey
	Created time.Time
	Labels  map[string]string
	// Deleting means that the object has a deletionTimestamp: it waits for a
	// finalizer. Its addresses are its own until it is gone, and nothing is
	// written to it any more.
	Deleting bool

	Families     []Family // of its ClusterIPs, in their order; empty when headless
	FamilyPolicy FamilyPolicy
	Headless     bool
	Ports        []Port

	// Local is externalTrafficPolicy: Local.
	Local bool
	// HealthPort is where kube-proxy of each node says whether it serves the
	// Service there (spec.healthCheckNodePort); 0 unless Local.
	HealthPort uint16
	// BackendKey is empty for externalTrafficPolicy Cluster and a canonical
	// form of the Pod selector for Local: Services may share an address only
	// if these are equal.
	BackendKey string
	// SharingKey is the value of allow-shared-ip; empty: the address is not shared.
	SharingKey string

	Request Request
	// Move is whom its addresses should be answered by from now on; zero: no
	// wish was expressed, or none that can be understood.
	Move Move

	// Assigned are the addresses in status.loadBalancer.ingress, in their order.
	Assigned []netip.Addr
	// AssignedPools are the pools of the annotation ip-allocated-from-pool.
	AssignedPools []string

	// Endpoints counts serving endpoints per node, by node name. An endpoint
	// serves if it is ready, or, when none of the Service is ready, if it
	// still serves while terminating (as kube-proxy does).
	Endpoints []NodeEndpoints
}

// Request is what the user asked for on the Service itself.
type Request struct {
	// Addresses were asked for by annotation or spec.loadBalancerIP; at most
	// one per family.
	Addresses []netip.Addr
	// Pool was asked for by annotation.
	Pool string
	// Invalid says, when not empty, why the request cannot be understood. The
	// Service then gets nothing new.
	Invalid string
	// Deprecated names annotations with the old prefix that were honoured.
	Deprecated []string
}

// NodeEndpoints is the number of serving endpoints of a Service on one node.
type NodeEndpoints struct {
	Node  NodeName
	Count int
	// Draining endpoints terminate while others of the Service are ready, so
	// they do not count; they still serve.
	Draining int
}
