// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// slicesByService groups EndpointSlices by the Service that their label names.
type slicesByService map[lb.ServiceKey][]*discoveryv1.EndpointSlice

func groupSlices(objs []*discoveryv1.EndpointSlice) slicesByService {
	m := make(slicesByService, len(objs))
	for _, s := range objs {
		if key := serviceOf(s); key.Name != "" {
			m[key] = append(m[key], s)
		}
	}
	return m
}

// serviceOf is whose endpoints they are; nobody's if it has no name.
func serviceOf(s *discoveryv1.EndpointSlice) lb.ServiceKey {
	return lb.ServiceKey{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// endpoint is one backend of one family. A backend can be in two slices for a
// moment while it moves from one to the other.
type endpoint struct {
	node     lb.NodeName
	family   discoveryv1.AddressType
	address  string
	ready    bool
	draining bool // terminating, but still serving
}

// of counts the endpoints of a Service that serve, by node. As in kube-proxy,
// ready ones serve; if there is none at all, those that still serve while they
// terminate do. Otherwise these are draining. A Pod of a dual-stack Service is in a slice of each family and
// counts once. Endpoints outside the cluster count for the node named "".
func (m slicesByService) of(key lb.ServiceKey) []lb.NodeEndpoints {
	all := m[key]
	if len(all) == 0 {
		return nil
	}
	var eps []endpoint
	anyReady := false
	for _, s := range all {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue // kube-proxy has no use for names either
		}
		for i := range s.Endpoints {
			e := read(s.AddressType, &s.Endpoints[i])
			if e.ready || e.draining {
				anyReady = anyReady || e.ready
				eps = append(eps, e)
			}
		}
	}
	for i := range eps {
		eps[i].ready = eps[i].ready || !anyReady
	}
	slices.SortFunc(eps, func(a, b endpoint) int {
		if c := strings.Compare(string(a.node), string(b.node)); c != 0 {
			return c
		}
		if c := strings.Compare(string(a.family), string(b.family)); c != 0 {
			return c
		}
		if c := strings.Compare(a.address, b.address); c != 0 || a.ready == b.ready {
			return c
		}
		if a.ready {
			return -1 // what is in two slices counts as ready if it is in one
		}
		return 1
	})
	eps = slices.CompactFunc(eps, func(a, b endpoint) bool {
		return a.node == b.node && a.family == b.family && a.address == b.address
	})
	return count(eps)
}

func read(family discoveryv1.AddressType, e *discoveryv1.Endpoint) endpoint {
	out := endpoint{family: family}
	if e.NodeName != nil {
		out.node = lb.NodeName(*e.NodeName)
	}
	if len(e.Addresses) > 0 {
		out.address = e.Addresses[0]
	}
	// The API says: unknown readiness counts as ready, unknown serving as
	// ready is, unknown terminating as false.
	out.ready = e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := out.ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	out.draining = serving && terminating
	return out
}

// count adds up endpoints sorted by node and family: per node, the family that
// has most.
func count(eps []endpoint) []lb.NodeEndpoints {
	var out []lb.NodeEndpoints
	for i := 0; i < len(eps); {
		one := lb.NodeEndpoints{Node: eps[i].node}
		family := eps[i].family
		for ; i < len(eps) && eps[i].node == one.Node && eps[i].family == family; i++ {
			if eps[i].ready {
				one.Count++
			} else {
				one.Draining++
			}
		}
		if n := len(out); n > 0 && out[n-1].Node == one.Node {
			out[n-1].Count = max(out[n-1].Count, one.Count)
			out[n-1].Draining = max(out[n-1].Draining, one.Draining)
		} else {
			out = append(out, one)
		}
	}
	return out
}
