// SPDX-License-Identifier: Apache-2.0

// Package chart tests what charts/herald and config/ render to: with the real Helm and the real kubectl, but without a
// cluster. That the rendered objects also work is for the scenarios to show, which install Herald from the same chart.
package chart
