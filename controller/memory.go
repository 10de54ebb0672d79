// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"log/slog"
	"maps"
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
	// SetRemembered makes no request: the text is stored beside the writes of
	// the round.
	SetRemembered(text string) error
	// TrimRemembered is the same, but the text is not worth a request.
	TrimRemembered(text string)
}

// memory remembers for a while what Services had that are gone, so that one
// that comes back under its name gets the same again.
//
//	every replica   add     a Service has left the cache
//	the leader      recall  once in each round; new memories go to the store
//
// The store is written only after a Service has gone. Memories that have ended
// leave it then.
type memory struct {
	window time.Duration // 0: nothing is remembered
	store  store
	log    *slog.Logger

	loaded  bool
	entries map[lb.ServiceKey]memo
	list    []lb.Remembered   // the same, by key; nil: to be made anew
	last    []*corev1.Service // of the round before
	dirty   bool              // there is a memory that has not been stored
	stored  int               // bytes
	saved   time.Time

	mu    sync.Mutex // guards added
	added []departed
}

// memo is what a Service had, and until when that is remembered.
type memo struct {
	addresses []netip.Addr
	until     time.Time
}

type departed struct {
	svc *corev1.Service
	at  time.Time
}

const (
	// maxAdded bounds what a replica that does not lead keeps in mind.
	maxAdded = 10_000
	// maxStored bounds the store: about 2,000 Services. All of it is written
	// anew each time that one is deleted.
	maxStored = 128 << 10
	// A store of more than fewStored is written once in saveInterval only, for
	// the sake of the API server when very many Services are deleted.
	fewStored    = 8 << 10
	saveInterval = time.Second
)

func newMemory(window time.Duration, s store, log *slog.Logger) *memory {
	return &memory{window: window, store: s, log: log, entries: map[lb.ServiceKey]memo{}}
}

// add notes a Service that has left the cache. It does not block.
func (m *memory) add(svc *corev1.Service) { m.gone(svc, time.Now()) }

func (m *memory) gone(svc *corev1.Service, at time.Time) {
	if m.window == 0 || len(svc.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added = append(m.added, departed{svc, at})
	if len(m.added) > maxAdded {
		m.added = slices.Delete(m.added, 0, len(m.added)-maxAdded)
	}
}

// recall takes over what was stored, notes which Services have gone since the
// last round, and returns what is remembered, by key. If again is not 0, there
// has to be another round by then.
func (m *memory) recall(services []*corev1.Service, now time.Time) (out []lb.Remembered, again time.Duration) {
	if m.window == 0 {
		return nil, 0
	}
	if !m.loaded {
		m.load()
	}
	m.dirty = m.note(services, now) || m.dirty
	m.last = services
	ended := m.forget(services, now)
	switch wait := saveInterval - now.Sub(m.saved); {
	case m.dirty && m.stored > fewStored && wait > 0:
		again = wait
	case m.dirty:
		m.save(now)
	case ended:
		m.store.TrimRemembered(m.encode())
	}
	return m.listed(), again
}

// listed returns what is remembered, by key. It is the same in most rounds.
func (m *memory) listed() []lb.Remembered {
	if m.list == nil && len(m.entries) > 0 {
		for k, e := range m.entries {
			m.list = append(m.list, lb.Remembered{Key: k, Addresses: e.addresses})
		}
		slices.SortFunc(m.list, func(a, b lb.Remembered) int { return a.Key.Compare(b.Key) })
	}
	return m.list
}

// note makes memories of Services that have gone, and reports whether there
// are new ones. The events may be later than the reading, so readings are
// compared, too.
func (m *memory) note(services []*corev1.Service, now time.Time) bool {
	var gone []departed
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
	m.mu.Lock()
	gone = append(gone, m.added...) // they know better what it had in the end
	m.added = nil
	m.mu.Unlock()
	news := false
	for _, d := range gone {
		k := keyOf(d.svc)
		e := memo{ingressOf(d.svc), d.at.Add(m.window).UTC().Truncate(time.Second)}
		// The same departure is told twice, or long ago to one who did not lead.
		if old, ok := m.entries[k]; len(e.addresses) == 0 || !now.Before(e.until) || (ok && slices.Equal(old.addresses, e.addresses) && e.until.Sub(old.until) < m.window/2) {
			continue
		}
		m.entries[k], news, m.list = e, true, nil
	}
	return news
}

// forget drops what has ended, and what Services have again, or have something
// else for.
func (m *memory) forget(services []*corev1.Service, now time.Time) bool {
	before := len(m.entries)
	for k, e := range m.entries {
		if !now.Before(e.until) {
			delete(m.entries, k)
		}
	}
	if len(m.entries) > 0 {
		for _, s := range services {
			if len(s.Status.LoadBalancer.Ingress) > 0 {
				delete(m.entries, keyOf(s))
			}
		}
	}
	if len(m.entries) == before {
		return false
	}
	m.list = nil
	return true
}

// load reads what leaders before this one have remembered. What this replica
// has seen itself meanwhile is in added.
func (m *memory) load() {
	m.loaded = true
	for line := range strings.Lines(m.store.Remembered()) {
		e, err := journal.ParseMemo(line)
		if err != nil {
			m.log.Warn("cannot read what is remembered of a Service that is gone; going on without", "line", line, telemetry.KeyError, err)
			continue
		}
		m.entries[e.Key] = memo{e.Addresses, e.Until}
	}
}

// save hands all memories to the store.
func (m *memory) save(now time.Time) {
	text := m.encode()
	if err := m.store.SetRemembered(text); err != nil {
		m.log.Warn("cannot store what Services had that are gone; a controller that starts anew will not know", telemetry.KeyError, err)
	}
	m.dirty, m.stored, m.saved = false, len(text), now
}

// encode writes the memories, a line each. If there is no room for all, the oldest are left out.
func (m *memory) encode() string {
	keys := slices.SortedFunc(maps.Keys(m.entries), func(a, b lb.ServiceKey) int {
		return cmp.Or(m.entries[b].until.Compare(m.entries[a].until), a.Compare(b))
	})
	var b strings.Builder
	for _, k := range keys {
		e := m.entries[k]
		line := journal.Memo{Key: k, Addresses: e.addresses, Until: e.until}.String() + "\n"
		if b.Len()+len(line) > maxStored {
			break
		}
		b.WriteString(line)
	}
	return b.String()
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
