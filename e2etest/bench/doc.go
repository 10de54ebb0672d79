// SPDX-License-Identifier: Apache-2.0

// Package bench measures Herald, or another implementation of the same API, in a lab.
//
// A measurement has a name, a value and a unit, and perhaps a target. What each of them means is said where it is
// measured; README.md in this directory has them all.
package bench
