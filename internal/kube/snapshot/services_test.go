// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{})

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func TestService(t *testing.T) {
	t.Parallel()
	dual := corev1.IPFamilyPolicyPreferDualStack
	tests := []struct {
		name   string
		change func(*corev1.Service)
		want   func(*lb.Service)
	}{
		{"plain", func(*corev1.Service) {}, func(*lb.Service) {}},
		{"dual stack, in the order of the ClusterIPs", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"fd00::1", "10.96.0.1"}
			s.Spec.IPFamilyPolicy = &dual
		}, func(s *lb.Service) {
			s.Families, s.FamilyPolicy = []lb.Family{lb.IPv6, lb.IPv4}, lb.PreferDualStack
		}},
		{"headless", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"}
		}, func(s *lb.Service) { s.Headless, s.Families = true, nil }},
		{"ports", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}, {Port: 443}}
		}, func(s *lb.Service) {
			s.Ports = []lb.Port{{Protocol: "UDP", Number: 53}, {Protocol: "TCP", Number: 443}}
		}},
		{"traffic policy Cluster: any backends may share", func(s *corev1.Service) {
			s.Spec.Selector = map[string]string{"app": "web"}
		}, func(*lb.Service) {}},
		{"traffic policy Local: the selector, in one form", func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.Selector = map[string]string{"tier": "1", "app": "web", "b": "c"}
			s.Spec.HealthCheckNodePort = 30001
		}, func(s *lb.Service) { s.Local, s.BackendKey, s.HealthPort = true, "app=web,b=c,tier=1", 30001 }},
		{"assigned: host names of others do not count", func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}, {Hostname: "h"}, {IP: "2001:DB8::1"}, {IP: "192.0.2.2"}}
			s.Annotations = map[string]string{"metallb.io/ip-allocated-from-pool": "a, b"}
		}, func(s *lb.Service) {
			s.Assigned, s.AssignedPools = addrs("192.0.2.2", "2001:db8::1"), []string{"a", "b"}
		}},
		{"assigned by an old release", annotated("metallb.universe.tf/ip-allocated-from-pool", "a"),
			func(s *lb.Service) { s.AssignedPools = []string{"a"} }},
		{"addresses asked for", annotated("metallb.io/loadBalancerIPs", "192.0.2.5, 2001:db8::5"),
			func(s *lb.Service) { s.Request.Addresses = addrs("192.0.2.5", "2001:db8::5") }},
		{"spec.loadBalancerIP", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.5" },
			func(s *lb.Service) { s.Request.Addresses = addrs("192.0.2.5") }},
		{"pool and sharing key", annotated("metallb.io/address-pool", "p", "metallb.io/allow-shared-ip", "k"),
			func(s *lb.Service) { s.Request.Pool, s.SharingKey = "p", "k" }},
		{"old names are honoured and named", annotated(
			"metallb.universe.tf/address-pool", "p", "metallb.universe.tf/allow-shared-ip", "k", "metallb.universe.tf/loadBalancerIPs", "192.0.2.5"),
			func(s *lb.Service) {
				s.Request.Addresses, s.Request.Pool, s.SharingKey = addrs("192.0.2.5"), "p", "k"
				s.Request.Deprecated = []string{"metallb.universe.tf/address-pool", "metallb.universe.tf/allow-shared-ip", "metallb.universe.tf/loadBalancerIPs"}
			}},
		{"the new name wins", annotated("metallb.io/address-pool", "new", "metallb.universe.tf/address-pool", "old"),
			func(s *lb.Service) { s.Request.Pool = "new" }},
		{"an empty annotation is none", annotated("metallb.io/loadBalancerIPs", "", "metallb.io/address-pool", " "), func(*lb.Service) {}},
		{"no address", annotated("metallb.io/loadBalancerIPs", "192.0.2.5,typo"), func(s *lb.Service) {
			s.Request.Invalid = `the annotation metallb.io/loadBalancerIPs "192.0.2.5,typo" has "typo" in it, which is no IP address`
		}},
		{"only commas", annotated("metallb.io/loadBalancerIPs", ", ,"), func(s *lb.Service) {
			s.Request.Invalid = `the annotation metallb.io/loadBalancerIPs ", ," names no address`
		}},
		{"two of a family", annotated("metallb.io/loadBalancerIPs", "192.0.2.5,192.0.2.6"), func(s *lb.Service) {
			s.Request.Invalid = `the annotation metallb.io/loadBalancerIPs "192.0.2.5,192.0.2.6" has more than one IPv4 address in it: ask for at most one of each family`
		}},
		{"annotation and field", func(s *corev1.Service) {
			s.Annotations = map[string]string{"metallb.io/loadBalancerIPs": "192.0.2.5"}
			s.Spec.LoadBalancerIP = "192.0.2.5"
		}, func(s *lb.Service) {
			s.Request.Invalid = `the annotation metallb.io/loadBalancerIPs "192.0.2.5" and spec.loadBalancerIP "192.0.2.5" are both set: remove one of the two`
		}},
		{"the name that was written", annotated("metallb.universe.tf/loadBalancerIPs", "typo"), func(s *lb.Service) {
			s.Request.Invalid = `the annotation metallb.universe.tf/loadBalancerIPs "typo" has "typo" in it, which is no IP address`
			s.Request.Deprecated = []string{"metallb.universe.tf/loadBalancerIPs"}
		}},
		{"a bad field", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "fe80::1%eth0" }, func(s *lb.Service) {
			s.Request.Invalid = `spec.loadBalancerIP "fe80::1%eth0" has "fe80::1%eth0" in it, which is no IP address`
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := lb.Service{
				Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Families: []lb.Family{lb.IPv4},
				FamilyPolicy: lb.SingleStack, Ports: []lb.Port{{Protocol: "TCP", Number: 80}},
			}
			tt.want(&want)
			got := build(snapshot.Objects{Services: []*corev1.Service{svc("web", tt.change)}})
			if diff := cmp.Diff([]lb.Service{want}, got.Services, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestServicesServed(t *testing.T) {
	t.Parallel()
	ours, other := "example.com/ours", "example.com/other"
	classed := func(c *string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = c }
	}
	deleted := func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)} }
	withAddress := func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	}
	objs := snapshot.Objects{Services: []*corev1.Service{
		svc("plain"), svc("ours", classed(&ours)), svc("other", classed(&other)),
		svc("cluster-ip", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }),
		svc("terminating-with-address", deleted, withAddress), svc("terminating", deleted),
	}}
	for class, want := range map[string][]string{
		"":               {"plain", "terminating-with-address"},
		ours:             {"ours"},
		"example.com/no": nil,
	} {
		s, _ := snapshot.Build(objs, snapshot.Options{Namespace: ns, LBClass: class})
		var got []string
		for _, x := range s.Services {
			got = append(got, x.Key.Name)
			if gone := x.Key.Name == "terminating-with-address"; x.Deleting != gone {
				t.Errorf("%s: Deleting is %v", x.Key.Name, x.Deleting)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("--lb-class %q (-want +got):\n%s", class, diff)
		}
	}
}

