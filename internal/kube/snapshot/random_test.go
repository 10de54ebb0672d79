// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// random makes objects out of a few names and values, good and bad, so that
// they often refer to and contradict each other.
type random struct{ *rand.Rand }

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func some[T any](r random, most int, f func() T) []T {
	var out []T
	for range r.IntN(most + 1) {
		out = append(out, f())
	}
	return out
}

func ptr[T any](r random, from ...T) *T {
	if r.IntN(3) == 0 {
		return nil
	}
	v := pick(r, from...)
	return &v
}

func (r random) meta(i int) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Namespace: pick(r, ns, ns, ns, "other"), Name: fmt.Sprintf("o%d", i), Labels: r.labels(),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(r.IntN(3)), 0)),
	}
	if r.IntN(10) == 0 {
		m.DeletionTimestamp = &m.CreationTimestamp
	}
	return m
}

func (r random) labels() map[string]string {
	m := map[string]string{}
	for _, k := range []string{"a", "b", "node.kubernetes.io/exclude-from-external-load-balancers"} {
		if r.IntN(3) == 0 {
			m[k] = pick(r, "1", "2", "")
		}
	}
	return m
}

func (r random) name() string { return fmt.Sprintf("o%d", r.IntN(5)) }

func (r random) address() string {
	return pick(r, "192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:192.0.2.3", "fe80::1%x", "", "typo", "None")
}

func (r random) selectors() []v1beta1.LabelSelector {
	return some(r, 2, func() v1beta1.LabelSelector {
		return v1beta1.LabelSelector{MatchLabels: r.labels(), MatchExpressions: some(r, 1, func() v1beta1.LabelSelectorRequirement {
			return v1beta1.LabelSelectorRequirement{
				Key: pick(r, "a", "b", "", "!"), Operator: pick(r, v1beta1.LabelSelectorOpIn, v1beta1.LabelSelectorOpNotIn, v1beta1.LabelSelectorOpExists, v1beta1.LabelSelectorOpDoesNotExist, "Near"),
				Values: some(r, 2, func() string { return pick(r, "1", "2", "!") }),
			}
		})}
	})
}

func (r random) names() []string { return some(r, 2, r.name) }

