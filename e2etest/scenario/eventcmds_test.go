// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestReported(t *testing.T) {
	t.Parallel()
	event := func(component, reason, message string, count int32) corev1.Event {
		return corev1.Event{
			InvolvedObject: corev1.ObjectReference{Namespace: "default", Name: "web"}, Reason: reason, Message: message, Count: count,
			Source: corev1.EventSource{Component: component},
		}
	}
	got := reported([]corev1.Event{
		event("metallb-speaker", "nodeAssigned", "from node1", 1), event("metallb-speaker", "nodeAssigned", "from node2", 1),
		event("metallb-speaker", "nodeAssigned", "from node1", 2), event("metallb-controller", "IPAllocated", "192.0.2.1", 0),
		event("kubelet", "Unhealthy", "no", 7),
	})
	want := "1 IPAllocated default/web 192.0.2.1\n3 nodeAssigned default/web from node1\n1 nodeAssigned default/web from node2\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
