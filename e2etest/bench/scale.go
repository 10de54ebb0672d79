// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/e2etest/burst"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
)

const (
	many = 10_000
	// present is how many Services there are while the latency of single ones is measured.
	present = 5_000
	// A /18 of the LAN, which is larger than what is needed.
	manyAddresses = "10.60.64.0/18"
	leaseName     = "herald-controller"
)

const manyManifests = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: load, namespace: %[1]s}
spec:
  addresses: [` + manyAddresses + `]
`

// tenThousand measures the controller with 10,000 Services. They select no Pods, there is one node, no speaker runs on it, and its
// kube-proxy is stopped after it has made the rules that the controllers need: giving addresses needs none of these, and they would
// be busy with the same Services.
func tenThousand(ctx context.Context, o Options) ([]Result, error) {
	c, err := up(ctx, o, lab.Options{Nodes: 1, NoClients: true, Subnet: netip.MustParsePrefix("10.60.0.0/16")})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	if err := c.noSpeakers(ctx, o); err != nil {
		return nil, err
	}
	if err := c.stopProxies(ctx, o); err != nil {
		return nil, err
	}
	if err := c.apply(ctx, fmt.Sprintf(manyManifests, o.Namespace)); err != nil {
		return nil, err
	}
	rs, err := allocateMany(ctx, o, c) // all others need its Services
	if err != nil {
		return nil, err
	}
	more, err := measureAll(ctx, o, c, []measurement{
		{o.wantsAny("controller_rss_mb_10k"), memoryMany},
		{o.wantsAny("leader_takeover_ms", "leader_takeover_over_lease_ms"), takeover},
		{o.wantsAny("alloc_latency_p99_ms", "alloc_latency_p50_ms", "api_write_p99_ms", "alloc_latency_p99_over_api_ms"), latency},
	})
	return append(rs, more...), err
}

// manyByL2 makes node1 the owner of all addresses.
const manyByL2 = `
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: load, namespace: %[1]s}
`

// tenThousandAddresses measures one speaker that answers for 10,000 addresses, and then announces them to a router instead.
// kube-proxy is stopped, as above: nothing is sent to the addresses. The speaker starts when all Services have an address and an
// endpoint: what it does while they come is not measured here, and on two cores the API server needs most of the time for what is
// written. For that reason, too, the endpoints are made by this program, without the controllers that would look for Pods.
func tenThousandAddresses(ctx context.Context, o Options) ([]Result, error) {
	c, err := up(ctx, o, lab.Options{Nodes: 1, Subnet: netip.MustParsePrefix("10.60.0.0/16"), Routers: []lab.Router{{Name: bgpRouter, Daemon: "frr", Config: manyRouter}}})
	if err != nil {
		return nil, err
	}
	defer c.down(ctx)
	if err := c.noSpeakers(ctx, o); err != nil {
		return nil, err
	}
	if err := c.stopProxies(ctx, o); err != nil {
		return nil, err
	}
	if err := c.apply(ctx, fmt.Sprintf(manyManifests, o.Namespace)); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, manyLimit)
	defer cancel()
	if _, err := c.burst(limited, o, o.Many, ""); err != nil {
		return nil, err
	}
	if err := c.endpoints(limited, o); err != nil {
		return nil, err
	}
	offload := o.wantsAny("arp_offload_ratio_p50", "arp_offload_ratio_p99") && len(o.Manifests) == 0 // Herald's own chart
	own := o.wantsAny("arp_reply_ratio_p50", "arp_reply_ratio_p99", "arp_awake_ratio_p50", "arp_awake_ratio_p99", "speaker_rss_mb_10k")
	byL2 := own || offload
	manifest := manyByBGP
	if byL2 {
		manifest = manyByL2
	}
	if err := c.apply(ctx, fmt.Sprintf(manifest, o.Namespace)); err != nil {
		return nil, err
	}
	if err := c.allowSpeakers(ctx, o, true); err != nil {
		return nil, err
	}
	return measureAll(ctx, o, c, []measurement{
		{own, arpReplies},
		{o.wantsAny("speaker_rss_mb_10k"), func(ctx context.Context, o Options, c *cluster) ([]Result, error) {
			mb, err := resident(ctx, c.Lab, programs(o)["speaker"])
			return []Result{{"speaker_rss_mb_10k", mb, "MB"}}, err
		}},
		{offload, offloaded},
		{o.wantsAny("bgp_full_table_10k_ms", "speaker_rss_mb_bgp_10k"), fullTable},
	})
}

// endpoints gives all Services an endpoint.
func (c *cluster) endpoints(ctx context.Context, o Options) error {
	list, _, err := burst.List(ctx, c.kube)
	if err != nil {
		return err
	}
	o.say("make %d EndpointSlices", len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(burst.Clients)
	for _, s := range list {
		g.Go(func() error { return c.endpoint(ctx, s.Name) })
	}
	return g.Wait()
}

// measurement is one of those that share a lab.
type measurement struct {
	wanted bool
	run    func(context.Context, Options, *cluster) ([]Result, error)
}

// measureAll goes on after a measurement that fails: the others may still say something. Without Services none does.
func measureAll(ctx context.Context, o Options, c *cluster, ms []measurement) ([]Result, error) {
	var rs []Result
	var errs []error
	for _, m := range ms {
		if !m.wanted || ctx.Err() != nil {
			continue
		}
		more, err := m.run(ctx, o, c)
		rs = append(rs, more...)
		if errs = append(errs, err); err != nil {
			o.say("FAILED: %v", err)
		}
	}
	return rs, errors.Join(append(errs, ctx.Err())...)
}

// noSpeakers ends the speakers, and waits until they are gone.
func (c *cluster) noSpeakers(ctx context.Context, o Options) error {
	if err := c.allowSpeakers(ctx, o, false); err != nil {
		return err
	}
	return wait(ctx, readyLimit, func(ctx context.Context) error {
		if left, err := instances(ctx, c.Lab, programs(o)["speaker"]); err == nil {
			return fmt.Errorf("%d speakers run", len(left))
		}
		return nil
	})
}

// allowSpeakers asks for speakers on all nodes, or on nodes that do not exist.
func (c *cluster) allowSpeakers(ctx context.Context, o Options, yes bool) error {
	sets := c.kube.AppsV1().DaemonSets(o.Namespace)
	list, err := sets.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list DaemonSets: %w", err)
	}
	where := `"no"`
	if yes {
		where = "null"
	}
	for i := range list.Items {
		patch := []byte(`{"spec":{"template":{"spec":{"nodeSelector":{"bench":` + where + `}}}}}`)
		if _, err := sets.Patch(ctx, list.Items[i].Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("patch DaemonSet %s: %w", list.Items[i].Name, err)
		}
	}
	return nil
}

func (c *cluster) stopProxies(ctx context.Context, o Options) error {
	all, err := instances(ctx, c.Lab, filepath.Join(o.Root, "bin", "kube"), "kube-proxy")
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := p.signal(unix.SIGSTOP); err != nil {
			return err
		}
	}
	return nil
}

// created is what a burst took.
type created struct {
	n              int
	creation, full time.Duration
	// writes of everybody while it lasted, and those that a load balancer makes on Services, their addresses and conditions.
	writes, onServices float64
}

func (b created) ratio() float64 { return b.full.Seconds() / b.creation.Seconds() }

// burst creates n Services with 16 clients, and waits until each of them has an address of its own.
func (c *cluster) burst(ctx context.Context, o Options, n int, selector string) (created, error) {
	o.say("create %d Services with %d clients", n, burst.Clients)
	before, err := c.writes(ctx)
	if err != nil {
		return created{}, err
	}
	b := created{n: n}
	err = c.spent(ctx, o, func() error {
		begun := time.Now()
		addressed := make(chan error, 1)
		go func() { addressed <- burst.WaitAll(ctx, c.kube, "default", prefix, n) }()
		if err := burst.Create(ctx, c.kube, "default", prefix, selector, n); err != nil {
			return err
		}
		b.creation = time.Since(begun)
		err := <-addressed
		b.full = time.Since(begun)
		return err
	})
	if err != nil {
		return created{}, err
	}
	after, err := c.writes(ctx)
	if err != nil {
		return created{}, err
	}
	var kinds []string
	b.writes, kinds = probe.NewWrites(before, after)
	for _, verb := range []string{"PATCH", "PUT"} {
		for _, what := range []string{" services", " services/status"} {
			b.onServices += after[verb+what] - before[verb+what]
		}
	}
	list, _, err := burst.List(ctx, c.kube)
	if err != nil {
		return created{}, err
	}
	if err := burst.Distinct(list); err != nil {
		return created{}, err
	}
	o.say("created in %.2f s (%.0f a second), all addressed after %.2f s; API writes meanwhile, without the creation itself: %.2f for each Service",
		b.creation.Seconds(), float64(n)/b.creation.Seconds(), b.full.Seconds(), b.writes/float64(n)-1)
	o.say("these writes: %s", strings.Join(kinds, ", "))
	return b, nil
}

// allocateMany is the burst of 10,000. No speaker runs, so whoever writes to Services is the controller.
func allocateMany(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, manyLimit)
	defer cancel()
	b, err := c.burst(ctx, o, o.Many, "")
	if err != nil {
		return nil, err
	}
	return []Result{
		{"alloc_10k_create_seconds", b.creation.Seconds(), "s"},
		{"alloc_10k_seconds", b.full.Seconds(), "s"},
		{"alloc_10k_ratio", b.ratio(), "ratio"},
		{"writes_per_service", b.onServices / float64(b.n), "writes"},
	}, nil
}

func memoryMany(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	if err := c.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	mb, err := resident(ctx, c.Lab, programs(o)["controller"])
	return []Result{{"controller_rss_mb_10k", mb, "MB"}}, err
}

// takeover kills the leading controller without warning, creates a Service, and waits until that has an address.
func takeover(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	if len(o.Manifests) > 0 {
		o.say("leader_takeover_ms: only for Herald's own Lease")
		return nil, nil
	}
	lease, err := c.kube.CoordinationV1().Leases(o.Namespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the leader: %w", err)
	}
	leader, err := holder(ctx, c, o, *lease.Spec.HolderIdentity)
	if err != nil {
		return nil, err
	}
	o.say("kill the leader, %s, with %d Services", leader.host, o.Many)
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	begun := time.Now()
	if err := leader.signal(unix.SIGKILL); err != nil {
		return nil, err
	}
	addressed := make(chan error, 1)
	go func() { addressed <- burst.WaitAll(ctx, c.kube, "default", "after", 1) }()
	if err := burst.Create(ctx, c.kube, "default", "after", "", 1); err != nil {
		return nil, err
	}
	if err := <-addressed; err != nil {
		return nil, err
	}
	took := time.Since(begun)
	over := took - time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second
	return []Result{
		{"leader_takeover_ms", milliseconds(took), "ms"},
		{"leader_takeover_over_lease_ms", milliseconds(over), "ms"},
	}, nil
}

// holder finds the process that a Lease names: its identity begins with the host's name.
func holder(ctx context.Context, c *cluster, o Options, identity string) (instance, error) {
	all, err := instances(ctx, c.Lab, programs(o)["controller"])
	if err != nil {
		return instance{}, err
	}
	for _, p := range all {
		if p.host != "" && len(identity) > len(p.host) && identity[:len(p.host)+1] == p.host+"_" {
			return p, nil
		}
	}
	return instance{}, fmt.Errorf("no process of the lab is %s", identity)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
