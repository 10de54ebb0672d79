// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

func (b *builder) services(objs []*corev1.Service, slicesOf []*discoveryv1.EndpointSlice) []lb.Service {
	if b.opt.Last != nil {
		return b.opt.Last.build(b, objs, slicesOf)
	}
	endpoints := groupSlices(slicesOf)
	out := make([]lb.Service, 0, len(objs))
	add := func(obj *corev1.Service, s *lb.Service) {
		if b.keeps(obj, s) {
			out = append(out, *s)
			out[len(out)-1].Endpoints = endpoints.of(s.Key)
		}
	}
	if m := b.opt.Memo; m != nil {
		for _, p := range m.byAge(objs) {
			add(p.obj, &p.svc)
		}
		return out
	}
	for _, obj := range byAge(objs) {
		s := service(obj)
		add(obj, &s)
	}
	return out
}

// keeps reports whether a Service gets into the snapshot. One that goes away
// and has nothing to keep does not.
func (b *builder) keeps(obj *corev1.Service, s *lb.Service) bool {
	return b.opt.Serves(obj) && (obj.DeletionTimestamp == nil || len(s.Assigned) > 0)
}

// aged is a Service and its place in the order of the snapshot: oldest first,
// then by name. It is there for speed: a reading of 10,000 Services sorts all
// of them, and what is moved here is small and beside what is compared.
type aged struct {
	created         int64
	namespace, name string
	obj             *corev1.Service
}

func agedOf(o *corev1.Service) aged {
	return aged{o.CreationTimestamp.UnixNano(), o.Namespace, o.Name, o}
}

func (a aged) compare(b aged) int {
	if a.created != b.created {
		return cmp.Compare(a.created, b.created)
	}
	return a.compareNames(b)
}

// byAge returns the objects in the order of the snapshot.
func byAge(objs []*corev1.Service) []*corev1.Service {
	sorted := make([]aged, len(objs))
	for i, o := range objs {
		sorted[i] = agedOf(o)
	}
	slices.SortFunc(sorted, aged.compare)
	out := make([]*corev1.Service, len(objs))
	for i := range sorted {
		out[i] = sorted[i].obj
	}
	return out
}

// Serves reports whether the Service is Herald's to serve.
func (o Options) Serves(s *corev1.Service) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	class := ""
	if s.Spec.LoadBalancerClass != nil {
		class = *s.Spec.LoadBalancerClass
	}
	return class == o.LBClass
}

func service(obj *corev1.Service) lb.Service {
	s := lb.Service{
		Key:           lb.ServiceKey{Namespace: obj.Namespace, Name: obj.Name},
		Created:       obj.CreationTimestamp.Time,
		Labels:        obj.Labels,
		Deleting:      obj.DeletionTimestamp != nil,
		FamilyPolicy:  lb.SingleStack,
		Headless:      obj.Spec.ClusterIP == corev1.ClusterIPNone,
		Local:         obj.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Assigned:      assigned(obj),
		AssignedPools: AllocatedPools(obj),
	}
	if p := obj.Spec.IPFamilyPolicy; p != nil {
		s.FamilyPolicy = lb.FamilyPolicy(*p)
	}
	if !s.Headless {
		s.Families = families(obj)
	}
	for _, p := range obj.Spec.Ports {
		s.Ports = append(s.Ports, lb.Port{Protocol: cmp.Or(string(p.Protocol), string(corev1.ProtocolTCP)), Number: uint16(p.Port)})
	}
	if s.Local {
		s.BackendKey = labels.Set(obj.Spec.Selector).String() // sorted by key
		s.HealthPort = uint16(obj.Spec.HealthCheckNodePort)
	}
	s.Request, s.SharingKey = request(obj)
	s.Move = move(obj)
	return s
}

