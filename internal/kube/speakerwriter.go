// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// speakerWriters is how many requests of one speaker are under way at once.
// Reports are not urgent: allocation and the other speakers need the API
// server more.
const speakerWriters = 4

// cacheLag is how long a write may take to appear in the cache before it is
// taken for lost.
const cacheLag = 10 * time.Second

// SpeakerWriter carries out status.SpeakerWrites. It remembers what it wrote
// until the cache shows it, so that a cache that lags causes no second write.
type SpeakerWriter struct {
	client client.Client
	events record.EventRecorder

	mu sync.Mutex // guards the maps
	// patched: the version of a Service that a decision was made on, by UID. As
	// long as the cache shows that version, the patch is not there yet.
	patched map[types.UID]lagging
	// created and deleted are ServiceL2Status objects that the cache does not
	// show, or still shows, by UID.
	created map[types.UID]*v1beta1.ServiceL2Status
	deleted map[types.UID]bool
	since   map[types.UID]time.Time // of created and deleted
}

type lagging struct {
	version string
	since   time.Time
}

// NewSpeakerWriter returns a writer that uses c and records events.
func NewSpeakerWriter(c client.Client, events record.EventRecorder) *SpeakerWriter {
	return &SpeakerWriter{
		client:  c,
		events:  events,
		patched: map[types.UID]lagging{},
		created: map[types.UID]*v1beta1.ServiceL2Status{},
		deleted: map[types.UID]bool{},
		since:   map[types.UID]time.Time{},
	}
}

// Overlay returns objs with this writer's own writes that the cache does not
// show yet.
func (w *SpeakerWriter) Overlay(objs snapshot.Objects, now time.Time) snapshot.Objects {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := make(map[types.UID]bool, len(objs.L2Statuses))
	var statuses []*v1beta1.ServiceL2Status
	for _, s := range objs.L2Statuses {
		have[s.UID] = true
		delete(w.created, s.UID)
		if !w.deleted[s.UID] {
			statuses = append(statuses, s)
		}
	}
	for uid, s := range w.created {
		statuses = append(statuses, s)
		if now.Sub(w.since[uid]) > cacheLag {
			delete(w.created, uid)
		}
	}
	for uid := range w.deleted {
		if !have[uid] || now.Sub(w.since[uid]) > cacheLag {
			delete(w.deleted, uid)
		}
	}
	for uid := range w.since {
		if w.created[uid] == nil && !w.deleted[uid] {
			delete(w.since, uid)
		}
	}
	for uid, l := range w.patched {
		if now.Sub(l.since) > cacheLag {
			delete(w.patched, uid)
		}
	}
	objs.L2Statuses = statuses
	return objs
}

// Apply writes. It tries everything and returns all errors; what failed shows
// up again in the next difference. An object that is gone is no error.
func (w *SpeakerWriter) Apply(ctx context.Context, writes status.SpeakerWrites, now time.Time) error {
	var g errgroup.Group
	g.SetLimit(speakerWriters)
	var mu sync.Mutex // guards errs
	var errs []error
	do := func(f func() error) {
		g.Go(func() error {
			if err := f(); err != nil && !apierrors.IsNotFound(err) {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			return nil
		})
	}
	patched := map[types.UID]bool{}
	for _, c := range writes.Conditions {
		if !w.lags(c.Service) {
			patched[c.Service.UID] = true
			do(func() error { return w.patch(ctx, c, now) })
		}
	}
	for _, s := range writes.Delete {
		do(func() error { return w.delete(ctx, s, now) })
	}
	for _, s := range writes.Create {
		do(func() error { return w.create(ctx, s, now) })
	}
	for _, s := range writes.Update {
		do(func() error { return w.setStatus(ctx, s) })
	}
	_ = g.Wait() // the functions return nil
	for _, e := range writes.Events {
		if patched[e.Service.UID] {
			w.events.Event(serviceReference(e.Service), e.Type, e.Reason, e.Message)
		}
	}
	return errors.Join(errs...)
}

// lags reports whether the cache still shows the Service as it was before our
// last patch.
func (w *SpeakerWriter) lags(svc *corev1.Service) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.patched[svc.UID]
	return ok && l.version == svc.ResourceVersion
}

// patch sets one condition. A strategic merge patch merges conditions by type,
// so it cannot touch what the controller or others write.
func (w *SpeakerWriter) patch(ctx context.Context, c status.ConditionWrite, now time.Time) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": c.Service.UID}, // not its successor of the same name
		"status":   map[string]any{"conditions": []metav1.Condition{c.Condition}},
	})
	if err != nil {
		return fmt.Errorf("encode condition %s of Service %s/%s: %w", api.ConditionAnnounced, c.Service.Namespace, c.Service.Name, err)
	}
	w.mu.Lock()
	w.patched[c.Service.UID] = lagging{c.Service.ResourceVersion, now}
	w.mu.Unlock()
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: c.Service.Namespace, Name: c.Service.Name}}
	err = w.client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body))
	if err == nil {
		return nil
	}
	w.mu.Lock()
	delete(w.patched, c.Service.UID)
	w.mu.Unlock()
	if apierrors.IsConflict(err) {
		return nil // the Service was deleted and created again; its own event follows
	}
	return fmt.Errorf("set condition %s of Service %s/%s: %w", api.ConditionAnnounced, c.Service.Namespace, c.Service.Name, err)
}

func (w *SpeakerWriter) create(ctx context.Context, s *v1beta1.ServiceL2Status, now time.Time) error {
	made := s.DeepCopy()
	if err := w.client.Create(ctx, made); err != nil {
		return fmt.Errorf("create ServiceL2Status of Service %s/%s: %w", s.Status.ServiceNamespace, s.Status.ServiceName, err)
	}
	made.Status = s.Status
	err := w.setStatus(ctx, made)
	shown := made.DeepCopy()
	if err != nil {
		shown.Status = v1beta1.ServiceL2StatusStatus{} // as it is on the server: the next difference repairs it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.created[made.UID], w.since[made.UID] = shown, now
	return err
}

func (w *SpeakerWriter) setStatus(ctx context.Context, s *v1beta1.ServiceL2Status) error {
	body, err := json.Marshal(map[string]any{"status": s.Status})
	if err != nil {
		return fmt.Errorf("encode status of ServiceL2Status %s: %w", s.Name, err)
	}
	target := &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	if err := w.client.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, body)); err != nil {
		return fmt.Errorf("write status of ServiceL2Status %s: %w", s.Name, err)
	}
	return nil
}

func (w *SpeakerWriter) delete(ctx context.Context, s *v1beta1.ServiceL2Status, now time.Time) error {
	target := &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	err := w.client.Delete(ctx, target, client.Preconditions{UID: &s.UID})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ServiceL2Status %s: %w", s.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[s.UID], w.since[s.UID] = true, now
	return nil
}

// DeleteL2StatusesOf removes what the speaker of a dead node left behind.
func (w *SpeakerWriter) DeleteL2StatusesOf(ctx context.Context, namespace, node string) error {
	err := w.client.DeleteAllOf(ctx, &v1beta1.ServiceL2Status{}, client.InNamespace(namespace), client.MatchingLabels{api.LabelNode: node})
	if err != nil {
		return fmt.Errorf("delete the ServiceL2Status objects of node %s: %w", node, err)
	}
	return nil
}

// serviceReference is what an event points to; the cached object has lost its
// kind.
func serviceReference(s *corev1.Service) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID}
}
