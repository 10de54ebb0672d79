// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that may be given to Services of type
// LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Avoid Buggy IPs",type=boolean,JSONPath=`.spec.avoidBuggyIPs`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Used IPv4",type=string,JSONPath=`.status.usedIPv4`,description="assigned/total"
// +kubebuilder:printcolumn:name="Used IPv6",type=string,JSONPath=`.status.usedIPv6`,description="assigned/total"
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=1
// +kubebuilder:printcolumn:name="Reserved IPv4",type=integer,JSONPath=`.status.reservedIPv4`,priority=1
// +kubebuilder:printcolumn:name="Reserved IPv6",type=integer,JSONPath=`.status.reservedIPv6`,priority=1
type IPAddressPool struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec IPAddressPoolSpec `json:"spec"`

	// status is what the controller sees.
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec says which addresses the pool has and who may get them.
type IPAddressPoolSpec struct {
	// addresses are the ranges of the pool, each a prefix (192.0.2.0/24; host
	// bits are allowed and ignored) or a first and a last address
	// (192.0.2.10-192.0.2.20). IPv4 and IPv6 may be mixed. Ranges may not
	// overlap, neither in this pool nor with another one.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=90
	// +kubebuilder:validation:items:XValidation:rule="@addressSyntax",messageExpression="@addressSyntaxMessage"
	// +kubebuilder:validation:items:XValidation:rule="@addressFamily",messageExpression="@addressFamilyMessage"
	// +kubebuilder:validation:items:XValidation:rule="@addressOrder",messageExpression="@addressOrderMessage"
	// +kubebuilder:validation:XValidation:rule="@addressOverlap",messageExpression="@addressOverlapMessage"
	Addresses []string `json:"addresses"`

	// autoAssign says whether a Service that does not ask for this pool can
	// get an address of it.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out IPv4 addresses that end in .0 or .255, which
	// some old network equipment drops.
	// +optional
	// +kubebuilder:default=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// serviceAllocation keeps the pool for certain Services, and prefers it
	// for them. A selector or name that matches nothing matches no Service: a
	// restriction never disappears.
	// +optional
	AllocateTo *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// quotas limit how many addresses of this pool one namespace may hold:
	// those that its Services have, and those that are reserved for them. An
	// address that Services share counts once for each of their namespaces.
	// The most specific quota decides: one that names the namespace, else one
	// that selects it, else one without namespaces; of several equally
	// specific ones, the lowest. What is assigned stays when a quota shrinks.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Quotas []NamespaceQuota `json:"quotas,omitempty"`
}

// NamespaceQuota is how many addresses of a pool a namespace may hold. Without
// namespaces and namespaceSelectors it is for every namespace, each on its own.
//
// +kubebuilder:validation:XValidation:rule="has(self.ipv4) || has(self.ipv6)",message="a quota needs ipv4, ipv6 or both: the most addresses of that family that a namespace may hold"
type NamespaceQuota struct {
	// namespaces are names of namespaces.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors select namespaces by their labels, in addition to
	// those in namespaces.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`

	// ipv4 is the most IPv4 addresses of the pool that a namespace may hold;
	// without it, this quota does not limit them.
	// +optional
	// +kubebuilder:validation:Minimum=0
	IPv4 *int32 `json:"ipv4,omitempty"`

	// ipv6 is the most IPv6 addresses of the pool that a namespace may hold;
	// without it, this quota does not limit them.
	// +optional
	// +kubebuilder:validation:Minimum=0
	IPv6 *int32 `json:"ipv6,omitempty"`
}

// ServiceAllocation says which Services may use a pool: those in one of the
// namespaces (if any is named or selected) and selected by one of the service
// selectors (if there are any).
type ServiceAllocation struct {
	// priority orders the pools that fit a Service: the lowest number is
	// tried first. 0 means last.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int `json:"priority,omitempty"`

	// namespaces are names of namespaces.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors select namespaces by their labels, in addition to
	// those in namespaces.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors select Services by their labels; one of them must
	// match.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus says how much of the pool is in use. Counts stop at the
// largest number they can hold.
type IPAddressPoolStatus struct {
	// assignedIPv4 is the number of IPv4 addresses in use.
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`

	// assignedIPv6 is the number of IPv6 addresses in use.
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`

	// availableIPv4 is the number of IPv4 addresses still free.
	// +optional
	AvailableIPv4 int64 `json:"availableIPv4"`

	// availableIPv6 is the number of IPv6 addresses still free.
	// +optional
	AvailableIPv6 int64 `json:"availableIPv6"`

	// reservedIPv4 is the number of IPv4 addresses that nobody uses and that
	// IPReservations hold. They are not counted as available.
	// +optional
	ReservedIPv4 int64 `json:"reservedIPv4,omitempty"`

	// reservedIPv6 is the same for IPv6.
	// +optional
	ReservedIPv6 int64 `json:"reservedIPv6,omitempty"`

	// usedIPv4 is "assigned/total" of IPv4, for people; empty if the pool has
	// no IPv4 address.
	// +optional
	UsedIPv4 string `json:"usedIPv4,omitempty"`

	// usedIPv6 is "assigned/total" of IPv6, for people; empty if the pool has
	// no IPv6 address.
	// +optional
	UsedIPv6 string `json:"usedIPv6,omitempty"`

	// conditions holds Valid: whether the pool is used, and if not, why. A
	// pool that became invalid is frozen: Services keep its addresses, new
	// ones get none.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressPoolList is a list of IPAddressPool.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the pools.
	Items []IPAddressPool `json:"items"`
}
