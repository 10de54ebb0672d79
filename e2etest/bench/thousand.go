// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/e2etest/burst"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
)

const (
	prefix = "load"
	// owner is the one node that may announce, so that it owns all the addresses, and its kernel has the address to compare with.
	ownerNode  = "node1"
	readyLimit = 2 * time.Minute
	restLimit  = 5 * time.Minute
	manyLimit  = 10 * time.Minute
	downLimit  = 30 * time.Second
	arpRounds  = 4000
	arpPause   = 500 * time.Microsecond
)

// loadManifests are the pool and the Pods of the 1,000 Services. The LAN is large enough for both.
const loadManifests = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: load, namespace: %[1]s}
spec:
  addresses: [10.60.16.0/20]
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: load, namespace: %[1]s}
spec:
  nodeSelectors:
  - matchLabels: {kubernetes.io/hostname: %[2]s}
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
      containers: [{name: server, image: example/server}]
`

// cluster is a lab with clients for it.
type cluster struct {
	*lab.Lab
	status lab.Status
	kube   kubernetes.Interface
}

// up starts a lab; the caller calls its down.
func up(ctx context.Context, o Options, lo lab.Options) (*cluster, error) {
	lo.Root, lo.Progress = o.Root, o.Progress
	if lo.Nodes == 0 {
		lo.Nodes = o.Nodes
	}
	lo.Name = fmt.Sprintf("bench-%d", os.Getpid()) // others may be measuring at the same time
	lo.Manifests, lo.Images, lo.Namespace = o.Manifests, o.Images, o.Namespace
	l, err := lab.Up(ctx, lo)
	if err != nil {
		return nil, err
	}
	c := &cluster{Lab: l}
	if err := c.connect(ctx); err != nil {
		c.down(ctx)
		return nil, err
	}
	return c, nil
}

func (c *cluster) connect(ctx context.Context) (err error) {
	if c.status, err = c.Status(ctx); err != nil {
		return err
	}
	cfg, err := c.RESTConfig()
	if err != nil {
		return err
	}
	c.kube, err = kubernetes.NewForConfig(cfg)
	return err
}

// down ends the lab even if the measurement was interrupted.
func (c *cluster) down(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downLimit)
	defer cancel()
	_ = c.Down(ctx) // the lab ends with this process in any case
}

// keepLogs copies the lab's logs, which go with it, if one of the results misses its target.
func (c *cluster) keepLogs(o Options, rs []Result) {
	targets := Targets()
	if !slices.ContainsFunc(rs, func(r Result) bool { _, missed := verdict(r, targets); return missed }) {
		return
	}
	dir, err := os.MkdirTemp("", "herald-bench-")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(c.LogDir()))
	}
	if err != nil {
		o.say("a target is missed, and the logs cannot be kept: %v", err)
		return
	}
	o.say("a target is missed; the logs are kept in %s", dir)
}

func (c *cluster) apply(ctx context.Context, manifests string) error {
	_, errOut, err := c.Kubectl(ctx, strings.NewReader(manifests), "apply", "-f", "-")
	if err != nil {
		return fmt.Errorf("kubectl apply: %w: %s", err, errOut)
	}
	return nil
}

func thousand(ctx context.Context, o Options) ([]Result, error) {
	c, err := up(ctx, o, lab.Options{Subnet: netip.MustParsePrefix("10.60.0.0/16")})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	if err := c.apply(ctx, fmt.Sprintf(loadManifests, o.Namespace, ownerNode)); err != nil {
		return nil, err
	}
	if err := wait(ctx, readyLimit, c.serversReady); err != nil {
		return nil, err
	}
	rs, err := allocate(ctx, o, c) // all others need its Services
	if err != nil {
		return nil, err
	}
	more, err := measureAll(ctx, o, c, []measurement{
		{o.wantsAny("idle_writes_per_minute"), idle},
		{o.wantsAny("controller_rss_mb_1000", "speaker_rss_mb_1000"), memory},
	})
	return append(rs, more...), err
}

func (c *cluster) serversReady(ctx context.Context) error {
	out, _, err := c.Kubectl(ctx, nil, "get", "deployment", "server", "-o", "jsonpath={.status.availableReplicas}")
	if err != nil || string(out) == "" || string(out) == "0" {
		return fmt.Errorf("%q Pods are available: %w", out, orNotYet(err))
	}
	return nil
}

// allocate creates the Services with 16 clients. The ratio is the time from the beginning until the last of them has an
// address, divided by the time from the beginning until the last of them is created. 1 is an allocator that costs nothing.
func allocate(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, manyLimit)
	defer cancel()
	b, err := c.burst(ctx, o, o.Services, "server")
	if err != nil {
		return nil, err
	}
	return []Result{{"alloc_burst_ratio_1000", b.ratio(), "ratio"}}, nil
}

// arpReplies measures what answers, on the machine as it is and on one that does not sleep.
func arpReplies(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	out, err := resolve(ctx, o, c, "arp_reply")
	if err != nil {
		return nil, err
	}
	sleep, err := keepAwake()
	if err != nil {
		o.say("no arp_awake_ratio: %v", err)
		return out, nil
	}
	awake, err := resolve(ctx, o, c, "arp_awake")
	return append(out, awake...), errors.Join(err, sleep())
}

// offloaded measures the same when the kernel answers.
func offloaded(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	if err := c.offload(ctx, o); err != nil {
		return nil, err
	}
	return resolve(ctx, o, c, "arp_offload")
}

// offload makes the speakers start anew with the chart's speaker.arpOffload. As the chart was installed with other values, the
// DaemonSet is changed instead.
func (c *cluster) offload(ctx context.Context, o Options) error {
	sets := c.kube.AppsV1().DaemonSets(o.Namespace)
	patch := []byte(`[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--arp-offload"},
		{"op": "add", "path": "/spec/template/spec/containers/0/securityContext/capabilities/add/-", "value": "BPF"},
		{"op": "add", "path": "/spec/template/spec/containers/0/securityContext/capabilities/add/-", "value": "NET_ADMIN"}]`)
	set, err := sets.Patch(ctx, "herald-speaker", types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("turn the ARP offload on: %w", err)
	}
	return wait(ctx, readyLimit, func(ctx context.Context) error {
		now, err := sets.Get(ctx, set.Name, metav1.GetOptions{})
		if s := now.Status; err == nil && (s.ObservedGeneration < set.Generation || s.UpdatedNumberScheduled != s.DesiredNumberScheduled || s.NumberAvailable == 0) {
			return fmt.Errorf("speakers with the offload: %+v", s)
		}
		return err
	})
}

// resolve asks for an owned address and for the node's own in turn, with raw ARP requests from the client: the
// kernel answers the second, so the ratio is what it costs that a program answers the first.
func resolve(ctx context.Context, o Options, c *cluster, name string) ([]Result, error) {
	owned, err := c.addresses(ctx)
	if err != nil {
		return nil, err
	}
	node, ok := c.status.Node(ownerNode)
	if !ok || len(owned) == 0 || len(c.status.Clients) == 0 {
		return nil, fmt.Errorf("nothing to ask for: %d owned addresses, node %s: %v", len(owned), ownerNode, ok)
	}
	o.say("wait until %s answers for all of %d addresses, then ask %d times", ownerNode, len(owned), arpRounds)
	ask := func(targets []netip.Addr) (took []time.Duration, err error) {
		err = c.Do("client1", func() (err error) {
			took, err = probe.Resolve("eth0", c.status.Clients[0].IPs[0], targets, arpPause)
			return err
		})
		return took, err
	}
	left := owned
	if err := wait(ctx, manyLimit, func(context.Context) error {
		for len(left) > 0 {
			some := left[:min(100, len(left))]
			if _, err := ask(some); err != nil {
				return err
			}
			left = left[len(some):]
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := c.atRest(ctx); err != nil { // it has reported on all of them
		o.say("it does not come to rest: %v", err)
	}
	sequence := make([]netip.Addr, 0, 2*arpRounds)
	for i := range arpRounds {
		sequence = append(sequence, owned[i%len(owned)], node.IPs[0])
	}
	took, err := ask(sequence)
	if err != nil {
		return nil, err
	}
	var herald, kernel []time.Duration
	for i := 0; i < len(took); i += 2 {
		herald, kernel = append(herald, took[i]), append(kernel, took[i+1])
	}
	ratio := func(p float64) float64 {
		a, b := probe.Percentile(herald, p), probe.Percentile(kernel, p)
		o.say("p%g: owned address %v, the kernel's %v", p, a, b)
		return float64(a) / float64(b)
	}
	return []Result{{name + "_ratio_p50", ratio(50), "ratio"}, {name + "_ratio_p99", ratio(99), "ratio"}}, nil
}

// addresses returns what all Services have been given, sorted by their names.
func (c *cluster) addresses(ctx context.Context) ([]netip.Addr, error) {
	list, _, err := burst.List(ctx, c.kube)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, s := range list {
		for _, ip := range s.IPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// idle counts the requests that change objects while nothing happens, from the API server's own metrics, without those that a
// cluster without a load balancer makes too (see probe.Writes). It waits for ten quiet seconds first.
func idle(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	o.say("wait for rest, then watch for %v", o.Idle)
	if err := c.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	before, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, o.Idle); err != nil {
		return nil, err
	}
	after, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	n, what := probe.NewWrites(before, after)
	for _, w := range what {
		o.say("written while idle: %s", w)
	}
	return []Result{{"idle_writes_per_minute", n / o.Idle.Minutes(), "writes/min"}}, nil
}

// atRest waits for ten seconds without a write.
func (c *cluster) atRest(ctx context.Context) error { return c.atRestFor(ctx, 10*time.Second) }

func (c *cluster) atRestFor(ctx context.Context, d time.Duration) error {
	before, err := c.writes(ctx)
	if err != nil {
		return err
	}
	return wait(ctx, restLimit, func(ctx context.Context) error {
		last := before
		if err := sleep(ctx, d); err != nil {
			return err
		}
		if before, err = c.writes(ctx); err != nil {
			return err
		}
		if n, what := probe.NewWrites(last, before); n > 0 {
			return fmt.Errorf("still writing: %s", strings.Join(what, ", "))
		}
		return nil
	})
}

func (c *cluster) writes(ctx context.Context) (map[string]float64, error) {
	text, err := c.kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return probe.Writes(bytes.NewReader(text))
}

// memory is measured last, at rest, with all Services there.
func memory(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	if err := c.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	var rs []Result
	parts := programs(o)
	for _, part := range sortedKeys(parts) {
		mb, err := resident(ctx, c.Lab, parts[part])
		if err != nil {
			return rs, err
		}
		rs = append(rs, Result{part + "_rss_mb_1000", mb, "MB"})
	}
	return rs, nil
}
