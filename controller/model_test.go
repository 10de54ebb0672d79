// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/reason"
)

var (
	ops  = flag.Int("ops", 100_000, "operations of the model-based test")
	seed = flag.Uint64("seed", 0, "repeat the history of the model-based test with this seed")
)

// perHistory is how many operations start from an empty cluster.
const perHistory = 500

// TestModel makes random histories: users edit Services, pools, quotas,
// reservations and namespaces, delete Services and create them again, caches lag, replicas are restarted between a decision and its writes, writes
// meet conflicts and errors, answers are lost, requests arrive long after
// everybody has given them up, finalizers hold Services that are deleted,
// leaders change, and old leaders go on as if nothing had happened. What must
// hold is in model_check_test.go.
func TestModel(t *testing.T) {
	t.Parallel()
	first, n := uint64(time.Now().UnixNano()), (*ops+perHistory-1)/perHistory
	if *seed != 0 {
		first, n = *seed, 1
	}
	seen := occurrences{}
	if s, bad := search(without{}, first, n, seen); bad != nil {
		t.Fatalf("%v\nrepeat with: go test ./controller -run '^%s$' -seed %d\n%s", bad.err, t.Name(), s, bad.story(without{}))
	}
	t.Log(seen)
	if n*perHistory >= 100_000 {
		for _, what := range mustOccur() {
			if seen[what] == 0 {
				t.Errorf("%q occurred %d times: the histories are poor: %v", what, seen[what], seen)
			}
		}
	}
}

// occurrences counts what histories have come across.
type occurrences map[string]int

// mustOccur lists what a history has to lead to now and then, or what is said
// about it is empty. AddressFreeing never stays.
func mustOccur() []string {
	out := []string{"came back", "came back although others were lower", "needed by another", "reserved and in use", "settled at the limit of a quota"}
	for _, i := range reason.All() {
		if i.Subject == reason.Allocated && i.Code != reason.AddressFreeing && i.Code != reason.ServiceDeleting {
			out = append(out, string(i.Code))
		}
	}
	for _, c := range []reason.Code{
		reason.ObjectValid, reason.UnknownReference, reason.AddressOutsidePool,
		reason.ReservedByOther, reason.ReservationShort, reason.ReservationQuota, reason.ReservationWaits,
	} {
		out = append(out, string(c))
	}
	return out
}

// search runs n histories and returns the seed and the end of the first that
// fails.
func search(x without, first uint64, n int, seen occurrences) (uint64, *failure) {
	for i := range uint64(n) {
		ops := history(first+i, perHistory)
		w := newWorld(x)
		if err := w.run(ops); err != nil {
			return first + i, &failure{ops, err}
		}
		for what, n := range w.seen {
			seen[what] += n
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
func (f *failure) story(x without) string {
	short := shrink(f.ops, f.err, func(ops []op) error { return newWorld(x).run(ops) })
	w := newWorld(x)
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
