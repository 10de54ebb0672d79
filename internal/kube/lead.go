// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// What a Writer does so that no address is ever on two Services:
//
//	record    before a round's writes: name those that move addresses
//	store     beside them: what the leader wants to remember
//	answered  after each: it is over, or nobody knows
//	Settle    before the next plan: look at the Services where nobody knows
//	Underway  what the plan has to count with: it may happen yet
//	TakeOver  a new leader does the same with what the one before it has recorded

// recordSize is what the journal holds of a write beside its patch.
const recordSize = 300

// record puts the writes that move addresses into the journal. If it cannot,
// it returns the others only.
func (w *Writer) record(ctx context.Context, due []status.Write) (may []status.Write, again time.Duration, err error) {
	if w.journal == nil {
		return due, 0, nil
	}
	moves := slices.ContainsFunc(due, func(x status.Write) bool { return x.Moves })
	if left := time.Until(w.noJournal.until); left > 0 {
		if !moves {
			left = 0
		}
		return unmoving(due), left, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	id := objectID{kind: "ConfigMap", name: journal.Name}
	if moves {
		defer w.metrics.Stage(telemetry.StageRecord, time.Now())
	}
	switch err := w.journal.Commit(ctx, due); {
	case err == nil:
		w.noJournal = wait{}
		if moves {
			w.count(id, "ok")
		}
		return due, 0, nil
	case errors.Is(err, journal.ErrLost):
		return nil, 0, err
	default:
		w.count(id, "error")
		delay := min(retryFirst<<min(w.noJournal.failures, 20), retryMax)
		w.noJournal = wait{until: time.Now().Add(delay), failures: w.noJournal.failures + 1}
		w.log.Error("cannot record what is about to be given; no address is given until that works", telemetry.KeyError, err)
		return unmoving(due), delay, err
	}
}

// store keeps what the leader wants to remember. Nothing waits for it but the
// end of the round; without it, addresses are given nevertheless.
func (w *Writer) store(ctx context.Context) (again time.Duration, err error) {
	if w.journal == nil {
		return 0, nil
	}
	if left := time.Until(w.noMemory.until); left > 0 {
		return left, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	switch err := w.journal.Store(ctx); {
	case err == nil:
		w.noMemory = wait{}
		return 0, nil
	case errors.Is(err, journal.ErrLost):
		return 0, err
	default:
		delay := min(retryFirst<<min(w.noMemory.failures, 20), retryMax)
		if w.noMemory.failures == 0 {
			w.log.Error("cannot store what Services had that are gone; a controller that starts anew will not know", telemetry.KeyError, err)
		}
		w.noMemory = wait{until: time.Now().Add(delay), failures: w.noMemory.failures + 1}
		return delay, nil
	}
}

func unmoving(due []status.Write) []status.Write {
	return slices.DeleteFunc(slices.Clone(due), func(x status.Write) bool { return x.Moves })
}

// answered notes the answer to a write. If it is over, either way, the journal
// need not keep it.
func (w *Writer) answered(write *status.Write, err error) {
	switch {
	case !write.Moves || w.journal == nil:
	case err == nil, apierrors.IsNotFound(err):
		w.journal.Close(write.Object.GetUID(), write.Object.GetResourceVersion())
	case refused(err):
		w.journal.Refused(write)
	}
}

// refused reports whether after this answer the request will not be carried out,
// and was not. After a timeout, a lost connection or an
// error of the server it may have been carried out, or may be later. After a
// conflict it will not be; but one that was lost and sent again, by whoever
// is in between, may have been carried out the first time.
func refused(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsConflict(err) || apierrors.IsTimeout(err) {
		return false
	}
	code := status.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusRequestTimeout
}

// Underway returns the writes to Services whose outcome is not known.
func (w *Writer) Underway() []status.Underway {
	var out []status.Underway
	for _, e := range w.journal.Open() {
		out = append(out, status.Underway{Namespace: e.Namespace, UID: e.UID, Version: e.Version, Addresses: e.Addresses})
	}
	return out
}

// Settle looks at every Service to which a write may be under way, past the
// cache, and lets the next Read show what it finds. No plan may be made after
// an error. What is still Underway after it has not been carried out so far.
func (w *Writer) Settle(ctx context.Context) error {
	open := w.journal.Open()
	errs := make([]error, len(open))
	have := make([]*corev1.Service, len(open))
	w.each(len(open), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		var s corev1.Service
		if errs[i] = w.client.Get(ctx, open[i].Key(), &s); errs[i] == nil {
			have[i] = &s
		}
	})
	for i, e := range open {
		switch {
		case apierrors.IsNotFound(errs[i]):
			w.journal.Close(e.UID, e.Version)
		case errs[i] != nil:
			return fmt.Errorf("look what has become of a write to Service %s: %w", e.Key(), errs[i])
		case !e.MayReach(have[i].UID, have[i].ResourceVersion):
			w.journal.Close(e.UID, e.Version)
			if have[i].UID == e.UID {
				w.remember(have[i], false)
			}
		}
	}
	return nil
}

// TakeOver makes this replica the one that may move addresses. What the one
// before it may have under way is Underway from then on. It may be called again
// after an error, and after success does nothing.
func (w *Writer) TakeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return w.journal.Take(ctx)
}

// each calls do for 0 to n-1, some at a time.
func (w *Writer) each(n int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(w.parallel, n) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// NewJournal returns the journal of the cluster, not taken over yet. The holder
// names this start of this program, and no other.
func (c *Cluster) NewJournal(holder string) *journal.Journal {
	return journal.New(c.client, c.namespace, holder, c.log)
}

var _ journal.Client = (*Client)(nil)
