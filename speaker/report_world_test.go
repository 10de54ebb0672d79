// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/kube/status"
)

// world is a cluster of speakers that are whole but for their drivers: caches,
// both loops, engine, reporter, writer. They report on one Service.
type world struct {
	t       *testing.T
	api     *fakeAPI
	network *fakeNetwork
	names   []lb.NodeName
	alive   map[lb.NodeName]*worldNode

	// What is so.
	endpoints []lb.NodeName
	l2, bgp   bool
	up, link  map[lb.NodeName]bool
	// partial: some speaker cannot bring its objects up to date.
	partial bool
}

type worldNode struct {
	name     lb.NodeName
	client   *fakeClient
	messages *fakeMessenger
	answers  *announcer
	routers  *worldSessions
	links    *fakeLinks
	speaker  *speaker
	stop     context.CancelFunc
	done     chan error
}

// announcer announces at once what it is told to.
type announcer struct {
	*fakeResponder
	deaf bool // guarded by mu
}

func (a *announcer) State() l2.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	var s l2.State
	for _, w := range a.wanted.Addresses {
		s.Addresses = append(s.Addresses, l2.AddressState{IP: w.IP, Phase: l2.PhaseAnnouncing, Interfaces: w.Interfaces})
	}
	if a.deaf && len(s.Addresses) > 0 {
		s.Errors = []l2.InterfaceError{{Interface: "eth0", Message: "ARP: not permitted", NoIPv4: true}}
	}
	return s
}

// answersFor reports whether clients get an answer.
func (a *announcer) answersFor(ip netip.Addr) bool {
	if len(a.answers(ip)) == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.deaf
}

// worldSessions are established or not, as the test says.
type worldSessions struct {
	changed chan struct{}
	mu      sync.Mutex // guards the rest
	up      bool
	since   time.Time
	wanted  bgp.Wanted
}

func (f *worldSessions) Set(w bgp.Wanted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = w
}

func (f *worldSessions) State() []bgp.SessionState {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []bgp.SessionState
	for _, s := range f.wanted.Sessions {
		state := bgp.SessionState{Peer: s.Peer, State: bgp.Active, Since: f.since}
		if f.up {
			state.State, state.Prefixes = bgp.Established, len(s.Routes)
		}
		out = append(out, state)
	}
	return out
}

func (f *worldSessions) set(up bool) {
	f.mu.Lock()
	f.up, f.since = up, time.Now()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *worldSessions) Lost(string)              {}
func (f *worldSessions) Changed() <-chan struct{} { return f.changed }

const worldNamespace = "herald"

func newWorld(t *testing.T, seed uint64, names ...lb.NodeName) *world {
	w := &world{
		t: t, api: newFakeAPI(seed), network: &fakeNetwork{}, names: names, alive: map[lb.NodeName]*worldNode{},
		up: map[lb.NodeName]bool{}, link: map[lb.NodeName]bool{},
	}
	own := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: worldNamespace, Name: name} }
	for _, name := range []string{"l2advertisements", "bgpadvertisements"} { // asked for when an object is gone
		w.api.put("customresourcedefinitions", &metav1.PartialObjectMetadata{
			ObjectMeta: metav1.ObjectMeta{Name: name + "." + api.GroupMetalLB, CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour))},
		})
	}
	w.api.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	w.api.put("ipaddresspools", &v1beta1.IPAddressPool{ObjectMeta: own("pool"), Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.0/29"}}})
	peer := &v1beta2.BGPPeer{ObjectMeta: own("tor")}
	peer.Spec.MyASN, peer.Spec.PeerASN, peer.Spec.PeerAddress = 64512, 64600, "192.0.2.254"
	w.api.put("bgppeers", peer)
	w.api.put("services", &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: vip.String()}}}},
	})
	for i, n := range names {
		address := fmt.Sprintf("192.0.2.%d", 101+i)
		w.api.put("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: string(n)}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
		}})
		w.api.put("pods", &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: worldNamespace, Name: "speaker-" + string(n), Labels: map[string]string{"app": "speaker"}},
			Spec:       corev1.PodSpec{NodeName: string(n)}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address},
		})
		w.up[n], w.link[n] = true, true
	}
	w.setEndpoints(names...)
	return w
}

func (w *world) setEndpoints(nodes ...lb.NodeName) {
	w.endpoints = nodes
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i, n := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.1.0.%d", i+1)}, NodeName: new(string(n))})
	}
	w.api.put("endpointslices", s)
}

// advertise sets which protocols the Service is announced with.
func (w *world) advertise(l2, bgp bool) {
	w.l2, w.bgp = l2, bgp
	meta := metav1.ObjectMeta{Namespace: worldNamespace, Name: "all"}
	set := func(resource string, on bool, obj runtime.Object) {
		id := resource + "/" + worldNamespace + "/all"
		w.api.mu.Lock()
		_, is := w.api.objects[id]
		if is && !on {
			w.api.drop(id)
		}
		w.api.mu.Unlock()
		if !is && on {
			w.api.put(resource, obj)
		}
	}
	set("l2advertisements", l2, &v1beta1.L2Advertisement{ObjectMeta: meta})
	set("bgpadvertisements", bgp, &v1beta1.BGPAdvertisement{ObjectMeta: meta})
}