func (r random) objects() snapshot.Objects {
	var o snapshot.Objects
	for i := range 5 {
		o.Pools = append(o.Pools, &v1beta1.IPAddressPool{ObjectMeta: r.meta(i), Spec: v1beta1.IPAddressPoolSpec{
			Addresses: some(r, 3, func() string {
				return pick(r, "192.0.2.0/28", "192.0.2.8-192.0.2.20", "2001:db8::/64", "198.51.100.0/30", "typo", "-", "1.1.1.1-", "0.0.0.0/0", "::/0", "/")
			}),
			AutoAssign: ptr(r, true, false),
			Quotas: some(r, 2, func() v1beta1.NamespaceQuota {
				return v1beta1.NamespaceQuota{Namespaces: r.names(), NamespaceSelectors: r.selectors(), IPv4: ptr[int32](r, -1, 0, 2), IPv6: ptr[int32](r, 1)}
			}),
			AllocateTo: ptr(r, v1beta1.ServiceAllocation{Priority: r.IntN(3), Namespaces: r.names(), NamespaceSelectors: r.selectors(), ServiceSelectors: r.selectors()}),
		}})
		o.L2Advertisements = append(o.L2Advertisements, &v1beta1.L2Advertisement{ObjectMeta: r.meta(i), Spec: v1beta1.L2AdvertisementSpec{
			IPAddressPools: r.names(), IPAddressPoolSelectors: r.selectors(), NodeSelectors: r.selectors(), ServiceSelectors: r.selectors(), Interfaces: r.names(),
			PreferredNodeSelectors: some(r, 2, func() v1beta1.PreferredNodeSelector {
				return v1beta1.PreferredNodeSelector{Weight: int32(r.IntN(103)) - 1}
			}),
		}})
		o.BGPAdvertisements = append(o.BGPAdvertisements, &v1beta1.BGPAdvertisement{ObjectMeta: r.meta(i), Spec: v1beta1.BGPAdvertisementSpec{
			IPAddressPools: r.names(), IPAddressPoolSelectors: r.selectors(), NodeSelectors: r.selectors(), ServiceSelectors: r.selectors(), Peers: r.names(),
			AggregationLength: ptr[int32](r, 24, 32, 0, 33), AggregationLengthV6: ptr[int32](r, 64, 128, 129), LocalPref: ptr[uint32](r, 100, 200),
			Communities: some(r, 2, func() string { return pick(r, "1:2", "large:1:2:3", "alias0", "alias1", "65536:1", ":", "large:") }),
		}})
		o.Peers = append(o.Peers, &v1beta2.BGPPeer{ObjectMeta: r.meta(i), Spec: v1beta1.BGPPeerSpec{
			MyASN: pick[uint32](r, 0, 1, 2), PeerASN: pick[uint32](r, 0, 1), DynamicASN: pick[v1beta1.DynamicASN](r, "", "internal", "x"),
			PeerAddress: r.address(), Interface: pick(r, "", "", "eth0"), SourceAddress: r.address(), RouterID: r.address(), BFDProfile: pick(r, "", r.name()),
			PeerPort: pick[uint16](r, 0, 179, 65535), NodeSelectors: r.selectors(), EBGPMultiHop: r.IntN(2) == 0,
			HoldTime: ptr(r, metav1.Duration{}, metav1.Duration{Duration: -1}, metav1.Duration{Duration: 9 * time.Second}), ConnectTime: ptr(r, metav1.Duration{Duration: 1}),
		}})
		o.BFDProfiles = append(o.BFDProfiles, &v1beta1.BFDProfile{ObjectMeta: r.meta(i), Spec: v1beta1.BFDProfileSpec{ReceiveInterval: ptr[int32](r, -1, 300)}})
		o.Communities = append(o.Communities, &v1beta1.Community{ObjectMeta: r.meta(i), Spec: v1beta1.CommunitySpec{Communities: some(r, 2, func() v1beta1.CommunityAlias {
			return v1beta1.CommunityAlias{Name: fmt.Sprintf("alias%d", r.IntN(3)), Value: pick(r, "1:2", "large:1:2:3", "x")}
		})}})
		o.Nodes = append(o.Nodes, &corev1.Node{ObjectMeta: r.meta(i), Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: pick(r, corev1.ConditionTrue, corev1.ConditionFalse)}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: r.address()}},
		}})
		o.Services = append(o.Services, r.service(i))
		o.Reservations = append(o.Reservations, r.reservation(i))
		o.EndpointSlices = append(o.EndpointSlices, r.slice(i))
	}
	return o
}

func (r random) reservation(i int) *v1alpha1.IPReservation {
	return &v1alpha1.IPReservation{
		ObjectMeta: r.meta(i),
		Spec: v1alpha1.IPReservationSpec{
			Addresses: some(r, 2, r.address), Pool: pick(r, "", r.name()), IPv4: ptr[int32](r, -1, 0, 2), IPv6: ptr[int32](r, 1),
			Services: r.names(), ServiceSelectors: r.selectors(),
		},
		Status: v1alpha1.IPReservationStatus{Addresses: some(r, 3, func() v1alpha1.ReservedAddress {
			return v1alpha1.ReservedAddress{Address: r.address(), LastUsedBy: r.names()}
		})},
	}
}

func (r random) service(i int) *corev1.Service {
	annotations := map[string]string{}
	for _, k := range []string{"loadBalancerIPs", "address-pool", "allow-shared-ip", "ip-allocated-from-pool"} {
		for _, prefix := range []string{"metallb.io/", "metallb.universe.tf/"} {
			if r.IntN(4) == 0 {
				annotations[prefix+k] = pick(r, r.address()+","+r.address(), r.name(), ",", "")
			}
		}
	}
	s := &corev1.Service{ObjectMeta: r.meta(i), Spec: corev1.ServiceSpec{
		Type:      pick(r, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP),
		ClusterIP: r.address(), ClusterIPs: some(r, 3, r.address), LoadBalancerIP: pick(r, "", r.address()),
		ExternalTrafficPolicy: pick(r, corev1.ServiceExternalTrafficPolicyLocal, ""), Selector: r.labels(),
		Ports: some(r, 2, func() corev1.ServicePort { return corev1.ServicePort{Port: int32(r.IntN(70000)) - 1} }),
	}}
	s.Annotations = annotations
	s.Status.LoadBalancer.Ingress = some(r, 2, func() corev1.LoadBalancerIngress { return corev1.LoadBalancerIngress{IP: r.address()} })
	return s
}

