// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

const (
	churnNamespace = "herald"
	churnServices  = 40
)

// objects is a cluster's objects, by name. Those that were read are not changed
// any more: an event makes new ones.
type objects struct {
	services    map[string]*corev1.Service
	slices      map[string]*discoveryv1.EndpointSlice
	nodes       map[string]*corev1.Node
	ads         map[string]*v1beta1.BGPAdvertisement
	peers       map[string]*v1beta2.BGPPeer
	profiles    map[string]*v1beta1.BFDProfile
	communities map[string]*v1beta1.Community
	other       netip.AddrPort

	mu      sync.Mutex // guards secrets, which are read by their name
	secrets map[string]*corev1.Secret
}

func churnMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: churnNamespace, Name: name}
}

func newObjects(other netip.AddrPort) *objects {
	o := &objects{
		services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}, nodes: map[string]*corev1.Node{},
		ads: map[string]*v1beta1.BGPAdvertisement{}, peers: map[string]*v1beta2.BGPPeer{}, profiles: map[string]*v1beta1.BFDProfile{},
		communities: map[string]*v1beta1.Community{}, secrets: map[string]*corev1.Secret{}, other: other,
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		o.nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
		o.nodes[name].Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.90." + name[1:]}}
	}
	o.ads["all"] = &v1beta1.BGPAdvertisement{ObjectMeta: churnMeta("all")}
	for i, name := range []string{"live-frr", "live-bird", "idle"} {
		o.profiles[name] = &v1beta1.BFDProfile{ObjectMeta: churnMeta(name), Spec: v1beta1.BFDProfileSpec{DetectMultiplier: of(int32(10 + i))}}
	}
	o.peers["frr"] = churnPeer("frr", "10.0.90.254", 179)
	o.peers["bird"] = churnPeer("bird", "10.0.91.254", 179)
	for _, name := range []string{"frr", "bird"} {
		o.peers[name].Spec.BFDProfile = "live-" + name
		o.peers[name].Spec.PasswordSecret = v1beta1.SecretReference{Name: name}
		o.setSecret(name, "of-"+name)
	}
	o.peers["other-a"] = churnPeer("other-a", other.Addr().String(), other.Port())
	for i := range churnServices {
		o.createService(i)
	}
	return o
}

func churnPeer(name, address string, port uint16) *v1beta2.BGPPeer {
	return &v1beta2.BGPPeer{ObjectMeta: churnMeta(name), Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64600, PeerAddress: address, PeerPort: port, RouterID: "10.9.9.9"}}
}

func of[T any](v T) *T { return &v }

// read is what the caches would return.
func (o *objects) read() snapshot.Objects {
	return snapshot.Objects{
		Services: slices.Collect(maps.Values(o.services)), EndpointSlices: slices.Collect(maps.Values(o.slices)), Nodes: slices.Collect(maps.Values(o.nodes)),
		Pools:             []*v1beta1.IPAddressPool{{ObjectMeta: churnMeta("load"), Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"198.51.100.0/24"}}}},
		BGPAdvertisements: slices.Collect(maps.Values(o.ads)), Peers: slices.Collect(maps.Values(o.peers)),
		BFDProfiles: slices.Collect(maps.Values(o.profiles)), Communities: slices.Collect(maps.Values(o.communities)),
	}
}

func (o *objects) secret(name string) *corev1.Secret {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.secrets[name]
}

func (o *objects) setSecret(name, password string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets[name] = &corev1.Secret{
		ObjectMeta: churnMeta(name), Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{corev1.BasicAuthPasswordKey: []byte(password)},
	}
}

func (o *objects) createService(i int) string {
	name := fmt.Sprintf("s%d", i)
	o.services[name] = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{api.AnnotationAllocatedFromPool: "load"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("198.51.100.%d", 1+i)}}}},
	}
	o.slices[name] = churnSlice(name, true, "n1")
	return "create Service " + name
}

func churnSlice(service string, ready bool, nodes ...string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i, n := range nodes {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.244.0.%d", 1+i)}, NodeName: &n, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		})
	}
	return out
}

// event changes something at random, and says what. Nothing that it changes is
// a reason to end the sessions with FRR and BIRD.
func (o *objects) event(r *rand.Rand) string {
	events := []struct {
		weight int
		change func(*rand.Rand) string
	}{
		{20, o.service}, {30, o.endpoints}, {15, o.node}, {15, o.advertisement}, {5, o.community}, {8, o.livePeer}, {10, o.otherPeer}, {5, o.profile}, {5, o.secretEvent},
	}
	total := 0
	for _, e := range events {
		total += e.weight
	}
	n := r.IntN(total)
	for _, e := range events {
		if n -= e.weight; n < 0 {
			return e.change(r)
		}
	}
	return ""
}

