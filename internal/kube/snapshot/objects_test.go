// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

const ns = "herald"

// meta returns metadata of an object in Herald's namespace; the bigger the
// age, the older.
func meta(name string, age int) metav1.ObjectMeta {
	t := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC).Add(-time.Duration(age) * time.Minute)
	return metav1.ObjectMeta{Namespace: ns, Name: name, CreationTimestamp: metav1.NewTime(t)}
}

// spec reads YAML the way a user writes it.
func spec[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return out
}

func pool(t *testing.T, name string, age int, text string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: meta(name, age), Spec: spec[v1beta1.IPAddressPoolSpec](t, text)}
}

func l2(t *testing.T, name, text string) *v1beta1.L2Advertisement {
	return &v1beta1.L2Advertisement{ObjectMeta: meta(name, 1), Spec: spec[v1beta1.L2AdvertisementSpec](t, text)}
}

func bgp(t *testing.T, name string, age int, text string) *v1beta1.BGPAdvertisement {
	return &v1beta1.BGPAdvertisement{ObjectMeta: meta(name, age), Spec: spec[v1beta1.BGPAdvertisementSpec](t, text)}
}

func peer(t *testing.T, name, text string) *v1beta2.BGPPeer {
	return &v1beta2.BGPPeer{ObjectMeta: meta(name, 1), Spec: spec[v1beta1.BGPPeerSpec](t, text)}
}

func communities(t *testing.T, name string, age int, text string) *v1beta1.Community {
	return &v1beta1.Community{ObjectMeta: meta(name, age), Spec: spec[v1beta1.CommunitySpec](t, text)}
}

func bfd(t *testing.T, name, text string) *v1beta1.BFDProfile {
	return &v1beta1.BFDProfile{ObjectMeta: meta(name, 1), Spec: spec[v1beta1.BFDProfileSpec](t, text)}
}

func node(name string, labels map[string]string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: meta(name, 1)}
	n.Namespace, n.Labels = "", labels
	return n
}

// svc returns a Service of type LoadBalancer, changed by the functions.
func svc(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

// endpoint of a slice: r ready, t terminating but serving, n not ready, d
// terminating and no longer serving.
func endpointOf(kind byte, address, node string) discoveryv1.Endpoint {
	yes, no := true, false
	e := discoveryv1.Endpoint{Addresses: []string{address}}
	if node != "" {
		e.NodeName = &node
	}
	switch kind {
	case 'r':
		e.Conditions = discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}
	case 't':
		e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	case 'n':
		e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
	case 'd':
		e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	}
	return e
}

func slice(service string, family discoveryv1.AddressType, eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: family, Endpoints: eps,
	}
}

// lines returns problems as text, one a line: kind name: reason: text.
func lines(ps []snapshot.Problem) []string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Reason))
	}
	return out
}

func build(o snapshot.Objects) (s snapshotResult) {
	s.Snapshot, s.problems = snapshot.Build(o, snapshot.Options{Namespace: ns})
	return s
}
