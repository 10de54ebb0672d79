// SPDX-License-Identifier: Apache-2.0

// Package api holds the names Herald shares with its users: labels,
// annotations, condition types, event reasons and event sources.
//
// The kinds themselves are in the packages below it: v1beta1 and v1beta2
// (group metallb.io) and v1alpha1 (group heraldlb.io).
package api

import "time"

// Groups of the API.
const (
	// GroupMetalLB is the group of every configuration kind. It is MetalLB's,
	// so that manifests work unchanged with either implementation.
	GroupMetalLB = "metallb.io"
	// GroupHerald is the group of the kinds that only Herald has.
	GroupHerald = "heraldlb.io"
)

// Prefixes of annotations. An annotation may be written with either; when both
// are present the one with Prefix counts.
const (
	Prefix       = "metallb.io/"
	PrefixLegacy = "metallb.universe.tf/"
)

// Annotations read from a Service.
const (
	// AnnotationLoadBalancerIPs is a comma separated list of wanted addresses,
	// at most one per family.
	AnnotationLoadBalancerIPs       = Prefix + "loadBalancerIPs"
	AnnotationLoadBalancerIPsLegacy = PrefixLegacy + "loadBalancerIPs"

	// AnnotationAddressPool names the pool the addresses must come from.
	AnnotationAddressPool       = Prefix + "address-pool"
	AnnotationAddressPoolLegacy = PrefixLegacy + "address-pool"

	// AnnotationAllowSharedIP is the sharing key: Services with the same
	// non-empty key may share an address.
	AnnotationAllowSharedIP       = Prefix + "allow-shared-ip"
	AnnotationAllowSharedIPLegacy = PrefixLegacy + "allow-shared-ip"

	// AnnotationL2MoveTo is a wish, "NODE TIME" with the time as in RFC 3339:
	// that the node should answer for the Service's addresses from now on. It
	// counts only while it is new (MoveValid), so that it is granted once and
	// pins nothing. It is what heraldctl l2 move writes.
	AnnotationL2MoveTo = GroupHerald + "/l2-move-to"
)

// MoveValid is how old the time in AnnotationL2MoveTo may be when a speaker
// first sees it.
const MoveValid = time.Minute

// Annotations written to a Service.
const (
	// AnnotationAllocatedFromPool names the pool the addresses came from.
	AnnotationAllocatedFromPool       = Prefix + "ip-allocated-from-pool"
	AnnotationAllocatedFromPoolLegacy = PrefixLegacy + "ip-allocated-from-pool"

	// AnnotationAssignedAt says since when the Service has each address:
	// ADDRESS=TIME, separated by commas. An address that it had before Herald
	// came is left out.
	AnnotationAssignedAt = GroupHerald + "/assigned-at"
)

// Labels of the objects Herald writes.
const (
	// LabelNode, LabelServiceName and LabelServiceNamespace are set on every
	// ServiceL2Status, ServiceBGPStatus and (LabelNode only) BGPSession.
	LabelNode             = Prefix + "node"
	LabelServiceName      = Prefix + "service-name"
	LabelServiceNamespace = Prefix + "service-namespace"

	// LabelComponentType is ComponentController or ComponentSpeaker.
	LabelComponentType = Prefix + "component-type"
	// LabelNodeName is set on the ConfigurationState of a speaker.
	LabelNodeName = Prefix + "node-name"

	// LabelPeer names the BGPPeer of a BGPSession.
	LabelPeer = GroupHerald + "/peer"
)

// LabelExcludeNode is the well-known label that keeps a node from announcing.
const LabelExcludeNode = "node.kubernetes.io/exclude-from-external-load-balancers"

// Values of LabelComponentType, and the names of ConfigurationState objects:
// ComponentController, and ComponentSpeaker followed by "-" and the node.
const (
	ComponentController = "controller"
	ComponentSpeaker    = "speaker"
)

// Prefixes for generated names of the per-Service status objects.
const (
	GenerateNameL2Status  = "l2-"
	GenerateNameBGPStatus = "bgp-"
)

// Condition types.
const (
	// ConditionValid is set on every configuration object.
	ConditionValid = "Valid"
	// ConditionAllocated is set on a Service by the controller.
	ConditionAllocated = GroupHerald + "/Allocated"
	// ConditionAnnounced is set on a Service by a speaker.
	ConditionAnnounced = GroupHerald + "/Announced"
	// ConditionPoolReconcilerValid is set on the controller's
	// ConfigurationState.
	ConditionPoolReconcilerValid = "poolReconcilerValid"
	// ConditionConfigReconcilerValid is set on a speaker's ConfigurationState.
	ConditionConfigReconcilerValid = "configReconcilerValid"
	// ConditionConnected is set on a speaker's ConfigurationState: whether it
	// hears other speakers.
	ConditionConnected = GroupHerald + "/Connected"
)

// Reasons of the conditions of a ConfigurationState.
const (
	ReasonReconciled         = "Reconciled"
	ReasonConfigurationError = "ConfigurationError"
	ReasonUnknownError       = "UnknownError"
	ReasonConnected          = "Connected"
	ReasonCutOff             = "CutOff"
)

// Sources of events, named as alerts and runbooks already know them.
const (
	EventSourceController = "metallb-controller"
	EventSourceSpeaker    = "metallb-speaker"
)

// Reasons of events of the controller.
const (
	EventIPAllocated            = "IPAllocated"
	EventClearAssignment        = "ClearAssignment"
	EventAllocationFailed       = "AllocationFailed"
	EventLoadBalancerFailed     = "LoadBalancerFailed"
	EventAdditionalAssignFailed = "AdditionalAssignFailed"
	EventDeprecatedAnnotation   = "deprecatedAnnotation"
	// EventInvalid is sent, as a warning, about a configuration object that
	// became invalid.
	EventInvalid = "Invalid"
)

// Reasons of events of a speaker.
const (
	EventNodeAssigned   = "nodeAssigned"
	EventAnnounceFailed = "announceFailed"
)