func (o *objects) service(r *rand.Rand) string {
	i := r.IntN(churnServices)
	name := fmt.Sprintf("s%d", i)
	if o.services[name] == nil {
		return o.createService(i)
	}
	s := o.services[name].DeepCopy()
	switch r.IntN(5) {
	case 0:
		delete(o.services, name)
		delete(o.slices, name)
		return "delete Service " + name
	case 1:
		s.Spec.ExternalTrafficPolicy = []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster}[r.IntN(2)]
	case 2:
		s.Labels = map[string]string{"tier": fmt.Sprint(r.IntN(3))}
	case 3:
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("198.51.100.%d", 100+r.IntN(100))}}
	case 4:
		s.Status.LoadBalancer.Ingress = nil
	}
	o.services[name] = s
	return "change Service " + name
}

func (o *objects) endpoints(r *rand.Rand) string {
	name := fmt.Sprintf("s%d", r.IntN(churnServices))
	if o.services[name] == nil {
		return "endpoints of no Service"
	}
	var nodes []string
	for range r.IntN(4) {
		nodes = append(nodes, fmt.Sprintf("n%d", 1+r.IntN(3)))
	}
	o.slices[name] = churnSlice(name, r.IntN(4) > 0, nodes...)
	return fmt.Sprintf("endpoints of %s on %v", name, nodes)
}

func (o *objects) node(r *rand.Rand) string {
	name := fmt.Sprintf("n%d", 1+r.IntN(3))
	n := o.nodes[name].DeepCopy()
	switch r.IntN(5) {
	case 0, 1:
		n.Labels["rack"] = fmt.Sprint(r.IntN(3))
	case 2:
		delete(n.Labels, api.LabelExcludeNode)
		if r.IntN(4) == 0 {
			n.Labels[api.LabelExcludeNode] = ""
		}
	case 3:
		n.Spec.Unschedulable = !n.Spec.Unschedulable
	case 4:
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}
		if r.IntN(4) == 0 {
			n.Status.Conditions[0].Status = corev1.ConditionTrue
		}
	}
	o.nodes[name] = n
	return fmt.Sprintf("node %s is labelled %v", name, n.Labels)
}

func (o *objects) advertisement(r *rand.Rand) string {
	name := []string{"all", "more", "some"}[r.IntN(3)]
	if name != "all" && o.ads[name] != nil && r.IntN(4) == 0 {
		delete(o.ads, name)
		return "advertisement " + name + " is deleted"
	}
	ad := &v1beta1.BGPAdvertisement{ObjectMeta: churnMeta(name)}
	spec := &ad.Spec
	for range r.IntN(4) {
		spec.Communities = append(spec.Communities, []string{fmt.Sprintf("64512:%d", r.IntN(9)), fmt.Sprintf("large:64512:1:%d", r.IntN(9)), "gold", "nonsense:"}[r.IntN(4)])
	}
	if r.IntN(3) == 0 {
		spec.AggregationLength = of(int32(24 + r.IntN(9)))
	}
	if r.IntN(3) == 0 {
		spec.LocalPref = of(uint32(r.IntN(300)))
	}
	if r.IntN(3) == 0 {
		spec.Weighted = v1beta1.BGPWeightedEndpoints
	}
	if r.IntN(3) == 0 {
		spec.Peers = []string{"frr", "bird", "other-a", "nobody"}[r.IntN(2) : 2+r.IntN(3)]
	}
	if r.IntN(4) == 0 {
		spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]string{"rack": fmt.Sprint(r.IntN(3))}}}
	}
	if r.IntN(4) == 0 {
		spec.ServiceSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]string{"tier": fmt.Sprint(r.IntN(3))}}}
	}
	o.ads[name] = ad
	return fmt.Sprintf("advertisement %s is %+v", name, ad.Spec)
}

func (o *objects) community(r *rand.Rand) string {
	name := []string{"c1", "c2"}[r.IntN(2)]
	if r.IntN(3) == 0 {
		delete(o.communities, name)
		return "community " + name + " is deleted"
	}
	value := []string{fmt.Sprintf("64512:%d", r.IntN(99)), "no-export", "65535:65281", ""}[r.IntN(4)]
	o.communities[name] = &v1beta1.Community{ObjectMeta: churnMeta(name), Spec: v1beta1.CommunitySpec{Communities: []v1beta1.CommunityAlias{{Name: "gold", Value: value}}}}
	return "community gold is " + value
}

