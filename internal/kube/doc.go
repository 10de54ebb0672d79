// SPDX-License-Identifier: Apache-2.0

// Package kube connects the two programs to the Kubernetes API: caches, one
// queue key, events, and direct writes.
//
//	any event --> Loop.Poke --> sync: Cluster.Read --> plan --> Writer.Apply
//
// There are no per-object queues: whatever changed, the whole state is read
// from the caches and planned again (see Loop). Reads come from caches that
// hold only what planners look at (see kinds.go); writes go straight to the
// API server.
package kube
