// SPDX-License-Identifier: Apache-2.0

// Package ctl is what heraldctl says about a cluster.
//
//	API server --Read--> Cluster --Look--> View --Addresses, Explain--> text
//	      file --Load------^ |
//	                         +--Write--> file
//
// A Cluster holds what the planners read, and nothing else: no Secret, no
// password, no foreign annotation. Whether it comes from the API server or out
// of a file makes no difference to what is said about it. The planners are the
// ones that the controller and the speakers run, so that an explanation cannot
// differ from what they do.
package ctl
