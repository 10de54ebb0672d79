// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// crowd is a cluster of n Services with an address and an endpoint each, and one node to announce them.
func crowd(n int, byBGP bool) snapshot.Objects {
	own := metav1.ObjectMeta{Namespace: worldNamespace, Name: "load"}
	o := snapshot.Objects{
		Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		Nodes: []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.60.0.11"}},
		}}},
		Pools: []*v1beta1.IPAddressPool{{ObjectMeta: own, Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"10.100.0.0/16"}}}},
	}
	if byBGP {
		o.BGPAdvertisements = []*v1beta1.BGPAdvertisement{{ObjectMeta: own}}
		peer := &v1beta2.BGPPeer{ObjectMeta: own}
		peer.Spec.MyASN, peer.Spec.PeerASN, peer.Spec.PeerAddress = 64512, 64600, "10.60.0.200"
		o.Peers = []*v1beta2.BGPPeer{peer}
	} else {
		o.L2Advertisements = []*v1beta1.L2Advertisement{{ObjectMeta: own}}
	}
	for i := range n {
		name := fmt.Sprintf("load-%05d", i*7919%n)
		o.Services = append(o.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: name, UID: types.UID(fmt.Sprint(i)), ResourceVersion: fmt.Sprint(1000 + i),
				CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000+int64(i/60), 0)),
				Annotations:       map[string]string{api.AnnotationAllocatedFromPool: "load"},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
				Selector: map[string]string{"app": "server"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
			},
			Status: corev1.ServiceStatus{
				LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("10.100.%d.%d", i/256, i%256)}}},
			},
		})
		o.EndpointSlices = append(o.EndpointSlices, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name + "-x", UID: types.UID("e" + fmt.Sprint(i)), Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}, NodeName: new("node1")}},
		})
	}
	return o
}

// stage is a speaker without drivers and caches: what it decides and keeps is real.
type stage struct {
	*speaker
	objs snapshot.Objects
}

func newStage(b *testing.B, n int, byBGP bool) *stage {
	b.Helper()
	answers := &prompt{started: make(chan []netip.Addr, 100)}
	s := &speaker{opts: Options{Namespace: worldNamespace, NodeName: "node1"}, self: "node1", log: slog.New(slog.DiscardHandler)}
	s.metrics = telemetry.NewSpeakerMetrics(answers.State)
	ex, err := loadExclusions("")
	if err != nil {
		b.Fatal(err)
	}
	links := newFakeLinks(eth("eth0", true, "10.60.0.11/16"))
	s.engine = newEngine(ownership.Config{Self: "node1"}, answers, (&fakeNetwork{}).join("node1"), links, ex, func() {}, s.log)
	routers := &worldSessions{changed: make(chan struct{}, 1), up: true, since: time.Now()}
	joined := newBFDSide(&fakeBFD{}, links, func(string) {}, func() {}, s.log)
	s.router = newRouter("node1", devices{routers: routers, ports: newFakePorts()}, newSecrets(s.readSecret), joined, &s.opts, func() {}, s.log)
	s.reporter = &reporter{
		router: s.router, who: status.Speaker{Node: "node1", Namespace: worldNamespace},
		engine: s.engine, watcher: answers, links: links, metrics: s.metrics,
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 2)
	go func() { done <- s.engine.run(ctx) }()
	go func() { done <- s.router.run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, <-done); err != nil {
			b.Error(err)
		}
	})
	t := &stage{speaker: s, objs: crowd(n, byBGP)}
	t.decide(t.objs)
	return t
}

// prompt answers at once for what it is told to.
type prompt struct {
	mu      sync.Mutex // guards state
	state   l2.State
	started chan []netip.Addr
}

