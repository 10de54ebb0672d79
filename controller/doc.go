// SPDX-License-Identifier: Apache-2.0

// Package controller is the cluster program: it gives addresses of pools to
// Services, and tells every configuration object whether it is used.
//
// One replica leads; the others keep their caches warm. The leader's loop
// reads everything, plans, and writes the difference:
//
//	caches -> snapshot.Build -> ipam.Plan -> status.Controller -> kube.Writer
//
// Beside it run small tasks that are not part of a plan: the gossip key
// (secret.go), and Services that stopped being load balancers (release.go).
package controller