// livePeer changes what can be changed while a session is up.
func (o *objects) livePeer(r *rand.Rand) string {
	name := []string{"frr", "bird"}[r.IntN(2)]
	p := o.peers[name].DeepCopy()
	spec := &p.Spec
	switch r.IntN(5) {
	case 0:
		spec.ConnectTime = &metav1.Duration{Duration: time.Duration(1+r.IntN(60)) * time.Second}
	case 1:
		spec.HoldTime, spec.KeepaliveTime = &metav1.Duration{Duration: time.Duration(9+r.IntN(300)) * time.Second}, nil
	case 2:
		hold := 90 * time.Second
		if spec.HoldTime != nil {
			hold = spec.HoldTime.Duration
		}
		spec.KeepaliveTime = &metav1.Duration{Duration: min(hold, time.Duration(1+r.IntN(30))*time.Second)}
	case 3:
		spec.DisableMP = !spec.DisableMP
	case 4:
		spec.NodeSelectors = nil
		if r.IntN(2) == 0 {
			spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]string{"kubernetes.io/hostname": "n1"}}}
		}
	}
	o.peers[name] = p
	return fmt.Sprintf("peer %s has hold %v, keepalive %v, connect %v", name, spec.HoldTime, spec.KeepaliveTime, spec.ConnectTime)
}

// otherPeer changes peers in any way at all.
func (o *objects) otherPeer(r *rand.Rand) string {
	name := []string{"other-a", "other-b", "zzz"}[r.IntN(3)]
	if r.IntN(5) == 0 {
		delete(o.peers, name)
		return "other peer " + name + " is deleted"
	}
	p := churnPeer(name, o.other.Addr().String(), o.other.Port())
	spec := &p.Spec
	switch r.IntN(8) {
	case 0:
		spec.Password = fmt.Sprint("p", r.IntN(9))
	case 1:
		spec.PasswordSecret = v1beta1.SecretReference{Name: []string{"moving", "absent"}[r.IntN(2)]}
	case 2:
		spec.MyASN = uint32(r.IntN(3)) // 0 is invalid
	case 3:
		spec.BFDProfile = []string{"idle", "live-frr", "unknown"}[r.IntN(3)]
	case 4:
		spec.HoldTime = &metav1.Duration{Duration: time.Duration(r.IntN(20)) * time.Second} // some are invalid
	case 5:
		spec.PeerAddress = []string{"10.0.90.77", "nonsense", "10.0.91.254", "2001:db8::1"}[r.IntN(4)]
		if strings.HasPrefix(spec.PeerAddress, "10.0.91") {
			spec.PeerPort = 2 // another port of the same router
		}
	case 6:
		spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]string{"rack": fmt.Sprint(r.IntN(3))}}}
	}
	spec.RouterID = fmt.Sprintf("10.9.8.%d", r.IntN(256))
	o.peers[name] = p
	return fmt.Sprintf("other peer %s is %+v", name, *spec)
}

// profile changes BFD: of the live sessions what can be changed in place, of
// the other one anything.
func (o *objects) profile(r *rand.Rand) string {
	name := []string{"live-frr", "live-bird", "idle"}[r.IntN(3)]
	if name == "idle" && r.IntN(3) == 0 {
		delete(o.profiles, name)
		return "BFD profile idle is deleted"
	}
	p := &v1beta1.BFDProfile{ObjectMeta: churnMeta(name)}
	p.Spec.TransmitInterval, p.Spec.ReceiveInterval = of(int32(200+r.IntN(300))), of(int32(200+r.IntN(300)))
	p.Spec.DetectMultiplier = of(int32(10 + r.IntN(10)))
	p.Spec.EchoMode = of(r.IntN(2) == 0)
	if name == "idle" {
		p.Spec.TransmitInterval = of(int32(r.IntN(1000))) // some are invalid
	}
	o.profiles[name] = p
	return fmt.Sprintf("BFD profile %s sends every %d ms", name, *p.Spec.TransmitInterval)
}

func (o *objects) secretEvent(r *rand.Rand) string {
	const name = "moving"
	if r.IntN(3) == 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.secrets, name)
		return "secret is deleted"
	}
	o.setSecret(name, fmt.Sprint("p", r.IntN(9)))
	return "secret is rotated"
}

// settle makes the node announce most Services, so that there is something to
// compare in the end.
func (o *objects) settle() {
	n := o.nodes["n1"].DeepCopy()
	n.Labels, n.Status.Conditions = map[string]string{"kubernetes.io/hostname": "n1"}, nil
	o.nodes["n1"] = n
	o.ads = map[string]*v1beta1.BGPAdvertisement{"all": {ObjectMeta: churnMeta("all")}}
	for i := range churnServices {
		if i%3 > 0 {
			o.createService(i)
		}
	}
}
