// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Last spares Build most of the work that the last Build with it has done, like
// a Memo, and takes hardly any memory: it keeps what is in the last snapshot,
// for a program that holds on to that anyway. It knows nothing of Services that
// are not in it.
//
// The objects of a reading are never changed, so the same pointer means the
// same content. A Last is for one goroutine and one set of Options; its zero
// value is ready.
type Last struct {
	objs     []*corev1.Service // by age
	services []lb.Service      // parallel to objs
	slices   []*discoveryv1.EndpointSlice
}

// build returns what the builder without a Last would.
func (l *Last) build(b *builder, objs []*corev1.Service, slicesOf []*discoveryv1.EndpointSlice) []lb.Service {
	kept, fresh := l.divide(objs)
	endpoints := l.endpoints(slicesOf)
	next := Last{
		objs:     make([]*corev1.Service, 0, len(objs)),
		services: make([]lb.Service, 0, len(objs)),
		slices:   slices.Clone(slicesOf),
	}
	add := func(obj *corev1.Service, s *lb.Service) {
		next.objs = append(next.objs, obj)
		next.services = append(next.services, *s)
	}
	addFresh := func() {
		obj := fresh[0].obj
		fresh = fresh[1:]
		if s := service(obj); b.keeps(obj, &s) {
			s.Endpoints = endpoints.all().of(s.Key)
			add(obj, &s)
		}
	}
	for i, obj := range l.objs {
		if !kept[i] {
			continue
		}
		for len(fresh) > 0 && fresh[0].compare(agedOf(obj)) < 0 {
			addFresh()
		}
		add(obj, &l.services[i])
		if s := &next.services[len(next.services)-1]; endpoints.changed[s.Key] {
			s.Endpoints = endpoints.all().of(s.Key)
		}
	}
	for len(fresh) > 0 {
		addFresh()
	}
	*l = next
	return l.services
}

// divide says which of the last objects are there still, and returns the others
// that may count, by age.
func (l *Last) divide(objs []*corev1.Service) (kept []bool, fresh []aged) {
	at := make(map[*corev1.Service]int32, len(l.objs))
	for i, obj := range l.objs {
		at[obj] = int32(i)
	}
	kept = make([]bool, len(l.objs))
	for _, obj := range objs {
		if i, ok := at[obj]; ok {
			kept[i] = true
		} else {
			fresh = append(fresh, agedOf(obj))
		}
	}
	slices.SortFunc(fresh, aged.compare)
	return kept, fresh
}

// latestSlices are the EndpointSlices of a reading.
type latestSlices struct {
	objs []*discoveryv1.EndpointSlice
	// changed are the Services whose slices are not those of the last reading.
	changed map[lb.ServiceKey]bool
	groups  slicesByService // nil: not needed yet
}

func (l *Last) endpoints(objs []*discoveryv1.EndpointSlice) *latestSlices {
	out := &latestSlices{objs: objs, changed: map[lb.ServiceKey]bool{}}
	gone := make(map[*discoveryv1.EndpointSlice]bool, len(l.slices))
	for _, s := range l.slices {
		gone[s] = true
	}
	for _, s := range objs {
		if gone[s] {
			gone[s] = false
		} else {
			out.changed[serviceOf(s)] = true
		}
	}
	for _, s := range l.slices {
		if gone[s] {
			out.changed[serviceOf(s)] = true
		}
	}
	return out
}

// all groups the slices when somebody asks for the first time.
func (x *latestSlices) all() slicesByService {
	if x.groups == nil {
		x.groups = groupSlices(x.objs)
	}
	return x.groups
}
