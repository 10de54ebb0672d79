// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
)

// What users mean by their objects, and the objects that say so.

// home is Herald's namespace in the model.
const home = "herald"

// svcIntent is what a user wants of a Service. Intents are never changed after
// the API server has them.
type svcIntent struct {
	ns, name string
	tier     string // label
	families []lb.Family
	policy   lb.FamilyPolicy
	headless bool
	ports    []lb.Port
	local    bool
	selector string
	sharing  string

	askAddrs []netip.Addr
	askPool  string
	invalid  bool // asks for something that is no address
	legacy   bool // by annotations with the old prefix
	viaSpec  bool // by spec.loadBalancerIP where that is possible

	balancer bool // type LoadBalancer
	foreign  bool // of another class
	deleting bool // only a finalizer holds it
}

func (in *svcIntent) key() string { return in.ns + "/" + in.name }

// wants returns the families that the Service should have addresses of.
func (in *svcIntent) wants() []lb.Family {
	switch {
	case in.headless:
		return nil
	case in.policy == lb.SingleStack:
		return in.families[:1]
	}
	return in.families
}

func inputAnnotations() []string {
	return []string{
		api.AnnotationLoadBalancerIPs, api.AnnotationLoadBalancerIPsLegacy, api.AnnotationAddressPool, api.AnnotationAddressPoolLegacy,
		api.AnnotationAllowSharedIP, api.AnnotationAllowSharedIPLegacy,
	}
}

func (in *svcIntent) asksInSpec() bool { return in.viaSpec && len(in.askAddrs) == 1 && !in.invalid }

func (in *svcIntent) annotations() map[string]string {
	out := map[string]string{}
	set := func(name, legacy, value string) {
		switch {
		case value == "":
		case in.legacy:
			out[legacy] = value
		default:
			out[name] = value
		}
	}
	var ips []string
	for _, a := range in.askAddrs {
		ips = append(ips, a.String())
	}
	if in.invalid {
		ips = append(ips, "nonsense")
	}
	if !in.asksInSpec() {
		set(api.AnnotationLoadBalancerIPs, api.AnnotationLoadBalancerIPsLegacy, strings.Join(ips, ","))
	}
	set(api.AnnotationAddressPool, api.AnnotationAddressPoolLegacy, in.askPool)
	set(api.AnnotationAllowSharedIP, api.AnnotationAllowSharedIPLegacy, in.sharing)
	return out
}

func (in *svcIntent) labels() map[string]string { return tierLabels(in.tier) }

func tierLabels(tier string) map[string]string {
	if tier == "" {
		return nil
	}
	return map[string]string{"tier": tier}
}

func (in *svcIntent) object() *corev1.Service {
	policy := corev1.IPFamilyPolicy(in.policy)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: in.ns, Name: in.name, Labels: in.labels(), Annotations: in.annotations()}}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, IPFamilyPolicy: &policy, ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone},
		Selector: map[string]string{"app": in.selector}, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
	}
	if in.balancer {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
	}
	if in.foreign {
		class := "other/class"
		s.Spec.LoadBalancerClass = &class
	}
	if in.local {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if in.asksInSpec() {
		s.Spec.LoadBalancerIP = in.askAddrs[0].String()
	}
	if !in.headless {
		s.Spec.ClusterIPs = nil
		for _, f := range in.families {
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, map[lb.Family]string{lb.IPv4: "10.96.0.1", lb.IPv6: "fd00:96::1"}[f])
		}
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	for _, p := range in.ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Protocol: corev1.Protocol(p.Protocol), Port: int32(p.Number)})
	}
	return s
}

// poolIntent is what a user wants of a pool.
type poolIntent struct {
	name     string
	segments []segment
	typo     bool // one more entry that is no range
	manual   bool // autoAssign: false
	avoid    bool // avoidBuggyIPs
	pin      *pinIntent
	quotas   []quotaIntent
	deleting bool
}

type pinIntent struct {
	priority   int
	namespaces []string
	nsTiers    []string // selected by this label
	tiers      []string // of Services
}

// segment is a range of the model's small world: the last bytes of addresses
// of one family.
type segment struct {
	family   lb.Family
	from, to int
	cidr     bool // written as a prefix, with host bits
}

// address returns the n-th address of a family.
func address(f lb.Family, n int) netip.Addr {
	if f == lb.IPv4 {
		return netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(n)})
}

// number is the n of address.
func number(a netip.Addr) int {
	b := a.As16()
	return int(b[15])
}

func (s segment) contains(a netip.Addr) bool {
	return lb.FamilyOf(a) == s.family && s.from <= number(a) && number(a) <= s.to
}

func (s segment) overlaps(o segment) bool {
	return s.family == o.family && s.from <= o.to && o.from <= s.to
}

func (s segment) String() string {
	if !s.cidr {
		return fmt.Sprintf("%s - %s", address(s.family, s.from), address(s.family, s.to))
	}
	bits := address(s.family, 0).BitLen()
	for size := s.to - s.from + 1; size > 1; size /= 2 {
		bits--
	}
	return fmt.Sprintf("%s/%d", address(s.family, s.to), bits)
}

func (in *poolIntent) contains(a netip.Addr) bool {
	return slices.ContainsFunc(in.segments, func(s segment) bool { return s.contains(a) })
}

// gives reports whether a is one of the addresses that the pool hands out.
func (in *poolIntent) gives(a netip.Addr) bool {
	buggy := a.Is4() && number(a) == 0 // the model has no .255
	return in.contains(a) && !(in.avoid && buggy)
}

// admits reports whether the pool is for Services with this label in a
// namespace (nil: not known).
func (in *poolIntent) admits(s *svcIntent, ns *nsIntent) bool {
	if in.pin == nil {
		return true
	}
	p := in.pin
	here := len(p.namespaces)+len(p.nsTiers) == 0 || slices.Contains(p.namespaces, s.ns) ||
		(ns != nil && ns.tier != "" && slices.Contains(p.nsTiers, ns.tier))
	return here && p.selects(s)
}

func (p *pinIntent) selects(s *svcIntent) bool {
	return len(p.tiers) == 0 || (s.tier != "" && slices.Contains(p.tiers, s.tier))
}

func (in *poolIntent) object() *v1beta1.IPAddressPool {
	auto := !in.manual
	p := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: in.name}}
	p.Spec = v1beta1.IPAddressPoolSpec{AutoAssign: &auto, AvoidBuggyIPs: in.avoid}
	for _, s := range in.segments {
		p.Spec.Addresses = append(p.Spec.Addresses, s.String())
	}
	if in.typo {
		p.Spec.Addresses = append(p.Spec.Addresses, "203.0.113.300/28")
	}
	for i := range in.quotas {
		p.Spec.Quotas = append(p.Spec.Quotas, in.quotas[i].object())
	}
	if in.pin != nil {
		p.Spec.AllocateTo = &v1beta1.ServiceAllocation{
			Priority: in.pin.priority, Namespaces: in.pin.namespaces,
			NamespaceSelectors: tierSelectors(in.pin.nsTiers), ServiceSelectors: tierSelectors(in.pin.tiers),
		}
	}
	return p
}

func tierSelectors(tiers []string) []v1beta1.LabelSelector {
	var out []v1beta1.LabelSelector
	for _, t := range tiers {
		out = append(out, v1beta1.LabelSelector{MatchLabels: map[string]string{"tier": t}})
	}
	return out
}

// nsIntent is what a user wants of a namespace.
type nsIntent struct{ name, tier string }

func (in *nsIntent) object() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: in.name, Labels: tierLabels(in.tier)}}
}
