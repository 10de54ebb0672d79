// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"reflect"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// checkMemo: what a replica keeps from one round to the next for speed changes
// nothing. One that has just been started would decide and write the same.
func (w *world) checkMemo(objs snapshot.Objects, from snapshot.Options, opt status.ControllerOptions, snap lb.Snapshot, writes []status.Write) {
	from.Memo = nil
	fresh, problems := snapshot.Build(objs, from)
	w.spoil(&fresh)
	if !reflect.DeepEqual(snap, fresh) {
		w.fail("a snapshot with the memo of rounds before: %v, without: %v", snap, fresh)
	}
	opt.Memo = nil
	if want := status.Controller(objs, w.impatient(ipam.Plan(fresh)), problems, opt); !reflect.DeepEqual(writes, want) {
		w.fail("writes with the memo of rounds before: %v, without: %v", writes, want)
	}
}
