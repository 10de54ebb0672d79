// SPDX-License-Identifier: Apache-2.0

package reason

//go:generate go run ../../reasondoc ../../../docs/reasons.md

// Reasons of the Service condition heraldlb.io/Allocated.
const (
	AddressAssigned      Code = "AddressAssigned"
	AddressKept          Code = "AddressKept"
	SecondFamilyMissing  Code = "SecondFamilyMissing"
	NoPools              Code = "NoPools"
	NoPoolFits           Code = "NoPoolFits"
	PoolsExhausted       Code = "PoolsExhausted"
	UnknownPool          Code = "UnknownPool"
	PoolNotAllowed       Code = "PoolNotAllowed"
	PoolInvalid          Code = "PoolInvalid"
	AddressNotInPool     Code = "AddressNotInPool"
	AddressInUse         Code = "AddressInUse"
	AddressFreeing       Code = "AddressFreeing"
	SharingRefused       Code = "SharingRefused"
	InvalidRequest       Code = "InvalidRequest"
	FamilyMismatch       Code = "FamilyMismatch"
	DualStackUnavailable Code = "DualStackUnavailable"
	HeadlessService      Code = "HeadlessService"
	ServiceDeleting      Code = "ServiceDeleting"
	QuotaExceeded        Code = "QuotaExceeded"
	AddressReserved      Code = "AddressReserved"
)

// Reasons of the Service condition heraldlb.io/Announced.
const (
	Announcing      Code = "Announcing"
	NoAddress       Code = "NoAddress"
	NoAdvertisement Code = "NoAdvertisement"
	NoEndpoints     Code = "NoEndpoints"
	NoCandidate     Code = "NoCandidate"
	NoSpeaker       Code = "NoSpeaker"
	NoSession       Code = "NoSession"
	ProxyNotReady   Code = "ProxyNotReady"
	AddressConflict Code = "AddressConflict"
	InterfaceError  Code = "InterfaceError"
)

// Reasons why a node does or does not announce a Service.
const (
	NodeOwner              Code = "Owner"
	NodeNotElected         Code = "NotElected"
	NodeNotSelected        Code = "NodeNotSelected"
	NodeExcluded           Code = "NodeExcluded"
	NodeNetworkUnavailable Code = "NodeNetworkUnavailable"
	NodeNoEndpoint         Code = "NoLocalEndpoint"
	NodeNoInterface        Code = "NoInterface"
	NodeNotAlive           Code = "NoLiveSpeaker"
	NodeNoPeer             Code = "NoPeer"
)

// Reasons of the condition Valid of configuration objects.
const (
	ObjectValid        Code = "Valid"
	BadAddress         Code = "BadAddress"
	PoolOverlap        Code = "PoolOverlap"
	BadSelector        Code = "BadSelector"
	UnknownReference   Code = "UnknownReference"
	UnknownCommunity   Code = "UnknownCommunity"
	DuplicateCommunity Code = "DuplicateCommunity"
	ConflictingLocal   Code = "ConflictingLocalPref"
	BadField           Code = "BadField"
	AddressOutsidePool Code = "AddressOutsidePools"
	ReservedByOther    Code = "ReservedByOther"
	ReservationShort   Code = "ReservationIncomplete"
	ReservationQuota   Code = "ReservationOverQuota"
	ReservationWaits   Code = "ReservationWaits"
)

