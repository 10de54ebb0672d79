// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Memo spares Build the work that it has done before: with thousands of
// Services, most rounds find one that is new. It keeps what each Service says
// by itself, and their order; nothing in it depends on what others say, so
// Build gives the same with it and without.
//
// The objects of a reading are never changed, so the same pointer means the
// same content. A Memo is for one goroutine; its zero value is ready.
type Memo struct {
	call  uint64
	known map[*corev1.Service]*parsed
	// Those of the last call, in two orders.
	age, key []*parsed
}

// parsed is a Service and what it says.
type parsed struct {
	aged
	svc  lb.Service
	call uint64 // the last one that had it
}

// spare is how many objects a Memo may keep that have changed since.
const spare = 256

// ByKey returns the Services of the last Build, by key.
func (m *Memo) ByKey() []*corev1.Service {
	out := make([]*corev1.Service, len(m.key))
	for i, p := range m.key {
		out[i] = p.obj
	}
	return out
}

// Len is the number of objects that are kept.
func (m *Memo) Len() int { return len(m.known) }

// byAge returns the objects and what they say, by age.
func (m *Memo) byAge(objs []*corev1.Service) []*parsed {
	m.call++
	if m.known == nil {
		m.known = make(map[*corev1.Service]*parsed, len(objs))
	}
	var fresh []*parsed
	for _, o := range objs {
		p := m.known[o]
		if p == nil || p.call != m.call-1 { // new, or in no list since it was gone
			p = &parsed{aged: agedOf(o), svc: service(o)}
			m.known[o] = p
			fresh = append(fresh, p)
		}
		p.call = m.call
	}
	m.age = m.merge(m.age, fresh, func(a, b *parsed) int { return a.compare(b.aged) })
	m.key = m.merge(m.key, fresh, func(a, b *parsed) int { return a.compareNames(b.aged) })
	if len(m.known) > len(m.age)+spare {
		for o, p := range m.known { // only deletes; the order does not matter
			if p.call != m.call {
				delete(m.known, o)
			}
		}
	}
	return m.age
}

// merge returns those of the old ones that are still there and the fresh ones,
// in order, which the old ones are in already.
func (m *Memo) merge(old, fresh []*parsed, compare func(a, b *parsed) int) []*parsed {
	slices.SortFunc(fresh, compare)
	out := make([]*parsed, 0, len(old)+len(fresh))
	for _, p := range old {
		if p.call != m.call {
			continue
		}
		for len(fresh) > 0 && compare(fresh[0], p) < 0 {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
		out = append(out, p)
	}
	return append(out, fresh...)
}

func (a aged) compareNames(b aged) int {
	if c := strings.Compare(a.namespace, b.namespace); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}
