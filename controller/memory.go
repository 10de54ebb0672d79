// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/telemetry"
)

// store keeps a text from one leader to the next; *journal.Journal is one.
type store interface {
	// Remembered returns what SetRemembered was given last, by whomever.
	Remembered() string
	// SetRemembered makes no request: the text goes with the next writes.
	SetRemembered(text string) error
}

// memory remembers for a while what Services had that are gone, so that one
// that comes back under its name gets the same again.
//
//	every replica   add     a Service has left the cache
//	the leader      recall  once in each round; new memories go to the store
//
// The store is written only after a Service has gone. Memories that have ended
// leave it with the next new one.
type memory struct {
	window time.Duration // 0: nothing is remembered
	store  store
	log    *slog.Logger

	loaded  bool
	entries map[lb.ServiceKey]memo
	last    []*corev1.Service // of the round before

	mu    sync.Mutex // guards added
	added []departed
}

// memo is what a Service had and when it was last seen.
type memo struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Until     time.Time    `json:"until"`
}

type departed struct {
	svc *corev1.Service
	at  time.Time
}

// maxAdded bounds what a replica that does not lead keeps in mind.
const maxAdded = 10_000

func newMemory(window time.Duration, s store, log *slog.Logger) *memory {
	return &memory{window: window, store: s, log: log, entries: map[lb.ServiceKey]memo{}}
}

// add notes a Service that has left the cache. It does not block.
func (m *memory) add(svc *corev1.Service) {
	if m.window == 0 || len(svc.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added = append(m.added, departed{svc, time.Now()})
	if len(m.added) > maxAdded {
		m.added = slices.Delete(m.added, 0, len(m.added)-maxAdded)
	}
}

// recall takes over what was stored, notes which Services have gone since the
// last round, and returns what is remembered, by key.
func (m *memory) recall(services []*corev1.Service, now time.Time) []lb.Remembered {
	if m.window == 0 {
		return nil
	}
	if !m.loaded {
		m.load()
	}
	if m.note(services, now) {
		m.save()
	}
	for k, e := range m.entries {
		if !now.Before(e.Until) {
			delete(m.entries, k)
		}
	}
	m.forgetReturned(services)
	m.last = services
	out := make([]lb.Remembered, 0, len(m.entries))
	for k, e := range m.entries {
		out = append(out, lb.Remembered{Key: k, Addresses: e.Addresses})
	}
	slices.SortFunc(out, func(a, b lb.Remembered) int { return a.Key.Compare(b.Key) })
	return out
}

// note makes memories of Services that have gone, and reports whether there
// are new ones. The events may be later than the reading, so readings are
// compared, too.
func (m *memory) note(services []*corev1.Service, now time.Time) bool {
	m.mu.Lock()
	gone := m.added
	m.added = nil
	m.mu.Unlock()
	if len(m.last) > 0 {
		present := make(map[types.UID]struct{}, len(services))
		for _, s := range services {
			present[s.UID] = struct{}{}
		}
		for _, s := range m.last {
			if _, ok := present[s.UID]; !ok {
				gone = append(gone, departed{s, now})
			}
		}
	}
	news := false
	for _, d := range gone {
		k := keyOf(d.svc)
		e := memo{Namespace: k.Namespace, Name: k.Name, Addresses: ingressOf(d.svc), Until: d.at.Add(m.window).UTC().Truncate(time.Second)}
		// The same departure is told twice, or long ago to one who did not lead.
		if old, ok := m.entries[k]; len(e.Addresses) == 0 || !now.Before(e.Until) || (ok && slices.Equal(old.Addresses, e.Addresses) && e.Until.Sub(old.Until) < m.window/2) {
			continue
		}
		m.entries[k], news = e, true
	}
	return news
}

// forgetReturned drops what Services have again, or have something else for.
func (m *memory) forgetReturned(services []*corev1.Service) {
	if len(m.entries) == 0 {
		return
	}
	for _, s := range services {
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			delete(m.entries, keyOf(s))
		}
	}
}

// load reads what leaders before this one have remembered. What this replica
// has seen itself meanwhile is in added.
func (m *memory) load() {
	m.loaded = true
	for line := range strings.Lines(m.store.Remembered()) {
		var e memo
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Name == "" {
			m.log.Warn("cannot read what is remembered of a Service that is gone; going on without", "line", line, telemetry.KeyError, err)
			continue
		}
		m.entries[lb.ServiceKey{Namespace: e.Namespace, Name: e.Name}] = e
	}
}

// save hands all memories to the store: the youngest, if there is no room for
// more.
func (m *memory) save() {
	list := make([]memo, 0, len(m.entries))
	for _, e := range m.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b memo) int {
		if c := b.Until.Compare(a.Until); c != 0 {
			return c
		}
		return lb.ServiceKey{Namespace: a.Namespace, Name: a.Name}.Compare(lb.ServiceKey{Namespace: b.Namespace, Name: b.Name})
	})
	var b strings.Builder
	for i := range list {
		line, err := json.Marshal(&list[i])
		if err != nil {
			panic(fmt.Sprintf("controller: cannot encode %v: %v", list[i], err))
		}
		if b.Len()+len(line)+1 > journal.MaxRemembered {
			break
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if err := m.store.SetRemembered(b.String()); err != nil {
		m.log.Warn("cannot store what Services had that are gone; a controller that starts anew will not know", telemetry.KeyError, err)
	}
}

func keyOf(s *corev1.Service) lb.ServiceKey {
	return lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}
}

func ingressOf(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}
