// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MemoryName is the name of the ConfigMap with what is remembered.
const MemoryName = "herald-remembered"

const keyRemembered = "remembered"

// MaxRemembered bounds SetRemembered. The API server takes 1 MiB in all.
const MaxRemembered = 512 << 10

// memory is the ConfigMap with what is remembered.
type memory struct {
	id types.NamespacedName
	// object is the ConfigMap as it is if nobody else has written; nil if there
	// is none, or that is not known.
	object *corev1.ConfigMap
	loaded bool
	// remembered is to be stored; stored is what was, as far as is known.
	remembered, stored string
}

// load reads what the leaders before this one have remembered. Nobody's address
// is at risk without it, so a role that does not allow it is no error.
func (j *Journal) load(ctx context.Context) error {
	m := &j.memory
	if m.loaded {
		return nil
	}
	have, err := j.read(ctx, m.id)
	if apierrors.IsForbidden(err) {
		j.log.Warn("may not read what Services had that are gone; going on without: allow get, update and create", "configMap", m.id.String(), "error", err)
	} else if err != nil {
		return err
	}
	m.loaded = true
	if have != nil {
		m.object, m.stored = have, have.Data[keyRemembered]
		m.remembered = m.stored
	}
	return nil
}

// Remembered returns what SetRemembered was given last, by this leader or by
// one before it; empty if nothing.
func (j *Journal) Remembered() string { return j.memory.remembered }

// SetRemembered says what the next leaders shall find, in any form. It makes no
// request: the next Store does.
// So whoever wants to remember the addresses of deleted Services reads
// Remembered at the start of a round, works out the new text, which must be the
// same as long as nothing new has happened, and sets it before the round's
// writes are applied:
//
//	Remembered -> snapshot.Build -> ipam.Plan -> SetRemembered -> Writer.Apply (stores)
//
// Texts that are longer than MaxRemembered are refused: leave the oldest out.
func (j *Journal) SetRemembered(text string) error {
	if len(text) > MaxRemembered {
		return fmt.Errorf("remember %d bytes: %d is the most", len(text), MaxRemembered)
	}
	j.memory.remembered = text
	return nil
}

// TrimRemembered is SetRemembered for a text that only leaves out what has
// ended. It causes no request: what has ended stays until there is something
// new to remember.
func (j *Journal) TrimRemembered(text string) {
	if m := &j.memory; m.remembered == m.stored {
		m.stored = text
	}
	j.memory.remembered = text
}

// Store stores what is to be remembered, if it has changed. ErrLost: this
// replica does not lead any more. After any other error it may be called again.
func (j *Journal) Store(ctx context.Context) error {
	m := &j.memory
	if m.remembered == m.stored {
		return nil
	}
	for range attempts {
		obj := m.object.DeepCopy()
		request := j.client.Update
		if obj == nil {
			request = j.client.Create
			obj = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: m.id.Namespace, Name: m.id.Name, Annotations: map[string]string{
				"kubernetes.io/description": "The addresses of Services that were deleted a moment ago, for those that come back. Not to be edited.",
			}}}
		}
		text := m.remembered
		set(obj, keyRemembered, text)
		err := request(ctx, obj)
		switch {
		case err == nil:
			m.object, m.stored = obj, text
			return nil
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
			// A user, or another leader: that one's memory is the better one.
			if err := j.again(ctx); err != nil {
				return err
			}
		default:
			// If it was carried out, the next one conflicts, and looks.
			return fmt.Errorf("write to ConfigMap %s: %w", m.id, err)
		}
	}
	return fmt.Errorf("write to ConfigMap %s: it changes all the time", m.id)
}

// again makes sure that this replica still leads, and reads the memory once more.
func (j *Journal) again(ctx context.Context) error {
	j.object = nil
	if err := j.look(ctx); err != nil {
		return err
	}
	have, err := j.read(ctx, j.memory.id)
	j.memory.object = have
	return err
}
