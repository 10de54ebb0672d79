// SPDX-License-Identifier: Apache-2.0

// Package journal keeps two controllers that both believe that they lead from
// giving one address to two Services, and a new leader from not knowing what
// the old one was about to do.
//
// Each write of the controller carries the resource version of its Service, so
// a decision made on an old reading fails. But that protects one Service: an
// old leader that was paused and wakes up may give an address to a Service that
// nobody has touched since, although its successor has given the same address
// to another one. No version covers both.
//
// So there is one object that every change of addresses has to pass, a
// ConfigMap (Name) in Herald's namespace:
//
//	leader     Commit: "I am going to make these writes", compare-and-set;
//	           then the writes themselves, each bound to its version
//	successor  Take: "I am the holder now", compare-and-set. What the old
//	           leader has recorded is Open: it may happen yet, to a Service that
//	           still has the version. Plans count with it, and the first one
//	           writes to each such Service: then it cannot happen any more
//	old leader its next Commit conflicts: ErrLost, and it ends
//
// One request for each round that changes addresses is all that it costs. A
// settled cluster writes nothing.
//
// A second ConfigMap (MemoryName) holds what the leader wants to remember from
// one term to the next; see SetRemembered. It may be long, and the journal is
// written each time that an address is given.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Name is the name of the ConfigMap.
const Name = "herald-allocations"

// What the ConfigMap holds.
const (
	keyHolder = "holder"
	keyWrites = "writes"
)

// MaxWrites is the size of the writes of one Commit, roughly. The API server
// takes 1 MiB in all.
const MaxWrites = 384 << 10

// attempts is how often a request is repeated after a conflict that does not
// come from another leader.
const attempts = 5

// ErrLost says that this replica does not lead any more, or that somebody has
// deleted the journal. It has to begin anew.
var ErrLost = errors.New("the journal of allocations is in other hands: this replica does not lead any more")

// Client is the part of kube.Client that a Journal needs. Each method replaces
// obj with what the server says of it.
type Client interface {
	Get(ctx context.Context, name types.NamespacedName, obj snapshot.Object) error
	Create(ctx context.Context, obj snapshot.Object) error
	// Update fails with a conflict if the object is no longer of the version
	// that obj has.
	Update(ctx context.Context, obj snapshot.Object) error
}

// Journal is a leader's hold of the journal, for one goroutine.
type Journal struct {
	client Client
	id     types.NamespacedName
	holder string
	log    *slog.Logger

	// object is the ConfigMap as it is if nobody else has written; nil if that
	// is not known, because an answer was lost.
	object *corev1.ConfigMap
	taken  bool
	// open are the writes that have not been answered for certain.
	open []Entry

	memory memory
}

// New returns a journal that is not held yet. The holder names this start of
// this replica, and no other.
func New(c Client, namespace, holder string, log *slog.Logger) *Journal {
	return &Journal{
		client: c, id: types.NamespacedName{Namespace: namespace, Name: Name}, holder: holder, log: log,
		memory: memory{id: types.NamespacedName{Namespace: namespace, Name: MemoryName}},
	}
}

// Take makes this replica the holder. From then on no other one can commit.
// Open returns what the previous holder may have under way, Remembered what it
// remembered. After an error it may be called again.
func (j *Journal) Take(ctx context.Context) error {
	if !j.taken {
		if err := j.take(ctx); err != nil {
			return err
		}
	}
	return j.load(ctx) // only now does the previous holder add nothing to it
}

func (j *Journal) take(ctx context.Context) error {
	for range attempts {
		have, err := j.read(ctx, j.id)
		if err != nil {
			return err
		}
		if have == nil {
			have = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: j.id.Namespace, Name: j.id.Name, Annotations: map[string]string{
				"kubernetes.io/description": "What the leading controller of Herald is about to write, for the next one to know. Not to be edited.",
			}}}
		}
		next := have.DeepCopy()
		// Whatever else is in it would be written with each commit.
		next.Data = map[string]string{keyHolder: j.holder}
		set(next, keyWrites, have.Data[keyWrites])
		if have.ResourceVersion == "" {
			err = j.client.Create(ctx, next)
		} else {
			err = j.client.Update(ctx, next)
		}
		switch {
		case err == nil:
			j.begin(next)
			return nil
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
			// Somebody else was quicker: look again.
		default:
			return fmt.Errorf("take over ConfigMap %s: %w", j.id, err)
		}
	}
	return fmt.Errorf("take over ConfigMap %s: it changes all the time", j.id)
}

