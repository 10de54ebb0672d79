// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
)

// IPReservation keeps addresses for Services of its own namespace: before they
// exist, and after they have been deleted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ipres
// +kubebuilder:printcolumn:name="Held",type=string,JSONPath=`.status.held`,description="held/wanted"
// +kubebuilder:printcolumn:name="In Use",type=integer,JSONPath=`.status.inUse`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addressList`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=1
type IPReservation struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec IPReservationSpec `json:"spec"`

	// status is what the controller holds.
	// +optional
	Status IPReservationStatus `json:"status,omitempty"`
}

// IPReservationSpec says which addresses are reserved, and for which Services.
// It names either addresses, or a pool and how many of its addresses.
//
// +kubebuilder:validation:XValidation:rule="has(self.addresses) != (has(self.ipv4) || has(self.ipv6))",message="give either addresses, or pool together with ipv4, ipv6 or both: the number of addresses of each family"
// +kubebuilder:validation:XValidation:rule="has(self.pool) == (has(self.ipv4) || has(self.ipv6))",fieldPath=".pool",message="pool goes together with ipv4, ipv6 or both: the number of addresses of each family that are taken from it"
// +kubebuilder:validation:XValidation:rule="!(has(self.ipv4) || has(self.ipv6)) || (has(self.ipv4) ? self.ipv4 : 0) + (has(self.ipv6) ? self.ipv6 : 0) > 0",message="ipv4 and ipv6 are both 0: ask for at least one address"
type IPReservationSpec struct {
	// addresses are the addresses to reserve, each one address such as
	// 192.0.2.10 or 2001:db8::10. They must be in pools that the namespace may
	// use.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",messageExpression="'addresses: \"' + self + '\" is no address: write each one as 192.0.2.10 or 2001:db8::10, without a prefix length'"
	Addresses []string `json:"addresses,omitempty"`

	// pool is the IPAddressPool that a number of addresses is taken from. Once
	// chosen they are recorded in the status and stay the same.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`

	// ipv4 is how many IPv4 addresses of the pool to reserve.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=256
	IPv4 *int32 `json:"ipv4,omitempty"`

	// ipv6 is how many IPv6 addresses of the pool to reserve.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=256
	IPv6 *int32 `json:"ipv6,omitempty"`

	// services are names of Services of this namespace that may use the
	// addresses. They need not exist yet.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	Services []string `json:"services,omitempty"`

	// serviceSelectors select Services of this namespace by their labels, in
	// addition to those in services. Without services and serviceSelectors the
	// addresses are for every Service of the namespace.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []v1beta1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// ReservedState says what a reserved address is doing.
// +kubebuilder:validation:Enum=Free;InUse;Waiting
type ReservedState string

// The states of a reserved address.
const (
	// ReservedFree: ready for a Service of the reservation.
	ReservedFree ReservedState = "Free"
	// ReservedInUse: a Service of the reservation has it.
	ReservedInUse ReservedState = "InUse"
	// ReservedWaiting: another Service had it before, and keeps it as long as
	// it wants it. Nobody else gets it afterwards.
	ReservedWaiting ReservedState = "Waiting"
)

// IPReservationStatus says what the reservation holds.
type IPReservationStatus struct {
	// held is "held/wanted", the numbers of addresses.
	// +optional
	Held string `json:"held,omitempty"`

	// inUse is how many addresses Services of the reservation have.
	// +optional
	InUse int32 `json:"inUse"`

	// addressList is the first of the addresses, for people.
	// +optional
	AddressList string `json:"addressList,omitempty"`

	// addresses are the addresses that are held. What a number of addresses
	// stands for is recorded here: if it is removed, others may be chosen.
	// +optional
	// +listType=map
	// +listMapKey=address
	Addresses []ReservedAddress `json:"addresses,omitempty"`

	// conditions holds Valid: whether the reservation holds all that it names,
	// and if not, why.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ReservedAddress is an address that a reservation holds.
type ReservedAddress struct {
	// address is the address.
	// +required
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`

	// pool is the IPAddressPool that has it; empty if no usable one has.
	// +optional
	Pool string `json:"pool,omitempty"`

	// state is Free, InUse (by a Service of the reservation) or Waiting
	// (another Service still has it).
	// +optional
	State ReservedState `json:"state,omitempty"`

	// usedBy are the Services that have it, each as namespace/name.
	// +optional
	// +listType=atomic
	UsedBy []string `json:"usedBy,omitempty"`

	// lastUsedBy are the names of the Services of the reservation that have
	// it, had it last, or shared it with those that have it. They get it back
	// when they return.
	// +optional
	// +listType=atomic
	LastUsedBy []string `json:"lastUsedBy,omitempty"`
}

// IPReservationList is a list of IPReservation.
//
// +kubebuilder:object:root=true
type IPReservationList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the reservations.
	Items []IPReservation `json:"items"`
}