func TestServicesOldestFirst(t *testing.T) {
	t.Parallel()
	at := func(minute int) func(*corev1.Service) {
		return func(s *corev1.Service) { s.CreationTimestamp = metav1.NewTime(time.Unix(int64(minute)*60, 0)) }
	}
	got := build(snapshot.Objects{Services: []*corev1.Service{svc("c", at(1)), svc("b", at(2)), svc("a", at(2)), svc("d", at(0))}})
	var names []string
	for _, s := range got.Services {
		names = append(names, s.Key.Name)
	}
	if diff := cmp.Diff([]string{"d", "c", "a", "b"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	ep := endpointOf
	tests := []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   []lb.NodeEndpoints
	}{
		{"none", nil, nil},
		{"of another Service", []*discoveryv1.EndpointSlice{slice("other", v4, ep('r', "10.1.0.1", "n1"))}, nil},
		{"ready ones, by node", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('r', "10.1.0.2", "n2"), ep('r', "10.1.0.1", "n1"), ep('n', "10.1.0.3", "n3")),
			slice("web", v4, ep('r', "10.1.0.4", "n2")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 1}, {Node: "n2", Count: 2}}},
		{"terminating ones do not serve while one is ready", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('r', "10.1.0.1", "n1"), ep('t', "10.1.0.2", "n2"), ep('t', "10.1.0.3", "n1"), ep('d', "10.1.0.4", "n3")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 1, Draining: 1}, {Node: "n2", Draining: 1}}},
		{"what is ready in one slice is ready", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('t', "10.1.0.1", "n1")), slice("web", v4, ep('r', "10.1.0.1", "n1")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 1}}},
		{"none ready: those that serve while they terminate", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('n', "10.1.0.1", "n1"), ep('t', "10.1.0.2", "n2"), ep('d', "10.1.0.3", "n3")),
		}, []lb.NodeEndpoints{{Node: "n2", Count: 1}}},
		{"unknown conditions mean ready", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('?', "10.1.0.1", "n1")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 1}}},
		{"a Pod of a dual-stack Service counts once", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('r', "10.1.0.1", "n1"), ep('r', "10.1.0.2", "n1")),
			slice("web", v6, ep('r', "fd00::1", "n1")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 2}}},
		{"an endpoint on its way between slices counts once", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('r', "10.1.0.1", "n1")), slice("web", v4, ep('r', "10.1.0.1", "n1")),
		}, []lb.NodeEndpoints{{Node: "n1", Count: 1}}},
		{"outside the cluster", []*discoveryv1.EndpointSlice{
			slice("web", v4, ep('r', "203.0.113.1", "")),
		}, []lb.NodeEndpoints{{Node: "", Count: 1}}},
		{"names are no endpoints", []*discoveryv1.EndpointSlice{
			slice("web", discoveryv1.AddressTypeFQDN, ep('r', "host.example.com", "n1")),
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(snapshot.Objects{Services: []*corev1.Service{svc("web")}, EndpointSlices: tt.slices})
			if diff := cmp.Diff(tt.want, got.Services[0].Endpoints); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodesAndNamespaces(t *testing.T) {
	t.Parallel()
	down := node("b", map[string]string{"zone": "1"})
	down.Status = corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "b"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.9"}},
	}
	up := node("a", map[string]string{"node.kubernetes.io/exclude-from-external-load-balancers": ""})
	up.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}
	objs := snapshot.Objects{
		Nodes:      []*corev1.Node{down, up},
		Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "z"}}, {ObjectMeta: metav1.ObjectMeta{Name: "y", Labels: map[string]string{"a": "b"}}}},
	}
	got := build(objs)
	want := []lb.Node{
		{Name: "a", Labels: up.Labels, Excluded: true},
		{Name: "b", Labels: down.Labels, NetworkUnavailable: true, Addresses: addrs("192.0.2.9")},
	}
	if diff := cmp.Diff(want, got.Nodes, compareAddrs); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]lb.Namespace{{Name: "y", Labels: map[string]string{"a": "b"}}, {Name: "z"}}, got.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	ignoring, _ := snapshot.Build(objs, snapshot.Options{Namespace: ns, IgnoreExcludeLB: true})
	if ignoring.Nodes[0].Excluded {
		t.Error("--ignore-exclude-lb: the node is still excluded")
	}
}
