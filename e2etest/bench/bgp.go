// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/burst"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
)

const (
	bgpRouter  = "tor"
	bgpSingles = 200
	bgpBurst   = 500
	bgpRoutes  = "198.18.0.0/16"
	// routeLimit is how long a route may take before it counts as never.
	routeLimit = 20 * time.Second
)

const bgpRouterConfig = `router bgp 64600
 bgp router-id 192.168.2.200
 no bgp ebgp-requires-policy
 neighbor 192.168.2.11 remote-as 64512
 neighbor 192.168.2.11 bfd 3 100 100
 neighbor 192.168.2.12 remote-as 64512
 neighbor 192.168.2.12 bfd 3 100 100
`

// bgpManifests: both nodes announce everything. The Pods are on node1, so that they outlive node2, which is cut off and drained.
const bgpManifests = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: load, namespace: %[1]s}
spec:
  addresses: [198.18.0.0/16]
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: %[1]s}
spec: {transmitInterval: 100, receiveInterval: 100, detectMultiplier: 3}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: %[1]s}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 192.168.2.200, bfdProfile: fast}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: load, namespace: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: server}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node1}
      containers: [{name: server, image: example/server}]
`

// routed is a lab with a router, and what the router's kernel says of its routes.
type routed struct {
	*cluster
	routes *probe.Routes
	web    netip.Addr
}

// bgp measures what routers see, with FRR.
func bgp(ctx context.Context, o Options) ([]Result, error) {
	c, err := up(ctx, o, lab.Options{Nodes: 2, Routers: []lab.Router{{Name: bgpRouter, Daemon: "frr", Config: bgpRouterConfig}}})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &routed{cluster: c}
	if err := r.prepare(ctx, o); err != nil {
		return nil, err
	}
	return measureAll(ctx, o, c, []measurement{
		{o.wantsAny("bgp_dead_node_p50_ms", "bgp_dead_node_max_ms"), r.deadNode},
		{o.wantsAny("bgp_announce_p50_ms", "bgp_announce_p99_ms"), r.announce},
		{o.wantsAny("bgp_burst_ratio_500"), r.burst500},
		{o.wantsAny("bgp_drain_failed_connections"), r.drain},
		{o.wantsAny("bgp_upgrade_failed_connections"), r.upgrade},
		{o.wantsAny("bgp_session_resets_under_churn"), r.resets},
	})
}

func (r *routed) prepare(ctx context.Context, o Options) error {
	for _, args := range [][]string{
		{"sysctl", "-q", "-w", "net.ipv4.conf.all.accept_redirects=0", "net.ipv4.conf.eth0.accept_redirects=0"},
		{"ip", "route", "add", bgpRoutes, "via", "192.168.2.200"},
	} {
		if out, err := r.Exec(ctx, "client1", args...); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	cmd, err := r.Command(ctx, bgpRouter, "ip", "-o", "monitor", "route")
	if err != nil {
		return err
	}
	if r.routes, err = probe.WatchRoutes(cmd); err != nil {
		return err
	}
	if err := r.apply(ctx, fmt.Sprintf(bgpManifests, o.Namespace)); err != nil {
		return err
	}
	if err := wait(ctx, readyLimit, r.serversReady); err != nil {
		return err
	}
	err = wait(ctx, readyLimit, func(ctx context.Context) error {
		out, _, err := r.Kubectl(ctx, nil, "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		if err != nil {
			return err
		}
		r.web, err = netip.ParseAddr(string(out))
		return err
	})
	if err != nil {
		return err
	}
	return r.both(ctx)
}

// both waits until the router sends the Service's traffic to both nodes.
func (r *routed) both(ctx context.Context) error {
	_, err := r.routes.Await(ctx, readyLimit, r.web, func(route string) bool {
		return strings.Contains(route, "192.168.2.11 ") && strings.Contains(route, "192.168.2.12 ")
	})
	return err
}

// bfdUp says whether the router's BFD sessions with all nodes are up.
func (r *routed) bfdUp(ctx context.Context) error {
	out, err := r.Exec(ctx, bgpRouter, "vtysh", "-N", bgpRouter, "-c", "show bfd peers json")
	if err != nil {
		return err
	}
	var peers []struct{ Peer, Status string }
	if err := json.Unmarshal(out, &peers); err != nil {
		return fmt.Errorf("read the router's BFD sessions: %w", err)
	}
	if len(peers) < 2 {
		return fmt.Errorf("the router has %d BFD sessions", len(peers))
	}
	for _, p := range peers {
		if p.Status != "up" {
			return fmt.Errorf("the router's BFD session with %s is %s", p.Peer, p.Status)
		}
	}
	return nil
}

// deadNode cuts the cable of node2 and waits until the router's kernel sends nothing there any more.
func (r *routed) deadNode(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	var all []float64
	for i := range o.Cuts {
		if err := r.both(ctx); err != nil {
			return nil, fmt.Errorf("before run %d: %w", i+1, err)
		}
		if err := wait(ctx, readyLimit, r.bfdUp); err != nil { // it comes after BGP
			return nil, fmt.Errorf("before run %d: %w", i+1, err)
		}
		begun := time.Now()
		if err := r.Cut(ctx, "node2"); err != nil {
			return nil, err
		}
		at, err := r.routes.Await(ctx, routeLimit, r.web, func(route string) bool { return route != "" && !strings.Contains(route, "192.168.2.12 ") })
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		all = append(all, milliseconds(at.Sub(begun)))
		o.say("cut the cable %d: the router has dropped the node after %.0f ms", i+1, all[i])
		if err := r.Plug(ctx, "node2"); err != nil {
			return nil, err
		}
	}
	return []Result{{"bgp_dead_node_p50_ms", probe.Percentile(all, 50), "ms"}, {"bgp_dead_node_max_ms", slices.Max(all), "ms"}}, r.both(ctx)
}

// announce gives Services an endpoint, one by one: the time from the API server's answer until the route is in the kernel of the
// router.
func (r *routed) announce(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	if err := burst.Create(ctx, r.kube, "default", "single", "", bgpSingles); err != nil {
		return nil, err
	}
	if err := burst.WaitAll(ctx, r.kube, "default", "single", bgpSingles); err != nil {
		return nil, err
	}
	all, _, err := burst.List(ctx, r.kube)
	if err != nil {
		return nil, err
	}
	var times []float64
	for _, s := range all {
		if !strings.HasPrefix(s.Name, "single") {
			continue
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
		if err := r.endpoint(ctx, s.Name); err != nil {
			return nil, err
		}
		answered := time.Now()
		address, err := addressOf(s)
		if err != nil {
			return nil, err
		}
		at, err := r.routes.Await(ctx, routeLimit, address, func(route string) bool { return route != "" })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		times = append(times, milliseconds(max(0, at.Sub(answered))))
	}
	if len(times) == 0 {
		return nil, errors.New("no Service to announce")
	}
	o.say("announced %d Services: p50 %.0f ms, p99 %.0f ms", len(times), probe.Percentile(times, 50), probe.Percentile(times, 99))
	return []Result{{"bgp_announce_p50_ms", probe.Percentile(times, 50), "ms"}, {"bgp_announce_p99_ms", probe.Percentile(times, 99), "ms"}}, nil
}

// endpoint adds an endpoint that serves, as the controller of EndpointSlices would, but without its queue.
func (c *cluster) endpoint(ctx context.Context, service string) error {
	ready, node, port := true, "node1", int32(80)
	_, err := c.kube.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.250"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
	}, metav1.CreateOptions{})
	return err
}

// burst500 creates Services with endpoints; the ratio is the time until the last route is at the router, divided by the time until the
// last of them is created.
func (r *routed) burst500(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	begun := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(burst.Clients)
	for i := range bgpBurst {
		g.Go(func() error {
			name := fmt.Sprintf("many-%04d", i)
			_, err := r.kube.CoreV1().Services("default").Create(gctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
			}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return r.endpoint(gctx, name)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	created := time.Since(begun)
	if err := burst.WaitAll(ctx, r.kube, "default", "many", bgpBurst); err != nil {
		return nil, err
	}
	all, _, err := burst.List(ctx, r.kube)
	if err != nil {
		return nil, err
	}
	var last time.Time
	for _, s := range all {
		if !strings.HasPrefix(s.Name, "many") {
			continue
		}
		address, err := addressOf(s)
		if err != nil {
			return nil, err
		}
		at, err := r.routes.Await(ctx, routeLimit, address, func(route string) bool { return route != "" })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		if at.After(last) {
			last = at
		}
	}
	full := last.Sub(begun)
	o.say("%d Services with endpoints created in %.1f s, all routes at the router after %.1f s", bgpBurst, created.Seconds(), full.Seconds())
	return []Result{{"bgp_burst_ratio_500", full.Seconds() / created.Seconds(), "ratio"}}, nil
}

func addressOf(s burst.Service) (netip.Addr, error) {
	if len(s.IPs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s has no address", s.Name)
	}
	return netip.ParseAddr(s.IPs[0])
}

// failed opens 200 connections a second through the router while work is done, and counts those that fail.
func (r *routed) failed(ctx context.Context, o Options, name string, work func(context.Context) error) ([]Result, error) {
	if err := r.both(ctx); err != nil {
		return nil, err
	}
	s := probe.Start(ctx, probe.NewTCP(netip.AddrPortFrom(r.web, 80), clientEvery, func(fn func() error) error { return r.Do("client1", fn) }))
	defer func() { _ = s.Stop() }()
	if err := answered(ctx, s); err != nil {
		return nil, err
	}
	if err := work(ctx); err != nil {
		return nil, err
	}
	if err := sleep(ctx, afterward); err != nil {
		return nil, err
	}
	tried, _, _ := s.Counts()
	o.say("%s: %d connections, of which %d failed; %d more were accepted and reset at once", name, tried, s.Failed(), s.Cut())
	return []Result{{name, float64(s.Failed()), "connections"}}, nil
}

// drain evicts everything from one of the nodes, and takes it out of the routes, as somebody does who is about to repair it.
func (r *routed) drain(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	return r.failed(ctx, o, "bgp_drain_failed_connections", func(ctx context.Context) error {
		const label = "node.kubernetes.io/exclude-from-external-load-balancers"
		for _, args := range [][]string{
			{"drain", "node2", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=1m"},
			{"label", "node", "node2", label + "="},
		} {
			if _, _, err := r.Kubectl(ctx, nil, args...); err != nil {
				return err
			}
		}
		_, err := r.routes.Await(ctx, routeLimit, r.web, func(route string) bool { return route != "" && !strings.Contains(route, "192.168.2.12 ") })
		if err != nil {
			return err
		}
		for _, args := range [][]string{{"uncordon", "node2"}, {"label", "node", "node2", label + "-"}} {
			if _, _, err := r.Kubectl(ctx, nil, args...); err != nil {
				return err
			}
		}
		return r.both(ctx)
	})
}

// upgrade replaces all speakers, one after the other.
func (r *routed) upgrade(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	return r.failed(ctx, o, "bgp_upgrade_failed_connections", func(ctx context.Context) error {
		if _, _, err := r.Kubectl(ctx, nil, "rollout", "restart", "daemonset", "-n", o.Namespace); err != nil {
			return err
		}
		if _, _, err := r.Kubectl(ctx, nil, "rollout", "status", "daemonset", "-n", o.Namespace, "--timeout=2m"); err != nil {
			return err
		}
		return r.both(ctx)
	})
}
