// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/status"
)

// TestCalm: somebody overwrites what this speaker writes, again and again.
func TestCalm(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	report := func(text string) []status.ServiceReport {
		return []status.ServiceReport{{Key: lb.ServiceKey{Namespace: "default", Name: "web"}, Reason: reason.New(reason.Announcing, "%s", text)}}
	}
	told := []status.Event{{Reason: "nodeAssigned"}}
	var c calm
	var written []int // seconds
	events := 0
	for s := range 200 {
		kept, again := c.filter([]status.Write{{Object: svc, Events: told}}, report("mine"), start.Add(time.Duration(s)*time.Second))
		c.note(kept, start.Add(time.Duration(s)*time.Second))
		if len(kept) > 0 {
			written = append(written, s)
			events += len(kept[0].Events)
		} else if again <= 0 {
			t.Fatalf("after %d s: held back, and not looked at again", s)
		}
	}
	if diff := cmp.Diff([]int{0, 1, 3, 7, 15, 31, 63, 123, 183}, written); diff != "" {
		t.Errorf("seconds of the writes (-want +got):\n%s", diff)
	}

	if events != 1 {
		t.Errorf("%d events for one fact, want 1", events)
	}

	// Another Service of that name is another one.
	at := start.Add(184 * time.Second)
	svc = svc.DeepCopy()
	svc.UID = "another"
	if kept, _ := c.filter([]status.Write{{Object: svc, Events: told}}, report("mine"), at); len(kept) != 1 || len(kept[0].Events) != 1 {
		t.Errorf("on a new Service: %+v, want a write with an event", kept)
	}

	// News are never held back, nor what is about something else.
	if kept, _ := c.filter([]status.Write{{Object: svc, Events: told}, {Object: &v1beta1.ServiceL2Status{}}}, report("news"), at); len(kept) != 2 || len(kept[0].Events) != 1 {
		t.Errorf("news: %+v, want two writes and the event", kept)
	}
	// A Service that is gone is forgotten.
	c.filter(nil, nil, at)
	if len(c.said) != 0 {
		t.Errorf("still remembered: %v", c.said)
	}
}

// TestCalmOnlyAboutFights: what the API server did not take, and what was
// otherwise for a while, is no repetition.
func TestCalmOnlyAboutFights(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	report := func(code reason.Code) []status.ServiceReport {
		return []status.ServiceReport{{Key: lb.ServiceKey{Namespace: "default", Name: "web"}, Reason: reason.New(code, "words")}}
	}
	var c calm
	for s := range 50 {
		at := start.Add(time.Duration(s) * 100 * time.Millisecond)
		if kept, _ := c.filter([]status.Write{{Object: svc}}, report(reason.NoEndpoints), at); len(kept) != 1 {
			t.Fatalf("try %d is held back, though none has succeeded", s)
		}
	}
	for s := range 50 {
		at := start.Add(time.Duration(s) * 10 * time.Second)
		c.filter(nil, report(reason.Announcing), at) // somebody else says so
		kept, _ := c.filter([]status.Write{{Object: svc}}, report(reason.NoEndpoints), at.Add(time.Second))
		if len(kept) != 1 {
			t.Fatalf("the endpoints went for the %d. time: held back", s+1)
		}
		c.note(kept, at.Add(time.Second))
	}
}
