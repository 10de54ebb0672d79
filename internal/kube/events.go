// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// eventSink stores events. It implements record.EventSink, whose methods have
// no context; sending ends when the broadcaster is shut down.
type eventSink struct {
	client rest.Interface
	// background is the context of requests.
	background func() context.Context
}

// Create implements record.EventSink.
func (s *eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.client.Post(), e, e)
}

// Update implements record.EventSink.
func (s *eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.client.Put().Name(e.Name), e, e)
}

// Patch implements record.EventSink. It raises the count of an event.
func (s *eventSink) Patch(old *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.send(s.client.Patch(types.StrategicMergePatchType).Name(old.Name), old, data)
}

// send completes a request about an event and returns what the server made of it.
func (s *eventSink) send(r *rest.Request, e *corev1.Event, body any) (*corev1.Event, error) {
	var out corev1.Event
	err := r.NamespaceIfScoped(e.Namespace, e.Namespace != "").Resource("events").Body(body).Do(s.background()).Into(&out)
	return &out, err
}
