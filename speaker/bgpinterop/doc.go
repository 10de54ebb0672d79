// SPDX-License-Identifier: Apache-2.0

// Package bgpinterop holds tests only: the transport and the sessions of BGP
// together, as the speaker puts them together, against real routers (FRR and
// BIRD) in network namespaces, and against routers that misbehave. Tests of
// FRR and BIRD are skipped where these are not installed.
package bgpinterop