func (j *Journal) begin(obj *corev1.ConfigMap) {
	list, err := decode(obj.Data[keyWrites])
	if err != nil {
		j.log.Warn("cannot read all of the journal; going on with what can be read", "configMap", j.id.String(), "error", err)
	}
	j.object, j.taken, j.open = obj, true, list
}

// read returns a ConfigMap, nil if there is none.
func (j *Journal) read(ctx context.Context, id types.NamespacedName) (*corev1.ConfigMap, error) {
	var have corev1.ConfigMap
	err := j.client.Get(ctx, id, &have)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", id, err)
	}
	return &have, nil
}

// Commit records the writes that change addresses; the others need no record.
// When it returns nil they may be sent, and are Open. If there are none,
// nothing is requested. After any error none of them may be sent; ErrLost is
// final.
func (j *Journal) Commit(ctx context.Context, writes []status.Write) error {
	next := entries(writes)
	if len(next) == 0 {
		return nil
	}
	if !j.taken {
		return ErrLost
	}
	open := merge(j.open, next)
	text, err := encode(open)
	if err != nil {
		return err
	}
	for range attempts {
		if err := j.look(ctx); err != nil {
			return err
		}
		obj := j.object.DeepCopy()
		set(obj, keyWrites, text)
		err := j.client.Update(ctx, obj)
		switch {
		case err == nil:
			j.object, j.open = obj, open
			return nil
		case apierrors.IsConflict(err):
			j.object = nil // of another leader, or of a user with kubectl
		case apierrors.IsNotFound(err):
			return j.lose()
		default:
			j.object = nil // it may have been carried out
			return fmt.Errorf("write to ConfigMap %s: %w", j.id, err)
		}
	}
	return fmt.Errorf("write to ConfigMap %s: it changes all the time", j.id)
}

// look makes sure that object is known, and that this replica is its holder.
func (j *Journal) look(ctx context.Context) error {
	if j.object != nil {
		return nil
	}
	have, err := j.read(ctx, j.id)
	switch {
	case err != nil:
		return err
	case have == nil || have.Data[keyHolder] != j.holder:
		return j.lose()
	}
	j.object = have
	return nil
}

func (j *Journal) lose() error {
	j.taken = false
	return ErrLost
}

// Taken reports whether this replica is the holder, as far as it knows.
func (j *Journal) Taken() bool { return j.taken }

// Open returns the writes that may be under way: those of the last Commits,
// and those that the previous holder has left, but for those that are Closed.
func (j *Journal) Open() []Entry { return slices.Clone(j.open) }

// Close notes that no write to this version of a Service is under way any
// more: the Service has another version, because one was carried out, or is
// gone. That needs no request.
func (j *Journal) Close(uid types.UID, version string) {
	j.open = slices.DeleteFunc(j.open, func(e Entry) bool { return e.MayReach(uid, version) })
}

// Refused notes that a write of the last Commit will never be carried out. That says nothing about older ones to the same
// version of the Service: those stay open. It needs no request.
func (j *Journal) Refused(w *status.Write) {
	uid, version := w.Object.GetUID(), w.Object.GetResourceVersion()
	j.open = slices.DeleteFunc(j.open, func(e Entry) bool {
		return e.MayReach(uid, version) && slices.Equal(e.Addresses, w.Addresses) && !e.again
	})
}

func set(obj *corev1.ConfigMap, key, value string) {
	if value == "" {
		delete(obj.Data, key)
		return
	}
	if obj.Data == nil {
		obj.Data = map[string]string{}
	}
	obj.Data[key] = value
}
