// SPDX-License-Identifier: Apache-2.0

// Package ipam decides which Service has which address.
//
// Plan is a pure function from a snapshot of the cluster to one Decision per
// Service. It works in two passes over the Services, each from the oldest to
// the youngest:
//
//	keep:   which assigned addresses does the configuration still allow?
//	choose: who lacks an address, and what is the lowest one that fits?
//
// Between the two, reservations get what they hold (reserve.go).
//
// Everything that is taken away is taken away in the first pass, so that a
// freed address can go to the Service that has waited longest, and so that a
// second Plan on the result of the first one changes nothing.
//
// # What stays
//
// An assigned address stays as long as the configuration allows it: a pool
// contains it and is for this Service, the Service still has the family, no
// older Service holds the address without sharing it, and the Service asks for
// nothing else. Where the cluster cannot be read properly (no pool at all, a
// frozen pool, a namespace that is not there yet) it stays too.
//
// A request (for an address or a pool) that the configuration cannot meet
// whoever else waits (not understood, unknown or invalid pool, pool not for
// this Service, address in no pool, wrong family) changes nothing on a living
// Service: it keeps what it has and the reason says what is wrong with the
// request. A request that can be met in principle moves the Service at once:
// it gives up what it no longer asks for, even if it then has to wait. So two
// Services can swap their addresses.
//
// No pool is ever iterated: the cost depends on the addresses in use, and a
// /64 costs no more than a /28.
package ipam

import (
	"net/netip"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Result is a plan: what every Service should have, and what that leaves in
// the pools.
type Result struct {
	Services []Decision // by key
	Pools    []Usage    // by name, one for each pool of the snapshot
	// Reservations says what each reservation holds, by key.
	Reservations []Holding
}

// Holding is what a reservation holds and who uses it. What it holds is to be
// recorded in its status, and comes back with the next snapshot: so a number of
// addresses of a pool stays the same addresses.
type Holding struct {
	Key       lb.ReservationKey
	Addresses []Held // by address
	Wanted    int
	// Reason is the condition Valid: True if it is Good.
	Reason reason.Reason
}

// Held is a reserved address.
type Held struct {
	Address netip.Addr
	Pool    string // empty: no pool that can be used now has it
	State   HoldState
	// UsedBy are the Services that have the address.
	UsedBy []lb.ServiceKey // by key
	// Last are the names of the Services of the reservation that use it, or
	// did so last; one of them gets it back first. While some use it, that is
	// also a few of those who shared it with them.
	Last []string
}

// HoldState says what a reserved address is doing.
type HoldState string

// The states of a reserved address.
const (
	Free    HoldState = ""        // ready for a Service of the reservation
	InUse   HoldState = "InUse"   // a Service of the reservation has it
	Waiting HoldState = "Waiting" // another Service has it, and may keep it
)

// Decision is what one Service should have, and why.
//
// The writer compares it with the Service as it is and writes only what
// differs. Events follow from it, each once per change:
//
//	IPAllocated             Added is not empty. (The next snapshot has the
//	                        addresses in Assigned, so Added is empty then.)
//	ClearAssignment         Cleared is not empty; likewise.
//	AllocationFailed,       Trouble() says which, Reason.Text is the message;
//	LoadBalancerFailed,     when Reason.Code or Reason.Text differs from
//	AdditionalAssignFailed  the Service's condition heraldlb.io/Allocated.
//	deprecatedAnnotation    Deprecated is not empty, and Reason.Code or
//	                        Reason.Text differs in the same way.
//
// All of them after the write has succeeded: after a conflict there is a new
// snapshot and a new plan.
type Decision struct {
	Key lb.ServiceKey
	// Addresses is what status.loadBalancer.ingress should hold, in the order
	// of the Service's families.
	Addresses []netip.Addr
	// Pools is what the annotation ip-allocated-from-pool should name: the pool
	// of each address, in their order, or one name when it is the same for
	// all. Empty: no annotation.
	Pools []string
	// Reason is the condition heraldlb.io/Allocated: True if it is Good. It
	// may be bad while Addresses is not empty: the Service then keeps what it
	// has, and something that it asks for cannot be done.
	Reason reason.Reason

	// Added are those of Addresses that the Service did not have before.
	Added []netip.Addr
	// Cleared are the addresses that it had and has no longer.
	Cleared []Cleared
	// Deprecated names annotations with the old prefix that were honoured.
	Deprecated []string
}

// Cleared is an address that was taken away from a Service.
type Cleared struct {
	Address netip.Addr
	Why     string // one clause, e.g. `no pool contains it`
}

// Trouble sorts decisions by what kind of event they are worth.
type Trouble uint8

// The kinds of trouble, with the event that tells of each.
const (
	NoTrouble     Trouble = iota
	NotAllocated          // AllocationFailed
	BadRequest            // LoadBalancerFailed: the Service itself is wrong
	SecondMissing         // AdditionalAssignFailed: one family of two
)

// Trouble says what is wrong, if anything.
func (d *Decision) Trouble() Trouble {
	switch d.Reason.Code {
	case reason.SecondFamilyMissing:
		return SecondMissing
	case reason.InvalidRequest, reason.FamilyMismatch, reason.HeadlessService:
		return BadRequest
	}
	if d.Reason.Good() {
		return NoTrouble
	}
	return NotAllocated
}

// Usage counts the addresses of one pool. Numbers that do not fit into an
// int64 are math.MaxInt64. A frozen pool may have more addresses assigned than
// it has in all, as far as its ranges can be read.
type Usage struct {
	Name     string
	Services int // Services that have an address from the pool
	IPv4     Count
	IPv6     Count
	// Quotas says what limited namespaces hold of the pool, by namespace and
	// family. Those that hold nothing are left out.
	Quotas []QuotaUse
}

// QuotaUse is what a namespace holds of a pool, and may hold.
type QuotaUse struct {
	Namespace string
	Family    lb.Family
	Used      int64 // addresses of its Services or reserved for them
	Limit     int64
}

// Count is the usage of one pool by one family.
type Count struct {
	Total     int64 // addresses that the pool may hand out, used or not
	Assigned  int64 // addresses in use; one that is shared counts once
	Reserved  int64 // addresses that nobody has and that reservations hold
	Available int64 // addresses that are free for anybody; 0 for a frozen pool
}