// families returns those of the ClusterIPs, in their order. An API server that
// has just created the Service may not have filled in all three fields.
func families(obj *corev1.Service) []lb.Family {
	ips := obj.Spec.ClusterIPs
	if len(ips) == 0 && obj.Spec.ClusterIP != "" {
		ips = []string{obj.Spec.ClusterIP}
	}
	var out []lb.Family
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && !slices.Contains(out, lb.FamilyOf(a.Unmap())) {
			out = append(out, lb.FamilyOf(a.Unmap()))
		}
	}
	return out
}

// assigned returns the addresses in the status. What is no address (a host
// name) was written by somebody else.
func assigned(obj *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range obj.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// AllocatedPools returns the pools named by the annotation that Herald writes.
func AllocatedPools(obj *corev1.Service) []string {
	text, _ := annotation(obj, api.AnnotationAllocatedFromPool, api.AnnotationAllocatedFromPoolLegacy)
	return list(text)
}

// annotation returns the value under the new or, if that is absent, the old
// name, and whether the old one was used. An empty value counts as absent.
func annotation(obj *corev1.Service, name, legacy string) (value string, old bool) {
	if v := strings.TrimSpace(obj.Annotations[name]); v != "" {
		return v, false
	}
	if v := strings.TrimSpace(obj.Annotations[legacy]); v != "" {
		return v, true
	}
	return "", false
}

// list splits a comma list and leaves out empty parts.
func list(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// request reads what the user asks for on the Service itself, and its sharing
// key.
func request(obj *corev1.Service) (lb.Request, string) {
	var r lb.Request
	if plain(obj) {
		return r, ""
	}
	read := func(name, legacy string) string {
		v, old := annotation(obj, name, legacy)
		if old {
			r.Deprecated = append(r.Deprecated, legacy)
		}
		return v
	}
	ips := read(api.AnnotationLoadBalancerIPs, api.AnnotationLoadBalancerIPsLegacy)
	r.Pool = read(api.AnnotationAddressPool, api.AnnotationAddressPoolLegacy)
	sharing := read(api.AnnotationAllowSharedIP, api.AnnotationAllowSharedIPLegacy)
	slices.Sort(r.Deprecated)
	named := api.AnnotationLoadBalancerIPs // what the user has written
	if slices.Contains(r.Deprecated, api.AnnotationLoadBalancerIPsLegacy) {
		named = api.AnnotationLoadBalancerIPsLegacy
	}

	var err error
	switch one := obj.Spec.LoadBalancerIP; {
	case ips != "" && one != "":
		r.Invalid = fmt.Sprintf("the annotation %s %q and spec.loadBalancerIP %q are both set: remove one of the two", named, shorten(ips), one)
	case ips != "":
		if r.Addresses, err = requested(ips); err != nil {
			r.Invalid = fmt.Sprintf("the annotation %s %q %v", named, shorten(ips), err)
		}
	case one != "":
		if r.Addresses, err = requested(one); err != nil {
			r.Invalid = fmt.Sprintf("spec.loadBalancerIP %q %v", shorten(one), err)
		}
	}
	return r, sharing
}

// plain reports whether the Service asks for nothing in particular: it has no
// annotations but those that Herald itself writes.
func plain(obj *corev1.Service) bool {
	if obj.Spec.LoadBalancerIP != "" {
		return false
	}
	own := 0
	for _, name := range []string{api.AnnotationAllocatedFromPool, api.AnnotationAssignedAt} {
		if _, ok := obj.Annotations[name]; ok {
			own++
		}
	}
	return own == len(obj.Annotations)
}

// requested parses the addresses asked for. The error continues a sentence.
func requested(text string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, part := range list(text) {
		a, err := netip.ParseAddr(part)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("has %q in it, which is no IP address", shorten(part))
		}
		a = a.Unmap()
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return lb.FamilyOf(o) == lb.FamilyOf(a) }) {
			return nil, fmt.Errorf("has more than one %s address in it: ask for at most one of each family", lb.FamilyOf(a))
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("names no address")
	}
	return out, nil
}
