// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/journal"
)

// shelf is a store.
type shelf struct {
	text string
	sets int
}

func (s *shelf) Remembered() string { return s.text }

func (s *shelf) SetRemembered(text string) error {
	if len(text) > journal.MaxRemembered {
		return fmt.Errorf("%d bytes", len(text))
	}
	s.text = text
	s.sets++
	return nil
}

func having(name string, uid int, ips ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(fmt.Sprint(uid))}}
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func remembered(t *testing.T, got []lb.Remembered, want ...string) {
	t.Helper()
	var lines []string
	for _, r := range got {
		lines = append(lines, fmt.Sprintf("%s %v", r.Key, r.Addresses))
	}
	if diff := cmp.Diff(want, lines, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		m := newMemory(10*time.Minute, s, slog.New(slog.DiscardHandler))
		recall := func(services ...*corev1.Service) []lb.Remembered { return m.recall(services, time.Now()) }
		web, api, none := having("web", 1, "192.0.2.1", "2001:db8::1"), having("api", 2, "192.0.2.2"), having("none", 3)

		remembered(t, recall(web, api, none))
		remembered(t, recall(web, api, none))
		if s.sets != 0 {
			t.Errorf("stored %d times though nothing has gone", s.sets)
		}
		// The event of one deletion comes before the reading, of the other after.
		m.add(web)
		remembered(t, recall(), "shop/api [192.0.2.2]", "shop/web [192.0.2.1 2001:db8::1]")
		m.add(api)
		m.add(none)
		time.Sleep(time.Minute)
		remembered(t, recall(), "shop/api [192.0.2.2]", "shop/web [192.0.2.1 2001:db8::1]")
		if s.sets != 1 {
			t.Errorf("stored %d times, want once", s.sets)
		}
		// It comes back, and has no address yet; then it has.
		remembered(t, recall(having("web", 4)), "shop/api [192.0.2.2]", "shop/web [192.0.2.1 2001:db8::1]")
		remembered(t, recall(having("web", 4, "192.0.2.1")), "shop/api [192.0.2.2]")

		// Another replica takes over: it knows what was stored, and what it saw.
		next := newMemory(10*time.Minute, s, slog.New(slog.DiscardHandler))
		next.add(having("mail", 5, "192.0.2.3"))
		remembered(t, next.recall([]*corev1.Service{having("web", 4, "192.0.2.1")}, time.Now()), "shop/api [192.0.2.2]", "shop/mail [192.0.2.3]")
		if strings.Count(s.text, "\n") != 3 {
			t.Errorf("stored: %s", s.text)
		}
		time.Sleep(9*time.Minute + time.Second)
		remembered(t, next.recall(nil, time.Now()), "shop/mail [192.0.2.3]", "shop/web [192.0.2.1]")
		time.Sleep(time.Minute)
		remembered(t, next.recall(nil, time.Now()), "shop/web [192.0.2.1]")
		if s.sets != 3 {
			t.Errorf("stored %d times, want 3", s.sets)
		}
		// One that has seen it long ago has nothing to store.
		last := newMemory(10*time.Minute, s, slog.New(slog.DiscardHandler))
		last.add(having("mail", 5, "192.0.2.3"))
		time.Sleep(10 * time.Minute)
		remembered(t, last.recall(nil, time.Now()))
		if s.sets != 3 {
			t.Errorf("stored %d times, want 3", s.sets)
		}
	})
}

func TestMemoryLimits(t *testing.T) {
	t.Parallel()
	off := newMemory(0, nil, nil)
	off.add(having("web", 1, "192.0.2.1"))
	remembered(t, off.recall(nil, time.Now()))

	s := &shelf{text: "nonsense\n" + `{"namespace":"shop","name":"old","addresses":["192.0.2.9"],"until":"2100-01-01T00:00:00Z"}` + "\n"}
	m := newMemory(time.Hour, s, slog.New(slog.DiscardHandler))
	remembered(t, m.recall(nil, time.Now()), "shop/old [192.0.2.9]")
	var many []*corev1.Service
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		many = append(many, having(fmt.Sprintf("a-name-of-some-length-%05d", i), i, a.String()))
	}
	m.recall(many, time.Now())
	if got := len(m.recall(nil, time.Now())); got != 20_001 {
		t.Errorf("remembers %d, want all", got)
	}
	if n := len(s.text); n > journal.MaxRemembered || n < journal.MaxRemembered-1000 {
		t.Errorf("stores %d bytes, want almost %d", n, journal.MaxRemembered)
	}
}
