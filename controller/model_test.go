// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	ops  = flag.Int("ops", 100_000, "operations of the model-based test")
	seed = flag.Uint64("seed", 0, "repeat the history of the model-based test with this seed")
)

// perHistory is how many operations start from an empty cluster.
const perHistory = 500

// TestModel makes random histories: users edit Services, pools and namespaces,
// caches lag, replicas are restarted between a decision and its writes, writes
// meet conflicts and errors, and leaders change. What must hold is in
// model_check_test.go.
//
// A new leader is assumed to have seen the writes of the old one, and an
// address may be on two Services for the time between two writes of a round;
// TestModelGaps shows why.
func TestModel(t *testing.T) {
	t.Parallel()
	explore(t, faults{early: true}, remedies{}, *ops)
}

// TestModelRemedies: with both remedies a single leader is safe from lost
// answers too, and no address is ever on two Services, not even for a moment.
func TestModelRemedies(t *testing.T) {
	t.Parallel()
	explore(t, faults{lose: true}, remedies{takeFirst: true, reread: true}, *ops/4)
}

func explore(t *testing.T, f faults, r remedies, total int) {
	t.Helper()
	first, n := uint64(time.Now().UnixNano()), (total+perHistory-1)/perHistory
	if *seed != 0 {
		first, n = *seed, 1
	}
	if s, bad := search(f, r, first, n); bad != nil {
		t.Fatalf("%v\nrepeat with: go test ./controller -run '^%s$' -seed %d\n%s", bad.err, t.Name(), s, bad.story(f, r))
	}
}

// search runs n histories and returns the seed and the end of the first that
// fails.
func search(f faults, r remedies, first uint64, n int) (uint64, *failure) {
	for i := range uint64(n) {
		ops := history(first+i, perHistory)
		if err := newWorld(f, r).run(ops); err != nil {
			return first + i, &failure{ops, err}
		}
	}
	return 0, nil
}

// failure is a history and what is wrong with it.
type failure struct {
	ops []op
	err error
}

// story tells the history, without what does not matter for its failure.
func (f *failure) story(with faults, r remedies) string {
	short := shrink(f.ops, f.err, func(ops []op) error { return newWorld(with, r).run(ops) })
	w := newWorld(with, r)
	w.tracing = true
	err := w.run(short)
	return fmt.Sprintf("%d operations are enough: %v\n%s", len(short), err, strings.Join(w.trace, "\n"))
}

// shrink leaves out operations as long as the history fails in the same way.
func shrink(ops []op, failure error, try func([]op) error) []op {
	want := kind(failure)
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(ops); {
			fewer := slices.Concat(ops[:at], ops[at+size:])
			if kind(try(fewer)) == want {
				ops = fewer
			} else {
				at += size
			}
		}
	}
	return ops
}

// kind is a failure without names and numbers.
func kind(err error) string {
	if err == nil {
		return ""
	}
	var out []string
	for word := range strings.FieldsSeq(err.Error()) {
		if !strings.ContainsAny(word, "0123456789/:[]") {
			out = append(out, word)
		}
	}
	return strings.Join(out[:min(6, len(out))], " ")
}
