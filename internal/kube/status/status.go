// SPDX-License-Identifier: Apache-2.0

// Package status turns plans and problems into what the cluster should show:
// conditions, events, and the status of objects.
//
// It is pure. It compares what is wanted with the objects as they were read,
// and returns only differences, as patches: in a settled cluster there are
// none. A patch touches nothing that somebody else writes.
package status

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Write is one request that makes an object show what it should.
type Write struct {
	// Object is the object as it was read. It is shared and must not be
	// changed.
	Object snapshot.Object
	// Create means that the object does not exist and is made first, as it is
	// here. Delete means that it goes; there is no patch then.
	Create, Delete bool
	// Patch goes to the status subresource. It carries the resource version
	// of Object (unless Create is set), so that a decision made on an old
	// reading fails instead of undoing something newer.
	Patch     []byte
	PatchType types.PatchType
	// Events are sent when the write has succeeded.
	Events []Event
	// Minor writes only bring counters up to date and may wait a moment.
	Minor bool
	// Moves means that the write changes the addresses of a Service; Addresses
	// are all that it has afterwards. Such writes are recorded in the journal
	// before they are sent.
	Moves     bool
	Addresses []netip.Addr
}

// Event is a core/v1 event about the written object.
type Event struct {
	Type    string // Normal or Warning
	Reason  string
	Message string
}

// condition returns the condition as it should be written, and whether it
// differs from what is there. The time changes only when the status does.
func condition(have []metav1.Condition, want metav1.Condition, now time.Time) (metav1.Condition, bool) {
	want.Message = bounded(want.Message)
	want.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	old := find(have, want.Type)
	if old == nil {
		return want, true
	}
	if old.Status == want.Status {
		want.LastTransitionTime = old.LastTransitionTime
	}
	same := old.Status == want.Status && old.Reason == want.Reason && old.Message == want.Message &&
		old.ObservedGeneration == want.ObservedGeneration
	return want, !same
}

func find(have []metav1.Condition, kind string) *metav1.Condition {
	i := slices.IndexFunc(have, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &have[i]
}

// replaced returns the list with c in it, for lists that a patch can only
// replace as a whole.
func replaced(have []metav1.Condition, c metav1.Condition) []metav1.Condition {
	out := slices.Clone(have)
	if i := slices.IndexFunc(out, func(o metav1.Condition) bool { return o.Type == c.Type }); i >= 0 {
		out[i] = c
		return out
	}
	return append(out, c)
}

func conditionStatus(good bool) metav1.ConditionStatus {
	if good {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// bounded keeps a message within what the API accepts (32768 bytes) and a
// person reads.
func bounded(s string) string {
	const limit = 4096
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// encode is json.Marshal for values that always can be marshalled.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("status: cannot encode a patch: " + err.Error())
	}
	return b
}
