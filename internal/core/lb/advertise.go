// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"time"
)

// Scope is what the two kinds of advertisement have in common: which addresses
// and Services they cover, and from which nodes.
type Scope struct {
	// AllPools is set when the object names no pool at all; otherwise Pools
	// lists the pools that it names or selects, sorted.
	AllPools bool
	Pools    []string
	// NodeSelectors: any of them; nil means every node.
	NodeSelectors []Selector
	// ServiceSelectors: any of them; nil means every Service.
	ServiceSelectors []Selector
}

// L2Advertisement announces addresses by ARP and NDP.
type L2Advertisement struct {
	Name string
	Scope
	// Interfaces that answer; nil means every usable one. Sorted.
	Interfaces []string
	// Preferred gives nodes a score; the highest sum wins the election.
	Preferred []Preference
}

// Preference adds Weight to the score of nodes that Selector matches.
type Preference struct {
	Weight   int // 1..100
	Selector Selector
}

// BGPAdvertisement announces addresses as routes.
type BGPAdvertisement struct {
	Name string
	Scope
	AggregationLength   int // IPv4 prefix length
	AggregationLengthV6 int // IPv6 prefix length
	LocalPref           uint32
	Communities         []uint32         // RFC 1997, sorted
	LargeCommunities    []LargeCommunity // RFC 8092, sorted
	Peers               []string         // nil means all; sorted
	// WeightByEndpoints adds a link-bandwidth community in proportion to the
	// node's serving endpoints.
	WeightByEndpoints bool
}

// LargeCommunity is a BGP large community (RFC 8092).
type LargeCommunity struct {
	Global, Local1, Local2 uint32
}

// Peer is a router that nodes hold BGP sessions with.
type Peer struct {
	Name          string
	NodeSelectors []Selector // any of them; nil means every node

	MyASN uint32
	// PeerASN is 0 when DynamicASN is set.
	PeerASN uint32
	// DynamicASN is "", "internal" or "external".
	DynamicASN string
	// LocalASN, when not 0, is shown to this peer instead of MyASN.
	LocalASN uint32

	// Exactly one of Address and Interface is set.
	Address   netip.Addr
	Interface string

	SourceAddress netip.Addr // zero: the kernel's choice
	Port          uint16
	RouterID      netip.Addr // zero: derived from the node
	HoldTime      time.Duration
	KeepaliveTime time.Duration
	ConnectTime   time.Duration // 0: the default
	// Password is given in the clear, PasswordSecret by the name of a Secret.
	Password       string
	PasswordSecret string

	BFDProfile      string // "": no BFD
	GracefulRestart bool
	EBGPMultiHop    bool
	VRF             string
	DualStack       bool
}

// BFDProfile is the timing of BFD sessions (RFC 5880).
type BFDProfile struct {
	Name             string
	ReceiveInterval  time.Duration
	TransmitInterval time.Duration
	DetectMultiplier uint8
	EchoMode         bool
	EchoInterval     time.Duration
	Passive          bool
	MinimumTTL       uint8
}
