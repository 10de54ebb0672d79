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

// TestMemoryKnowsTheLast: a Service gets its second address, and is gone before
// the next reading, which is compared with one that shows the first only.
func TestMemoryKnowsTheLast(t *testing.T) {
	t.Parallel()
	m := newMemory(time.Hour, &shelf{}, slog.New(slog.DiscardHandler))
	now := time.Now()
	m.recall([]*corev1.Service{having("web", 1, "192.0.2.1")}, now)
	m.gone(having("web", 1, "192.0.2.1", "2001:db8::1"), now)
	out, _ := m.recall(nil, now)
	remembered(t, out, "shop/web [192.0.2.1 2001:db8::1]")
}

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

func (s *shelf) TrimRemembered(text string) { s.text = text }

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
		recall := func(services ...*corev1.Service) []lb.Remembered {
			out, _ := m.recall(services, time.Now())
			return out
		}
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
		m = next
		remembered(t, recall(having("web", 4, "192.0.2.1")), "shop/api [192.0.2.2]", "shop/mail [192.0.2.3]")
		if strings.Count(s.text, "\n") != 2 {
			t.Errorf("stored: %s", s.text)
		}
		time.Sleep(9*time.Minute + time.Second)
		remembered(t, recall(), "shop/mail [192.0.2.3]", "shop/web [192.0.2.1]")
		time.Sleep(time.Minute)
		remembered(t, recall(), "shop/web [192.0.2.1]")
		if s.sets != 3 {
			t.Errorf("stored %d times, want 3", s.sets)
		}
		// One that has seen it long ago has nothing to store.
		last := newMemory(10*time.Minute, s, slog.New(slog.DiscardHandler))
		last.add(having("mail", 5, "192.0.2.3"))
		time.Sleep(10 * time.Minute)
		m = last
		remembered(t, recall())
		if s.sets != 3 {
			t.Errorf("stored %d times, want 3", s.sets)
		}
	})
}

func TestMemoryLimits(t *testing.T) {
	t.Parallel()
	off := newMemory(0, nil, nil)
	off.add(having("web", 1, "192.0.2.1"))
	if out, again := off.recall(nil, time.Now()); len(out) > 0 || again != 0 {
		t.Errorf("remembers %v, though it is turned off", out)
	}

	s := &shelf{text: "nonsense\nsoon shop/web 192.0.2.8\n2100-01-01T00:00:00Z shop/web web\n2100-01-01T00:00:00Z shop/old 192.0.2.9,2001:db8::9\n"}
	m := newMemory(time.Hour, s, slog.New(slog.DiscardHandler))
	now := time.Now()
	out, _ := m.recall(nil, now)
	remembered(t, out, "shop/old [192.0.2.9 2001:db8::9]")
	var many []*corev1.Service
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		many = append(many, having(fmt.Sprintf("a-name-of-some-length-%05d", i), i, a.String()))
	}
	m.recall(many, now)
	if out, again := m.recall(many[10:], now); len(out) != 11 || again != 0 || strings.Count(s.text, "\n") != 11 {
		t.Errorf("remembers %d, again in %v, stores %s", len(out), again, s.text)
	}
	// All are remembered, as many stored as there is room for.
	if out, again := m.recall(nil, now); len(out) != 20_001 || again != 0 {
		t.Errorf("remembers %d, want all; again in %v", len(out), again)
	}
	if n := len(s.text); n > maxStored || n < maxStored-100 {
		t.Errorf("stores %d bytes, want almost %d", n, maxStored)
	}
	// More of them are not stored at once, but soon.
	sets := s.sets
	m.add(having("a-first", 30_000, "10.9.9.9"))
	if _, again := m.recall(nil, now.Add(time.Second/4)); again != 3*time.Second/4 || s.sets != sets {
		t.Errorf("again in %v, stored %d times more", again, s.sets-sets)
	}
	if _, again := m.recall(nil, now.Add(time.Second)); again != 0 || s.sets != sets+1 || !strings.Contains(s.text, "shop/a-first") {
		t.Errorf("again in %v, stored %d times more", again, s.sets-sets)
	}
}
