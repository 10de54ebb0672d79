// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// journalStore is a replica's connection to the ConfigMaps of the journal.
type journalStore struct {
	*world
	where    string
	fate     fate // of the next request that changes something
	requests int
}

var configMaps = schema.GroupResource{Resource: "configmaps"}

// Get implements journal.Client.
func (s *journalStore) Get(_ context.Context, name types.NamespacedName, obj snapshot.Object) error {
	have := s.journals[s.where+name.Name]
	if have == nil {
		return apierrors.NewNotFound(configMaps, name.Name)
	}
	have.DeepCopyInto(obj.(*corev1.ConfigMap))
	return nil
}

// Create implements journal.Client.
func (s *journalStore) Create(_ context.Context, obj snapshot.Object) error {
	return s.request(obj.(*corev1.ConfigMap), func(next *corev1.ConfigMap) error {
		if s.journals[s.where+next.Name] != nil {
			return apierrors.NewAlreadyExists(configMaps, next.Name)
		}
		return nil
	})
}

// Update implements journal.Client.
func (s *journalStore) Update(_ context.Context, obj snapshot.Object) error {
	return s.request(obj.(*corev1.ConfigMap), func(next *corev1.ConfigMap) error {
		switch have := s.journals[s.where+next.Name]; {
		case have == nil:
			return apierrors.NewNotFound(configMaps, next.Name)
		case have.ResourceVersion != next.ResourceVersion:
			return apierrors.NewConflict(configMaps, next.Name, errConflict)
		}
		return nil
	})
}

func (s *journalStore) request(obj *corev1.ConfigMap, check func(*corev1.ConfigMap) error) error {
	s.requests++
	f := s.fate
	s.fate = arrives
	do := func(next *corev1.ConfigMap) error {
		if err := check(next); err != nil {
			return err
		}
		s.rev++
		next.ResourceVersion = strconv.Itoa(s.rev)
		s.journals[s.where+next.Name] = next.DeepCopy()
		return nil
	}
	switch f {
	case arrives:
		return do(obj)
	case lost:
		_ = do(obj.DeepCopy())
	case delayed:
		later := obj.DeepCopy()
		s.world.requests = append(s.world.requests, func() { _ = do(later) })
	case refused, dropped:
	}
	return errUnknown
}