func (p *prompt) Set(w l2.Wanted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := make(map[netip.Addr]bool, len(p.state.Addresses))
	for _, a := range p.state.Addresses {
		was[a.IP] = true
	}
	p.state = l2.State{}
	var fresh []netip.Addr
	for _, a := range w.Addresses {
		p.state.Addresses = append(p.state.Addresses, l2.AddressState{IP: a.IP, Phase: l2.PhaseAnnouncing, Interfaces: a.Interfaces})
		if !was[a.IP] {
			fresh = append(fresh, a.IP)
		}
	}
	if len(fresh) > 0 {
		p.started <- fresh
	}
}

func (p *prompt) Lease(time.Time) {}

func (p *prompt) Started() <-chan []netip.Addr { return p.started }

func (p *prompt) State() l2.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *prompt) Changed() <-chan struct{} { return nil }

// settled waits until the engine and the router have taken the plan.
func (t *stage) settled() {
	for len(t.engine.plans)+len(t.router.plans) > 0 {
		runtime.Gosched()
	}
	t.engine.query(func(*ownership.Machine) {})
}

// touch replaces one Service, as a watch event does.
func (t *stage) touch(i int) {
	fresh := t.objs.Services[i].DeepCopy()
	fresh.Generation++
	t.objs.Services = slices.Clone(t.objs.Services)
	t.objs.Services[i] = fresh
}

// eachCrowd runs a benchmark with the sizes and protocols that matter.
func eachCrowd(b *testing.B, run func(b *testing.B, t *stage)) {
	for _, n := range []int{1_000, 10_000} {
		for _, protocol := range []string{status.ProtocolL2, status.ProtocolBGP} {
			b.Run(fmt.Sprintf("services=%d/%s", n, protocol), func(b *testing.B) {
				run(b, newStage(b, n, protocol == status.ProtocolBGP))
			})
		}
	}
}

// BenchmarkPlanRound is what a round decides when one of many Services has changed, until the engine and the router have done with it:
// everything but reading the caches and the drivers.
func BenchmarkPlanRound(b *testing.B) {
	eachCrowd(b, func(b *testing.B, t *stage) {
		t.settled()
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			i++
			t.touch(i % len(t.objs.Services))
			t.decide(t.objs)
			t.settled()
		}
	})
}

// BenchmarkReportRound is a report when everything is written already.
func BenchmarkReportRound(b *testing.B) {
	eachCrowd(b, func(b *testing.B, t *stage) {
		t.settled()
		for range 3 {
			t.report()
		}
		if n := t.report(); n > 1 {
			b.Fatalf("%d writes are left", n)
		}
		b.ReportAllocs()
		for b.Loop() {
			t.report()
		}
	})
}

// report makes a report, and carries out its writes.
func (t *stage) report() int {
	now := time.Now().Add(time.Minute)
	writes, _, ok := t.reporter.sync(t.planned.Load(), t.objs, now)
	if !ok {
		panic("the engine has ended")
	}
	at := map[types.UID]int{}
	t.objs.Services = slices.Clone(t.objs.Services)
	for i, svc := range t.objs.Services {
		at[svc.UID] = i
	}
	for _, w := range writes {
		switch o := w.Object.(type) {
		case *corev1.Service:
			var p struct{ Status corev1.ServiceStatus }
			if err := json.Unmarshal(w.Patch, &p); err != nil {
				panic(err)
			}
			next := o.DeepCopy()
			next.Status.Conditions = p.Status.Conditions
			t.objs.Services[at[o.UID]] = next
		case *v1beta1.ServiceL2Status:
			o.Name = o.Labels[api.LabelServiceName]
			t.objs.L2Statuses = append(t.objs.L2Statuses, o)
		case *v1beta1.ServiceBGPStatus:
			o.Name = o.Labels[api.LabelServiceName]
			t.objs.BGPStatuses = append(t.objs.BGPStatuses, o)
		case *v1alpha1.BGPSession:
			t.objs.BGPSessions = []*v1alpha1.BGPSession{o}
		case *v1beta1.ConfigurationState:
			t.objs.ConfigurationStates = []*v1beta1.ConfigurationState{o}
		}
	}
	return len(writes)
}
