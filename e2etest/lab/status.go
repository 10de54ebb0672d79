// SPDX-License-Identifier: Apache-2.0

package lab

import "net/netip"

// Status describes a running lab.
type Status struct {
	Name      string
	Ready     bool
	Namespace string
	ProxyMode string
	Families  string
	// Kubernetes is the version of the control plane.
	Kubernetes string
	// APIServer is the URL of the API server as seen inside the lab.
	APIServer string
	// LAN holds one prefix per family.
	LAN []netip.Prefix
	// Pods and Services hold the cluster-wide ranges, one per family.
	Pods, Services []netip.Prefix
	Nodes          []NodeStatus
	Clients        []HostStatus
	Routers        []HostStatus
}

// Cable is the state of a node's connection to the LAN.
type Cable string

// The states of a cable.
const (
	CablePlugged    Cable = "plugged"
	CableCut        Cable = "cut"        // no carrier: the node sees its link go down
	CableBlackholed Cable = "blackholed" // the carrier stays, but no frame passes
)

// Power is the state of a node as a machine.
type Power string

// The states of a machine.
const (
	PowerOn     Power = "on"
	PowerFrozen Power = "frozen" // every process is stopped, the kernel still answers
	PowerOff    Power = "off"    // nothing is left of it but its entry in the cluster
)

// HostStatus describes one machine on the LAN.
type HostStatus struct {
	Name string
	// IPs are the addresses on the LAN, one per family, IPv4 first.
	IPs []netip.Addr
	// MAC is the hardware address of eth0.
	MAC string
}

// NodeStatus describes one node.
type NodeStatus struct {
	HostStatus
	Pods  []netip.Prefix
	Power Power
	Cable Cable
	// InnerPID is the process id of the node's agent inside the lab; 0 when the node is off.
	InnerPID int
}

// Node returns the node of that name.
func (s Status) Node(name string) (NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeStatus{}, false
}
