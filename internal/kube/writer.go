// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// Limits of a Writer.
const (
	// writers is the number of requests under way at once, and reporters that
	// of a program whose writes nobody waits for.
	writers   = 16
	reporters = 4
	// batch is the largest number of writes of one Apply. A plan of 10,000
	// writes is carried out in several rounds, each with a fresh plan.
	batch = 400
	// writeTimeout bounds one request, also during shutdown.
	writeTimeout = 10 * time.Second
	// minorInterval is the shortest time between two writes of an object that
	// only bring counters up to date.
	minorInterval = time.Second
	// retryFirst and retryMax bound how long an object waits after the API
	// server refused a write. Others do not wait for it.
	retryFirst = time.Second
	retryMax   = 5 * time.Minute
	// conflictFirst and conflictMax do so after a conflict, which the next
	// event usually solves.
	conflictFirst = 20 * time.Millisecond
	conflictMax   = 5 * time.Second
	// logged is how many failures of one round get a line in the log.
	logged = 5
)

// statusClient is the part of a Client that a Writer needs.
type statusClient interface {
	// Get reads the object of that name into obj.
	Get(ctx context.Context, name types.NamespacedName, obj snapshot.Object) error
	// Create makes obj and fills in what the server says of it.
	Create(ctx context.Context, obj snapshot.Object) error
	// PatchStatus patches the status of obj and fills in the result.
	PatchStatus(ctx context.Context, obj snapshot.Object, kind types.PatchType, patch []byte) error
	// Delete deletes obj, and no other of the same name.
	Delete(ctx context.Context, obj snapshot.Object) error
}

// Writer carries out status.Writes. It is for one goroutine.
type Writer struct {
	client   statusClient
	remember func(obj snapshot.Object, created bool)
	events   record.EventRecorder
	metrics  *telemetry.ClientMetrics
	log      *slog.Logger
	parallel int
	journal  *journal.Journal // nil: no write moves addresses

	waiting map[objectID]wait
	// noJournal and noMemory say when the journal may be tried again.
	noJournal, noMemory wait
}

type objectID struct {
	kind, namespace, name string
}

func (id objectID) String() string {
	return strings.TrimPrefix(id.namespace+"/"+id.name, "/")
}

// wait says when an object may be written again.
type wait struct {
	until    time.Time
	failures int
}

// NewReportWriter returns a Writer for writes that nobody waits for. It leaves
// the API server free for others.
func (c *Cluster) NewReportWriter(m *telemetry.ClientMetrics, log *slog.Logger) *Writer {
	w := newWriter(c.client, c.caches.remember, c.events, m, log)
	w.parallel = reporters
	return w
}

// NewWriter returns the Writer of a leader, which gives addresses. It records in
// the journal what it is about to do.
func (c *Cluster) NewWriter(m *telemetry.ClientMetrics, log *slog.Logger, j *journal.Journal) *Writer {
	w := newWriter(c.client, c.caches.remember, c.events, m, log)
	w.journal = j
	return w
}

func newWriter(c statusClient, remember func(snapshot.Object, bool), events record.EventRecorder, m *telemetry.ClientMetrics, log *slog.Logger) *Writer {
	return &Writer{client: c, remember: remember, events: events, metrics: m, log: log, parallel: writers, waiting: map[objectID]wait{}}
}

// Outcome is the result of an Apply.
type Outcome struct {
	Written   int
	Done      []status.Write // those Written
	Conflicts int            // objects that changed meanwhile: no error, the next plan sees the new ones
	Failed    int
	// Again says when something is left to do; 0 when nothing is.
	Again time.Duration
	// Err is the first failure. It is logged already, and the objects that
	// failed are left alone for a while, so that a caller can go on.
	Err error
}

// Apply carries out the writes, the first ones first. It returns when all
// requests have been answered. When ctx ends, those under way are completed
// and no others are begun.
func (w *Writer) Apply(ctx context.Context, all []status.Write) Outcome {
	if ctx.Err() != nil {
		return Outcome{}
	}
	due, again := w.due(all, time.Now())
	if n := fit(due); n < len(due) {
		due = due[:n]
		again = time.Nanosecond
	}
	due, later, err := w.record(ctx, due)
	if errors.Is(err, journal.ErrLost) {
		return Outcome{Err: err}
	}
	again = sooner(again, later)
	if len(due) > 0 {
		defer w.metrics.Stage(telemetry.StageWrite, time.Now())
	}
	results := make([]error, len(due))
	next := make(chan int)
	var wg sync.WaitGroup
	var stored time.Duration
	var lost error
	wg.Go(func() { stored, lost = w.store(ctx) })
	for range min(w.parallel, len(due)) {
		wg.Go(func() {
			for i := range next {
				results[i] = w.one(ctx, &due[i])
			}
		})
	}
	sent := 0
	for ; sent < len(due) && ctx.Err() == nil; sent++ {
		next <- sent
	}
	close(next)
	wg.Wait()
	out := w.judge(due[:sent], results, sooner(again, stored))
	if out.Err == nil {
		out.Err = err
	}
	if lost != nil {
		out.Err = lost
	}
	return out
}

