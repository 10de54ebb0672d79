// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"
	"time"
)

func TestTidy(t *testing.T) {
	t.Parallel()
	var c Tidy
	start := time.Unix(1000, 0)
	for _, step := range []struct {
		at      time.Duration
		written int
		due     bool
		again   time.Duration
	}{
		{0, 100, false, 0},
		{10 * time.Second, 0, false, 0}, // too few to matter
		{11 * time.Second, 100, false, 5 * time.Second},
		{13 * time.Second, 0, false, 3 * time.Second},
		{14 * time.Second, 1, false, 5 * time.Second},
		{19 * time.Second, 0, true, 0},
		{20 * time.Second, 0, false, 0}, // once
		{21 * time.Second, 199, false, 0},
	} {
		due, again := c.after(step.written, start.Add(step.at))
		if due != step.due || again != step.again {
			t.Errorf("after %v: due %v, again %v; want %v, %v", step.at, due, again, step.due, step.again)
		}
	}
}
