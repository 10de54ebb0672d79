// SPDX-License-Identifier: Apache-2.0

// Package l2 decides what a node says on a link about the addresses it owns: which ARP requests (RFC 826, RFC 5227)
// and IPv6 neighbour solicitations (RFC 4861) it answers, when it announces an address unasked, and who else was
// seen to claim it.
//
// It is a machine: packets and the time go in, packets come out. It has no socket, clock, goroutine or lock; the
// driver rawl2 gives it all of these. One packet costs two map look-ups, however many addresses are owned, and
// allocates nothing.
//
// An address on one interface goes through these phases. Only while announcing is it answered for:
//
//	              link up, has a MAC
//	Idle ──────────────────────────────────> Announcing ──┐ link up again, new MAC, told to: the burst of
//	 │  no node of the cluster had it before       ^  ^   │ announcements starts again; claimed by a stranger:
//	 └──────────────> Probing ─── silence ─────────┘  └───┘ announced at once, at most every Config.Defend
//	                   │   ^
//	  somebody has it, │   │ later, and later each time, up to Config.ProbeAgain
//	  or wants it      v   │
//	                 Contested
//
// Probing is RFC 5227 section 2.1.1 for IPv4 and RFC 4862 section 5.4 for IPv6, in less time: the addresses are given
// by a controller, so that there is hardly ever somebody else, and a Service waits. Defending is RFC 5227 section 2.4
// (c): an address of a Service is never given up because somebody else uses it too.
//
// A kernel that has the address on an interface of its own, as with kube-proxy in IPVS mode, speaks only when asked. So
// the machine also asks some time after a take-over and at each slow refresh. State.Conflicts lists what it heard.
package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// MAC is an Ethernet address. The zero value means "none".
type MAC [6]byte

// String writes the address the usual way: 02:00:5e:10:00:01.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText makes the address readable in JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// IsUnicast reports whether the address can belong to one station.
func (m MAC) IsUnicast() bool { return m != MAC{} && m[0]&1 == 0 }

// Link is a network interface of this node.
type Link struct {
	Name  string
	Index int
	MAC   MAC
	Up    bool // set up by the administrator, and has carrier
}

func (l Link) usable() bool { return l.Up && l.MAC.IsUnicast() }

// Address is an address that this node answers for.
type Address struct {
	IP         netip.Addr
	Interfaces []string // sorted names of the interfaces to answer on; those that do not exist or are down wait
	// Probe asks to find out first whether somebody outside the cluster has the address: no node of the cluster held
	// it before. It counts when the address is new; an address that is announced is not silenced by it.
	Probe bool
	// Round makes an address that is announced already be announced again as if taken over anew, when it differs from
	// the last Set's.
	Round uint64
	// Hushed answers for the address, but does not announce it: another node is about to take it over, and the network must
	// believe the one that it heard last. An address that is no longer hushed is announced as if taken over anew.
	Hushed bool
}

// Wanted is everything that should be so. Links lists all links of the node, also those on which nothing is
// announced: a claim from one of our own MACs is no conflict.
type Wanted struct {
	Links     []Link
	Addresses []Address // without duplicates; State keeps this order
	// Peers are the MACs of the other nodes of the cluster. They may claim our addresses while these move: who owns
	// what is settled elsewhere.
	Peers []MAC
}

// State is what is so.
type State struct {
	Addresses []AddressState   // in the order of Wanted
	Conflicts []Conflict       // sorted by address, interface, MAC
	Errors    []InterfaceError // sorted by interface; filled by the driver
}

// Phase says how far an address is on its way. See the package comment.
type Phase string

// The phases. An address on several interfaces is in the most advanced of theirs.
const (
	// PhaseIdle means wanted, but none of its interfaces is usable.
	PhaseIdle Phase = "Idle"
	// PhaseContested means that somebody else has it; it is not answered for, and probed again from time to time.
	PhaseContested Phase = "Contested"
	// PhaseProbing means that it is being found out whether somebody else has it; not answered for yet.
	PhaseProbing Phase = "Probing"
	// PhaseAnnouncing means answered for on at least one interface.
	PhaseAnnouncing Phase = "Announcing"
)

// AddressState is what happens for one wanted address.
type AddressState struct {
	IP               netip.Addr
	Phase            Phase
	Interfaces       []string // where it is answered for now, sorted as wanted
	Probing          []string // where it is probed, in PhaseProbing
	Contested        bool     // somebody else has it on at least one interface
	RequestsReceived uint64
	ResponsesSent    uint64
	GratuitousSent   uint64
}