func list() []Info {
	return []Info{
		{AddressAssigned, Allocated, true, "The Service has got all the addresses it wants.", ""},
		{AddressKept, Allocated, true, "The Service keeps its address although its pool cannot be used right now (it is invalid, or no pool can be read).", "Repair the pool that the message names."},
		{SecondFamilyMissing, Allocated, true, "PreferDualStack: the Service has an address of one family, none of the other is free yet.", "Add addresses of the missing family to a pool that fits, if you want both."},
		{NoPools, Allocated, false, "There is no IPAddressPool.", "Create an IPAddressPool in Herald's namespace."},
		{NoPoolFits, Allocated, false, "Pools exist, but none may serve this Service. The message names each and says why.", "Change the pool's serviceAllocation or autoAssign, or ask for a pool with the annotation metallb.io/address-pool."},
		{PoolsExhausted, Allocated, false, "Every pool that may serve the Service is full.", "Add addresses to one of the pools that the message names, or free some. The longest-waiting Service is served first."},
		{UnknownPool, Allocated, false, "The pool asked for does not exist.", "Correct the annotation metallb.io/address-pool, or create the pool."},
		{PoolNotAllowed, Allocated, false, "The pool asked for is not for this Service: its serviceAllocation says so.", "Ask for another pool, or change the pool's serviceAllocation."},
		{PoolInvalid, Allocated, false, "The pool asked for is invalid and hands out nothing.", "Repair the pool: its condition Valid says what is wrong."},
		{AddressNotInPool, Allocated, false, "The address asked for is in no pool that may serve this Service.", "Ask for another address, or add it to a pool."},
		{AddressInUse, Allocated, false, "The address asked for belongs to another Service and is not shared.", "Ask for another address, or let both Services share it with metallb.io/allow-shared-ip."},
		{AddressFreeing, Allocated, false, "The address that the Service gets is being taken from another Service, or another address is, which makes room in the quota of the namespace. It follows when that has been written.", "Nothing: it takes a moment. If it stays, the message names a Service that cannot be written to, and the controller's log says why."},
		{SharingRefused, Allocated, false, "The address asked for is shared, but not with this Service: key, ports or backends do not fit.", "Use the same sharing key, distinct ports, and the same selector with externalTrafficPolicy Local."},
		{InvalidRequest, Allocated, false, "The Service's annotations or spec.loadBalancerIP cannot be understood.", "Correct what the message names."},
		{FamilyMismatch, Allocated, false, "The addresses asked for are not of the families of the Service.", "Ask for one address for each family in spec.ipFamilies."},
		{DualStackUnavailable, Allocated, false, "RequireDualStack: no pool, nor two pools together, can give an address of each family.", "Add addresses of the missing family, or use PreferDualStack."},
		{HeadlessService, Allocated, false, "The Service has no ClusterIP, so there is nothing an external address could lead to.", "Remove clusterIP: None."},
		{ServiceDeleting, Allocated, true, "The Service is being deleted and waits for a finalizer. It keeps its addresses until it is gone, and gets no others.", ""},
		{QuotaExceeded, Allocated, false, "A pool has free addresses, but the Service's namespace holds as many of it as its quota allows. The message says quota, used and limit.", "Free an address of the namespace, or raise the quota in spec.quotas of the pool."},
		{AddressReserved, Allocated, false, "The address asked for is reserved for other Services.", "Ask for another address, or have the IPReservation that the message names changed."},

		{Announcing, Announced, true, "A node answers for the Service's addresses; the message names it.", ""},
		{NoAddress, Announced, false, "There is no address to announce yet.", "See the condition heraldlb.io/Allocated."},
		{NoAdvertisement, Announced, false, "No L2Advertisement or BGPAdvertisement covers both the pool of the address and the Service.", "Create an L2Advertisement; without ipAddressPools it covers all pools."},
		{NoEndpoints, Announced, false, "No endpoint of the Service is serving, so nobody announces it.", "See why the Service's Pods are not ready, or whether its selector matches any."},
		{NoCandidate, Announced, false, "Advertisements exist, but no node may announce the Service. The message says why, node by node.", "See the reasons of the nodes."},
		{NoSpeaker, Announced, false, "Nodes may announce the Service, but no speaker runs on any of them.", "See why the speaker Pods on the nodes that the message names are not running."},
		{NoSession, Announced, false, "Nodes want to announce the Service with BGP, but the session with no router is established. While the status is Unknown, the node that the condition named has lost its sessions, and the others have a moment to say that they announce it.", "See why: kubectl get bgpsessions -A -o wide, or heraldctl bgp sessions."},
		{ProxyNotReady, Announced, false, "Nodes with endpoints of the Service wait with their routes until kube-proxy says, at the Service's health check node port, that it forwards to them; for at most 10 seconds. With externalTrafficPolicy Cluster they wait as long as --bgp-announce-delay says.", "See whether kube-proxy runs on the node, and what its log says."},
		{AddressConflict, Announced, false, "Something else on the network answers for the address; the message gives its MAC address.", "Find the machine with that MAC address, or take the address out of the pool. With kube-proxy in IPVS mode set strictARP: true."},
		{InterfaceError, Announced, false, "The node that should answer for the address cannot: the operating system lets it open no socket on its interfaces, and no other node may take the address, or none could so far.", "See the message. The speaker needs the capability NET_RAW, and as many open files as sockets; its log has the same error."},

		{NodeOwner, Node, true, "The node answers for the address.", ""},
		{NodeNotElected, Node, true, "The node could announce the address; another one does.", ""},
		{NodeNotSelected, Node, false, "No advertisement of the Service selects the node.", "Change nodeSelectors of the advertisement. If the address is shared, have the advertisement select all Services that share it."},
		{NodeExcluded, Node, false, "The node has the label node.kubernetes.io/exclude-from-external-load-balancers.", "Remove the label, or run Herald with --ignore-exclude-lb."},
		{NodeNetworkUnavailable, Node, false, "The node's condition NetworkUnavailable is True.", "Repair the node's network; the CNI plug-in clears the condition."},
		{NodeNoEndpoint, Node, false, "externalTrafficPolicy is Local and no serving endpoint is on the node.", ""},
		{NodeNoInterface, Node, false, "The node has none of the interfaces that may announce, or they are down.", "Correct interfaces of the L2Advertisement, or bring the interface up."},
		{NodeNotAlive, Node, false, "No speaker of that node is heard in gossip.", "See why the speaker Pod on the node is not running or cannot be reached on the memberlist port."},
		{NodeNoPeer, Node, false, "No valid BGPPeer selects the node, or none that the Service's BGPAdvertisement names.", "Change nodeSelectors of the BGPPeer, or peers of the BGPAdvertisement."},

		{ObjectValid, Object, true, "The object is in use.", ""},
		{BadAddress, Object, false, "An entry of addresses is not a CIDR or a range.", "Write it as 192.0.2.0/24 or 192.0.2.10-192.0.2.20."},
		{PoolOverlap, Object, false, "The pool shares addresses with an older pool. It is frozen: what it gave stays, it gives nothing new.", "Remove the shared addresses from one of the two pools."},
		{BadSelector, Object, false, "A label selector cannot be understood.", "Correct the selector that the message names."},
		{UnknownReference, Object, false, "The object names another object that does not exist. An advertisement goes on to serve the pools and peers that do.", "Create that object, or correct the name."},
		{UnknownCommunity, Object, false, "A community is neither n:n, large:n:n:n nor the name in a Community object.", "Correct it, or define the name in a Community object."},
		{DuplicateCommunity, Object, false, "An older Community object defines the same name.", "Rename one of them."},
		{ConflictingLocal, Object, false, "An older BGPAdvertisement gives the same prefix, node and peer another localPref.", "Give both the same localPref, or limit their nodes or peers."},
		{BadField, Object, false, "A field has a value that cannot be used.", "Correct what the message names."},

		{AddressOutsidePool, Object, false, "An address of the IPReservation is in no pool that its namespace may use.", "Ask for another address, or for one of a pool that is for the namespace."},
		{ReservedByOther, Object, false, "Another IPReservation holds an address that this one wants. Who held it first has it; of two that come at once, the older.", "Ask for another address, or delete the other reservation."},
		{ReservationShort, Object, false, "The pool has fewer free addresses than the IPReservation wants. It gets more as they become free.", "Lower the number, or add addresses to the pool."},
		{ReservationQuota, Object, false, "The namespace may hold fewer addresses of the pool than the IPReservation wants: what is reserved counts, too.", "Lower the number, or raise the quota in spec.quotas of the pool."},
		{ReservationWaits, Object, true, "Another Service still has an address of the IPReservation. It keeps it; when it gives it up, nobody else gets it.", "Nothing, or delete that Service."},
	}
}
