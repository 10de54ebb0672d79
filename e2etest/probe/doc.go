// SPDX-License-Identifier: Apache-2.0

// Package probe measures what a client sees of an address: for how long it gets no answer (TCP), and how quickly
// the address is resolved (Resolve).
package probe