// Conflict is somebody else who claims an address that is announced here, or would be without him.
type Conflict struct {
	Address   netip.Addr
	Interface string // on which it was seen
	MAC       MAC    // of the other
	LastSeen  time.Time
}

// InterfaceError says in words what does not work on an interface.
type InterfaceError struct {
	Interface string
	Message   string
	// NoIPv4 and NoIPv6: nothing is heard, and so nothing answered, about
	// addresses of that family.
	NoIPv4, NoIPv6 bool
}

// Heard returns on which interfaces an address is answered for, because questions about it are heard there. If there is
// none, and not for lack of wanting, it returns why.
func (s *State) Heard(a *AddressState) (interfaces []string, why []InterfaceError) {
	if len(s.Errors) == 0 {
		return a.Interfaces, nil // nearly always
	}
	for _, name := range slices.Concat(a.Interfaces, a.Probing) {
		i := slices.IndexFunc(s.Errors, func(e InterfaceError) bool {
			return e.Interface == name && (e.NoIPv4 && a.IP.Is4() || e.NoIPv6 && !a.IP.Is4())
		})
		if i < 0 {
			interfaces = append(interfaces, name)
		} else {
			why = append(why, s.Errors[i])
		}
	}
	switch {
	case len(interfaces) == 0:
		return nil, why
	case len(a.Interfaces) == 0:
		return nil, nil // it is being probed where that works
	}
	return interfaces, nil
}

// Config sets the times of a Machine. Take DefaultConfig and change what should differ.
type Config struct {
	// Repeats are the times of the announcements after a take-over, counted from the take-over, ascending. The first
	// is normally 0. Empty: no announcements.
	Repeats []time.Duration
	// Check is the time after a take-over from which on the repeats also ask whether somebody else has the address. It
	// leaves the previous owner time to stop.
	Check time.Duration
	// Refresh is the interval of the slow refresh of each address. 0: off.
	Refresh time.Duration
	// Confirm is how long after it was first heard a claim of somebody else must be heard again to be a conflict. 0: it
	// is one at once.
	Confirm time.Duration
	// Probe is the time for which an address that asks for it is probed, and not answered for. 0: never.
	Probe time.Duration
	// Probes is how many questions are spread over that time. Default 3.
	Probes int
	// ProbeAgain is the longest time until somebody else's address is probed again. The first time it is a second, then
	// always twice as long.
	ProbeAgain time.Duration
	// Defend is the least time between two announcements of an address because a stranger claims it. 0: not defended.
	Defend time.Duration
	// Recheck is the time between questions to somebody who was heard to claim an address, until that is a conflict;
	// then it is five times as long. After three unanswered questions the claim is forgotten. 0: never asked, and
	// kept until the address goes.
	Recheck time.Duration
	// Offload answers plain questions before they get as far as Step. Default: nobody does.
	Offload Offload
}

// Offload is somebody who answers in the machine's stead, like the kernel. What it answers, Step does not see. It is
// called by the methods of Machine and must not call them.
type Offload interface {
	// Put tells of an address on a link, and then whether questions about it are to be answered. Silent or not, those
	// who claim the address must get through to Step.
	Put(r Reach, answer bool)
	// Drop tells that an address is not to be answered for any more, and returns how many questions were answered since
	// it was put first.
	Drop(r Reach) (answered uint64)
	// Answered returns the same as Drop would.
	Answered(r Reach) uint64
}

// DefaultConfig returns the times that suit ordinary networks.
func DefaultConfig() Config {
	const ms = time.Millisecond
	return Config{
		Repeats: []time.Duration{0, 200 * ms, 1000 * ms, 2000 * ms, 3500 * ms, 5000 * ms},
		Check:   1000 * ms,
		Refresh: 60 * time.Second,
		Confirm: 2 * time.Second, // longer than a move between nodes, or the healing of a partition, takes
		Recheck: 1 * time.Second,

		Probe:      1200 * ms, // kube-proxy has the rules of a new Service by then: its smallest interval is a second
		Probes:     3,
		ProbeAgain: 30 * time.Second,
		Defend:     10 * time.Second, // DEFEND_INTERVAL of RFC 5227
	}
}
