// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

func TestMove(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]lb.Move{
		"":                                  {},
		"node2":                             {},
		"node2 soon":                        {},
		" 2026-03-01T12:00:00Z":             {},
		"node2 2026-03-01T12:00:00Z":        {To: "node2", At: at},
		" node2  2026-03-01T12:00:00Z ":     {To: "node2", At: at},
		"node2 2026-03-01T13:00:00.0+01:00": {To: "node2", At: at},
	} {
		got := move(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{api.AnnotationL2MoveTo: value}}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", value, diff)
		}
	}
}
