// SPDX-License-Identifier: Apache-2.0

// Package wire reads and writes the few Ethernet frames with which a machine says "this address is mine": ARP (RFC 826)
// and Neighbor Discovery (RFC 4861). It is the tests' own view of the wire, written apart from Herald's, so that
// a mistake in one is seen by the other.
package wire
