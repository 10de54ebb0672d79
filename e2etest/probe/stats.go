// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"slices"
	"time"
)

// Gap is a time without an answer: from the last one before it to the first one after it.
type Gap struct{ From, To time.Time }

// Duration returns how long the gap lasted.
func (g Gap) Duration() time.Duration { return g.To.Sub(g.From) }

// LongestGap returns the longest time between two successive answers, which it sorts.
func LongestGap(answers []time.Time) Gap {
	slices.SortFunc(answers, time.Time.Compare)
	var longest Gap
	for i := 1; i < len(answers); i++ {
		if g := (Gap{answers[i-1], answers[i]}); g.Duration() > longest.Duration() {
			longest = g
		}
	}
	return longest
}

// Percentile returns the smallest value that at least p percent of the values do not exceed (nearest rank), and the zero
// value if there are none. It does not change values.
func Percentile[T cmp.Ordered](values []T, p float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(p / 100 * float64(len(sorted)))
	if float64(rank) < p/100*float64(len(sorted)) {
		rank++
	}
	return sorted[min(max(rank, 1), len(sorted))-1]
}
