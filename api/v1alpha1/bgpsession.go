// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPSession is the session of one node with one peer. The node writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Peer",type=string,JSONPath=`.status.peer`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
// +kubebuilder:printcolumn:name="Prefixes",type=integer,JSONPath=`.status.prefixesSent`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.status.bfdState`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.peerAddress`,priority=1
// +kubebuilder:printcolumn:name="Last Error",type=string,JSONPath=`.status.lastError`,priority=1
type BGPSession struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what the node sees.
	// +optional
	Status BGPSessionStatus `json:"status,omitempty"`
}

// SessionState is a state of RFC 4271, section 8.2.2.
// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established
type SessionState string

// The states of a BGP session.
const (
	SessionIdle        SessionState = "Idle"
	SessionConnect     SessionState = "Connect"
	SessionActive      SessionState = "Active"
	SessionOpenSent    SessionState = "OpenSent"
	SessionOpenConfirm SessionState = "OpenConfirm"
	SessionEstablished SessionState = "Established"
)

// BFDState is a state of RFC 5880, section 4.1, or empty without BFD.
// +kubebuilder:validation:Enum="";AdminDown;Down;Init;Up
type BFDState string

// The states of a BFD session.
const (
	BFDNone      BFDState = ""
	BFDAdminDown BFDState = "AdminDown"
	BFDDown      BFDState = "Down"
	BFDInit      BFDState = "Init"
	BFDUp        BFDState = "Up"
)

// BGPSessionStatus is the state of a session.
type BGPSessionStatus struct {
	// node is the name of the node.
	// +optional
	Node string `json:"node,omitempty"`

	// peer is the name of the BGPPeer object.
	// +optional
	Peer string `json:"peer,omitempty"`

	// peerAddress is the address of the router, as found.
	// +optional
	PeerAddress string `json:"peerAddress,omitempty"`

	// state is the state of the session.
	// +optional
	State SessionState `json:"state,omitempty"`

	// since is when the session entered state. Of a session that is down and tried
	// again and again it is when it went down, or was first tried.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// lastError says in words why the session was last closed or could not be
	// opened.
	// +optional
	LastError string `json:"lastError,omitempty"`

	// prefixesSent is the number of prefixes announced to the router.
	// +optional
	PrefixesSent int32 `json:"prefixesSent"`

	// bfdState is the state of the BFD session with the router; empty without
	// BFD.
	// +optional
	BFDState BFDState `json:"bfdState,omitempty"`
}

// BGPSessionList is a list of BGPSession.
//
// +kubebuilder:object:root=true
type BGPSessionList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	// items are the sessions.
	Items []BGPSession `json:"items"`
}
