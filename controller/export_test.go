// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Memory is the memory of deleted Services for the model, which is another
// package and has a clock of its own.
type Memory struct{ m *memory }

// NewMemory returns an empty memory.
func NewMemory(window time.Duration, s store, log *slog.Logger) Memory {
	return Memory{newMemory(window, s, log)}
}

// Gone notes a Service that has left the cache.
func (m Memory) Gone(svc *corev1.Service, at time.Time) { m.m.gone(svc, at) }

// Recall returns what is remembered.
func (m Memory) Recall(services []*corev1.Service, now time.Time) []lb.Remembered {
	out, _ := m.m.recall(services, now)
	return out
}