func (r random) slice(i int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: r.meta(i), AddressType: pick(r, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: r.name()}
	s.Endpoints = some(r, 4, func() discoveryv1.Endpoint {
		e := endpointOf(pick(r, byte('r'), 't', 'n', 'd', '?'), r.address(), pick(r, "", "o1", "o2"))
		if r.IntN(5) == 0 {
			e.Addresses = nil
		}
		return e
	})
	return s
}

func shuffled[T any](r random, in []T) []T {
	out := append([]T(nil), in...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// checkBuild builds random objects twice, in different order.
func checkBuild(t *testing.T, seed uint64) {
	r := random{rand.New(rand.NewPCG(seed, 1))}
	o := r.objects()
	opt := snapshot.Options{Namespace: ns, IgnoreExcludeLB: r.IntN(2) == 0, FrozenPools: r.names()}
	before := encode(t, o)
	first, p1 := snapshot.Build(o, opt)
	if encode(t, o) != before {
		t.Fatalf("seed %d: Build changed its input", seed)
	}
	second, p2 := snapshot.Build(snapshot.Objects{
		Services: shuffled(r, o.Services), EndpointSlices: shuffled(r, o.EndpointSlices), Nodes: shuffled(r, o.Nodes), Namespaces: shuffled(r, o.Namespaces),
		Pools: shuffled(r, o.Pools), L2Advertisements: shuffled(r, o.L2Advertisements), BGPAdvertisements: shuffled(r, o.BGPAdvertisements),
		Peers: shuffled(r, o.Peers), BFDProfiles: shuffled(r, o.BFDProfiles), Communities: shuffled(r, o.Communities),
		Reservations: shuffled(r, o.Reservations),
	}, opt)
	if a, b := encode(t, first), encode(t, second); a != b {
		t.Fatalf("seed %d: the order of objects reaches the snapshot:\n%s\n%s", seed, a, b)
	}
	if a, b := encode(t, p1), encode(t, p2); a != b {
		t.Fatalf("seed %d: the order of objects reaches the problems:\n%s\n%s", seed, a, b)
	}
	for _, p := range p1 {
		if p.Reason.Text == "" || p.Field == "" || p.Name == "" || p.Kind == "" {
			t.Fatalf("seed %d: a problem that does not say enough: %+v", seed, p)
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBuildRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		checkBuild(t, seed)
	}
}

func FuzzBuild(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(checkBuild)
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "-", "::/0", "a-b-c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := snapshot.ParseRange(s)
		if err == nil && (!r.From.IsValid() || r.From.BitLen() != r.To.BitLen() || r.To.Less(r.From) || r.From.Zone() != "") {
			t.Errorf("%q gives %v", s, r)
		}
	})
}

func BenchmarkBuild10k(b *testing.B) {
	var o snapshot.Objects
	for i := range 10 {
		o.Nodes = append(o.Nodes, node(fmt.Sprintf("n%d", i), nil))
	}
	for i := range 10000 {
		name := fmt.Sprintf("s%05d", i)
		o.Services = append(o.Services, svc(name, annotated("metallb.io/ip-allocated-from-pool", "a"), func(s *corev1.Service) {
			s.CreationTimestamp = metav1.NewTime(time.Unix(int64(i*7919%10007), 0))
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("10.100.%d.%d", i/256, i%256)}}
		}))
		o.EndpointSlices = append(o.EndpointSlices, slice(name, discoveryv1.AddressTypeIPv4,
			endpointOf('r', "10.1.0.1", fmt.Sprintf("n%d", i%10)), endpointOf('r', "10.1.0.2", fmt.Sprintf("n%d", (i+1)%10))))
	}
	b.ReportAllocs()
	for b.Loop() {
		snapshot.Build(o, snapshot.Options{Namespace: ns})
	}
}