// start begins the life of a speaker.
func (w *world) start(name lb.NodeName) {
	w.t.Helper()
	n := &worldNode{
		name: name, client: newFakeClient(w.api, string(name)), messages: w.network.join(name), done: make(chan error, 1),
		answers: &announcer{fakeResponder: newFakeResponder()},
		routers: &worldSessions{changed: make(chan struct{}, 1), up: w.up[name], since: time.Now()},
		links:   newFakeLinks(eth("eth0", w.link[name], "192.0.2.101/24")),
	}
	s := &speaker{
		opts: Options{Namespace: worldNamespace, NodeName: string(name), GossipLabels: "app=speaker", GossipBindPort: 7946},
		self: name, log: slog.New(slog.DiscardHandler),
	}
	if err := s.watch(&rest.Config{Host: "http://api", Transport: n.client, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}}); err != nil {
		w.t.Fatal(err)
	}
	s.assemble(devices{
		messages: n.messages, network: n.links, answers: n.answers, routers: n.routers, failures: &fakeBFD{events: make(chan bfd.Event)}, ports: newFakePorts(),
	})
	ctx, stop := context.WithCancel(w.t.Context())
	n.speaker, n.stop = s, stop
	go func() { n.done <- s.run(ctx) }()
	w.alive[name] = n
}

// kill ends a speaker without a goodbye.
func (w *world) kill(name lb.NodeName) {
	n := w.alive[name]
	delete(w.alive, name)
	close(n.client.dead)
	w.network.remove(name, false)
	n.end(w.t)
}

func (n *worldNode) end(t *testing.T) {
	n.stop()
	if err := <-n.done; err != nil {
		t.Error(err)
	}
}

func (w *world) stopAll() {
	for _, n := range w.alive {
		close(n.client.dead)
		n.end(w.t)
	}
}

func (w *world) setSession(name lb.NodeName, up bool) {
	w.up[name] = up
	if n := w.alive[name]; n != nil {
		n.routers.set(up)
	}
}

func (w *world) setLink(name lb.NodeName, up bool) {
	w.link[name] = up
	if n := w.alive[name]; n != nil {
		n.links.set(eth("eth0", up, "192.0.2.101/24"))
	}
}

// doubt makes one speaker believe for a while that another is dead.
func (w *world) doubt(who, whom lb.NodeName, d time.Duration) {
	a, b := w.alive[who], w.alive[whom]
	if a == nil || b == nil || a == b {
		return
	}
	a.messages.events <- gossip.Event{Kind: gossip.MemberDown, Node: whom}
	time.AfterFunc(d, func() {
		w.network.mu.Lock()
		defer w.network.mu.Unlock()
		if a.messages.cut || b.messages.cut || a.messages.apart || b.messages.apart {
			return // kill and rejoin see to it
		}
		a.messages.events <- gossip.Event{Kind: gossip.MemberUp, Node: whom}
		a.messages.events <- gossip.Event{Kind: gossip.FullState, Data: slices.Clone(b.messages.state)}
	})
}

// wrong says what is not as it should be; empty: all is.
func (w *world) wrong() string {
	synctest.Wait()
	got := w.condition()
	var want []string // any of them
	for _, n := range slices.Sorted(maps.Keys(w.alive)) {
		if w.alive[n].answers.answersFor(vip) {
			want = append(want, fmt.Sprintf("True Announcing announcing from node %q with protocol \"layer2\"", n))
		}
	}
	if len(want) == 0 && w.bgp && len(w.endpoints) > 0 {
		for n := range w.alive {
			if w.up[n] {
				want = append(want, fmt.Sprintf("True Announcing announcing from node %q with protocol \"bgp\"", n))
			}
		}
	}
	if len(want) == 0 {
		want = append(want, "False "+w.reason())
	}
	if !slices.ContainsFunc(want, func(one string) bool { return strings.HasPrefix(got, one) }) {
		return fmt.Sprintf("condition %q, want %q", got, want)
	}
	if w.partial {
		return ""
	}
	return w.wrongObjects()
}

// condition is what the Service says.
func (w *world) condition() string {
	var svc corev1.Service
	w.api.get("services/default/web", &svc)
	for _, c := range svc.Status.Conditions {
		if c.Type == api.ConditionAnnounced {
			return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

// named is the node that the condition names.
func (w *world) named() lb.NodeName {
	var svc corev1.Service
	w.api.get("services/default/web", &svc)
	node, _ := status.AnnouncedBy(&svc)
	return node
}

// reason is why nobody announces.
func (w *world) reason() string {
	switch {
	case !w.l2 && !w.bgp:
		return "NoAdvertisement"
	case len(w.endpoints) == 0:
		return "NoEndpoints"
	case w.bgp:
		return "NoSession"
	}
	return "NoCandidate"
}

// wrongObjects looks at the objects that speakers make.
func (w *world) wrongObjects() string {
	have := map[string]int{}
	w.api.mu.Lock()
	for id, obj := range w.api.objects {
		resource, _, _ := strings.Cut(id, "/")
		set, _ := metaOf(obj)["labels"].(fakeObject)
		if node, ok := set[api.LabelNode]; ok {
			have[fmt.Sprint(resource, " of ", node)]++
		}
	}
	w.api.mu.Unlock()
	want := map[string]int{}
	for n, node := range w.alive {
		if node.answers.answersFor(vip) {
			want[fmt.Sprint("servicel2statuses of ", n)] = 1
		}
		if w.bgp && len(w.endpoints) > 0 {
			want[fmt.Sprint("servicebgpstatuses of ", n)] = 1
		}
		want[fmt.Sprint("bgpsessions of ", n)] = 1
	}
	if !maps.Equal(want, have) {
		return fmt.Sprintf("objects %v, want %v", have, want)
	}
	return ""
}
