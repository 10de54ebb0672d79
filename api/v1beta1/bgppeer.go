// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that nodes hold a BGP session with.
//
// It is stored as v1beta2. This version has the same fields, so an object
// read and written back as v1beta1 loses nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion:warning="metallb.io/v1beta1 BGPPeer is deprecated, write it as metallb.io/v1beta2: the fields are the same"
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Multi Hops",type=string,JSONPath=`.spec.ebgpMultiHop`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].message`,priority=1
type BGPPeer struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec BGPPeerSpec `json:"spec"`

	// status is what Herald sees.
	// +optional
	Status ConfigurationStatus `json:"status,omitempty"`
}

// DynamicASN says what AS number to accept from a peer.
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// The kinds of dynamic AS numbers.
const (
	// DynamicASNInternal accepts only the local AS number.
	DynamicASNInternal DynamicASN = "internal"
	// DynamicASNExternal accepts any but the local AS number.
	DynamicASNExternal DynamicASN = "external"
)

// BGPPeerSpec says how to reach the router, and how to talk with it. Both
// versions of BGPPeer use it.
//
// +kubebuilder:validation:XValidation:rule="(has(self.peerASN) && self.peerASN != 0) || has(self.dynamicASN)",message="neither peerASN nor dynamicASN is set: set peerASN to the AS number of the router, or dynamicASN to internal or external"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerASN) && self.peerASN != 0) || !has(self.dynamicASN)",fieldPath=".dynamicASN",messageExpression="'dynamicASN ' + self.dynamicASN + ' and peerASN exclude each other: remove one of them'"
// +kubebuilder:validation:XValidation:rule="(has(self.peerAddress) && size(self.peerAddress) > 0) || (has(self.interface) && size(self.interface) > 0)",message="neither peerAddress nor interface is set: set peerAddress to the address of the router, or interface to the network interface behind which it is"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerAddress) && size(self.peerAddress) > 0) || !(has(self.interface) && size(self.interface) > 0)",fieldPath=".interface",messageExpression="'interface ' + self.interface + ' and peerAddress ' + self.peerAddress + ' exclude each other: remove one of them'"
// +kubebuilder:validation:XValidation:rule="!(has(self.password) && size(self.password) > 0) || !(has(self.passwordSecret) && has(self.passwordSecret.name) && size(self.passwordSecret.name) > 0)",fieldPath=".passwordSecret",messageExpression="'passwordSecret ' + self.passwordSecret.name + ' and password exclude each other: remove password'"
// +kubebuilder:validation:XValidation:rule="!(has(self.ebgpMultiHop) && self.ebgpMultiHop) || !((has(self.peerASN) && self.peerASN == self.myASN) || (has(self.dynamicASN) && self.dynamicASN == 'internal'))",fieldPath=".ebgpMultiHop",message="ebgpMultiHop true is for a peer of another AS, but peerASN is the same as myASN (or dynamicASN is internal): remove ebgpMultiHop, or correct peerASN"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !self.keepaliveTime.matches('^(0|([0-9]{1,6}([.][0-9]+)?[hm]|[0-9]{1,12}([.][0-9]+)?(s|ms|us|ns))+)$') || (has(self.holdTime) && !self.holdTime.matches('^(0|([0-9]{1,6}([.][0-9]+)?[hm]|[0-9]{1,12}([.][0-9]+)?(s|ms|us|ns))+)$')) || duration(self.keepaliveTime) <= (has(self.holdTime) ? duration(self.holdTime) : duration('90s'))",fieldPath=".keepaliveTime",messageExpression="'keepaliveTime ' + self.keepaliveTime + ' is longer than holdTime ' + (has(self.holdTime) ? self.holdTime : '90s') + ': make it a third of holdTime, or remove it'"
type BGPPeerSpec struct {
	// myASN is the AS number of this end.
	// +required
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN uint32 `json:"myASN"`

	// peerASN is the AS number the router must have. Exactly one of peerASN
	// and dynamicASN is set.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN uint32 `json:"peerASN,omitempty"`

	// dynamicASN accepts the AS number the router says it has, if it is the
	// same as myASN (internal) or another (external).
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// localASN is shown to the router instead of myASN, which then does not
	// appear in the AS path.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN uint32 `json:"localASN,omitempty"`

	// peerAddress is the address of the router. Exactly one of peerAddress
	// and interface is set.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",messageExpression="'peerAddress \"' + self + '\" is no IP address: write one such as 192.0.2.1 or 2001:db8::1, without a prefix length; for a link-local address use interface'"
	PeerAddress string `json:"peerAddress,omitempty"`

	// interface is the network interface of the node behind which the router
	// is found by its IPv6 link-local address (unnumbered BGP).
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Interface string `json:"interface,omitempty"`

	// sourceAddress is the local address of the session.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",messageExpression="'sourceAddress \"' + self + '\" is no IP address: write one such as 192.0.2.1 or 2001:db8::1'"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// peerPort is the TCP port of the router.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Format=int32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16384
	PeerPort uint16 `json:"peerPort,omitempty"`

	// holdTime is how long the session survives silence: 0s (for ever) or at
	// least 3s, in whole seconds. Absent: 90s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]{1,6}([.][0-9]+)?[hm]|[0-9]{1,12}([.][0-9]+)?(s|ms|us|ns))+)$') && (duration(self) == duration('0s') || (duration(self) >= duration('3s') && duration(self) < duration('65536s')))",messageExpression="'holdTime \"' + self + '\" is no possible hold time: write 0s (never), or 3s to 65535s, such as 90s'"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// keepaliveTime is the interval of keepalive messages, at most holdTime.
	// Absent: a third of holdTime.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]{1,6}([.][0-9]+)?[hm]|[0-9]{1,12}([.][0-9]+)?(s|ms|us|ns))+)$')",messageExpression="'keepaliveTime \"' + self + '\" is no duration: write one such as 30s'"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// connectTime is the longest wait between attempts to connect: 1s to
	// 65535s, in whole seconds.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]{1,6}([.][0-9]+)?[hm]|[0-9]{1,12}([.][0-9]+)?(s|ms|us|ns))+)$') && duration(self) >= duration('1s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",messageExpression="'connectTime \"' + self + '\" is no possible time: write whole seconds from 1s to 65535s, such as 10s'"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// routerID identifies this end, written as an IPv4 address. Absent: the
	// first IPv4 address of the node, or a number made from its name.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 4)",messageExpression="'routerID \"' + self + '\" is no IPv4 address: write one such as 192.0.2.1, or remove routerID'"
	RouterID string `json:"routerID,omitempty"`

	// nodeSelectors select the nodes that hold the session; one of them must
	// match. Empty: all nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// password protects the session with TCP MD5 (RFC 2385). At most one of
	// password and passwordSecret is set.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Password string `json:"password,omitempty"`

	// passwordSecret names a Secret of type kubernetes.io/basic-auth in the
	// namespace of Herald whose key "password" is the password.
	// +optional
	PasswordSecret SecretReference `json:"passwordSecret,omitzero"`

	// bfdProfile names the BFDProfile that watches the router. Empty: no BFD.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BFDProfile string `json:"bfdProfile,omitempty"`

	// enableGracefulRestart asks the router to keep the routes while the
	// speaker restarts (RFC 4724). It cannot be changed.
	// +optional
	// +kubebuilder:default=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="(oldSelf ? 'enableGracefulRestart cannot change from true to false, since' : 'enableGracefulRestart cannot change from false to true, since') + ' it is agreed when a session opens: delete the BGPPeer and create it again'"
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`

	// ebgpMultiHop allows routers between this end and a peer of another AS.
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// vrf is the VRF device the session is bound to.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	VRF string `json:"vrf,omitempty"`

	// dualStackAddressFamily announces both address families on the session,
	// not only the family of the peer's address.
	// +optional
	// +kubebuilder:default=false
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`

	// disableMP has no effect any more.
	// +optional
	// +kubebuilder:default=false
	DisableMP bool `json:"disableMP,omitempty"`
}

// SecretReference names a Secret.
// +structType=atomic
type SecretReference struct {
	// name is the name of the Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace is the namespace of the Secret; only that of Herald is read.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Namespace string `json:"namespace,omitempty"`
}

// BGPPeerList is a list of BGPPeer.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the peers.
	Items []BGPPeer `json:"items"`
}
