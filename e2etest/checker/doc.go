// SPDX-License-Identifier: Apache-2.0

// Package checker notices when two machines answer for one address.
//
// A change of owner is normal: A answers, then B does. It is wrong when the older owner still answers after the newer one
// has begun (A..B..A): clients then send packets to a machine that no longer expects them, or send half of
// them here and half there. The time for which that lasts is the overlap.
//
//	A  ######################                     ######         A again, a left-over: overlap from B's start to here
//	B                    ########################################
//	                     |-| overlap of a hand-over
//
// Find is pure: what was heard goes in, overlaps come out. Watcher listens on the LAN bridge of a lab, and also asks for
// every address it has heard of, many times a second, because a machine that nobody asks is not heard.
package checker
