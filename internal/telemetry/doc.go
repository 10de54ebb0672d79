// SPDX-License-Identifier: Apache-2.0

// Package telemetry is what Herald says about itself: logs (log.go), metrics
// (metrics.go), and the debug pages (debug.go). Everything is a value given to
// constructors; there is no global registry and no global logger.
package telemetry