// fit returns how many of the writes go into one round.
func fit(due []status.Write) int {
	size := 0
	for i := range due {
		if due[i].Moves {
			size += len(due[i].Patch) + recordSize
		}
		if i == batch || (i > 0 && size > journal.MaxWrites) {
			return i
		}
	}
	return len(due)
}

// sooner returns the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// due returns the writes whose objects need not wait, and the shortest wait of
// the others.
func (w *Writer) due(all []status.Write, now time.Time) (due []status.Write, again time.Duration) {
	wanted := make(map[objectID]bool, len(all))
	for i := range all {
		id := idOf(all[i].Object)
		wanted[id] = true
		rest := w.waiting[id]
		if left := rest.until.Sub(now); left > 0 && (rest.failures > 0 || all[i].Minor) {
			again = sooner(again, left)
			continue
		}
		due = append(due, all[i])
	}
	for id, rest := range w.waiting { // only deletes; the order does not matter
		if !wanted[id] && !now.Before(rest.until) {
			delete(w.waiting, id)
		}
	}
	return due, again
}

// one carries out one write and sends its events.
func (w *Writer) one(ctx context.Context, write *status.Write) error {
	// Not cancelled with ctx: a request under way is completed at shutdown.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	obj := blank(write.Object)
	if write.Delete {
		obj.SetUID(write.Object.GetUID())
		return w.client.Delete(ctx, obj)
	}
	if write.Create {
		made := write.Object.DeepCopyObject().(snapshot.Object)
		if err := w.client.Create(ctx, made); err != nil {
			return err
		}
		obj.SetName(made.GetName()) // it may have been generated
		w.remember(made, true)
	}
	if err := w.client.PatchStatus(ctx, obj, write.PatchType, write.Patch); err != nil {
		return err
	}
	w.remember(obj, write.Create)
	for _, e := range write.Events {
		w.events.Event(reference(write.Object), e.Type, e.Reason, e.Message)
	}
	return nil
}

// judge counts the results and remembers who has to wait.
func (w *Writer) judge(due []status.Write, results []error, again time.Duration) Outcome {
	now := time.Now()
	out := Outcome{Again: again}
	for i := range due {
		id, err := idOf(due[i].Object), results[i]
		w.answered(&due[i], err)
		n := w.waiting[id].failures
		switch {
		case err == nil:
			out.Written++
			out.Done = append(out.Done, due[i])
			w.count(id, "ok")
			delete(w.waiting, id)
			if due[i].Minor {
				w.waiting[id] = wait{until: now.Add(minorInterval)}
			}
			continue
		case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
			// Somebody else was quicker. The cache will show it.
			out.Conflicts++
			w.count(id, "conflict")
			out.Again = w.postpone(id, now, min(conflictFirst<<min(n, 20), conflictMax), out.Again)
		default:
			out.Failed++
			w.count(id, "error")
			out.Again = w.postpone(id, now, min(retryFirst<<min(n, 20), retryMax), out.Again)
			if out.Err == nil {
				out.Err = fmt.Errorf("write %s %s: %w", id.kind, id, err)
			}
			if out.Failed <= logged {
				w.log.Error("cannot write the status of an object; trying again later",
					telemetry.KeyKind, id.kind, telemetry.KeyObject, id.String(), telemetry.KeyError, err)
			}
		}
	}
	return out
}

// postpone makes an object wait and returns when the next round is due.
func (w *Writer) postpone(id objectID, now time.Time, delay, again time.Duration) time.Duration {
	w.waiting[id] = wait{until: now.Add(delay), failures: w.waiting[id].failures + 1}
	return sooner(again, delay)
}

func (w *Writer) count(id objectID, result string) {
	w.metrics.Writes.WithLabelValues(id.kind, result).Inc()
}

// idOf tells objects apart. Those whose name is still to be generated differ in
// their labels.
func idOf(obj snapshot.Object) objectID {
	name := obj.GetName()
	if name == "" {
		name = obj.GetGenerateName() + fmt.Sprint(obj.GetLabels())
	}
	return objectID{reflect.TypeOf(obj).Elem().Name(), obj.GetNamespace(), name}
}

// blank returns an empty object of the same type, name and namespace.
func blank(obj snapshot.Object) snapshot.Object {
	b := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(snapshot.Object)
	b.SetNamespace(obj.GetNamespace())
	b.SetName(obj.GetName())
	return b
}

// reference is what an event needs of its object: objects from caches may not
// be handed to others.
func reference(obj snapshot.Object) runtime.Object {
	r := blank(obj)
	r.SetUID(obj.GetUID())
	r.SetResourceVersion(obj.GetResourceVersion())
	return r
}
