// SPDX-License-Identifier: Apache-2.0

// Command speaker runs on every node and makes the network send the traffic of
// external addresses to the node that owns them.
package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/cmd/internal/program"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/timeslice"
	"github.com/heraldlb/herald/internal/kube"
	"github.com/heraldlb/herald/speaker"
)

// version is set at build time.
var version = "dev"

const long = `The speaker runs once on every node. The speakers of a cluster find each other with
memberlist, agree on one owner for each external address, and the owner answers ARP
and NDP for it. With BGP, each of them announces routes to the routers that a BGPPeer
names. It needs CAP_NET_RAW (for --arp-offload also CAP_BPF and CAP_NET_ADMIN) and the node's network namespace.

Every flag that names an environment variable takes its default from there; the
chart sets them from the Pod (downward API).`

func main() {
	if os.Getenv("GOGC") == "" {
		// Mostly idle with a small heap, and on every node: collecting twice as
		// often costs no CPU time that can be measured, and saves a sixth of
		// the heap (docs/decisions/0005).
		debug.SetGCPercent(50)
	}
	os.Exit(program.Run(context.Background(), command()))
}

func command() *cobra.Command {
	var o speaker.Options
	cmd := program.Daemon(&cobra.Command{
		Use:     "speaker",
		Short:   "Announce external addresses of Services from this node",
		Long:    long,
		Version: version,
	}, func(log *slog.Logger) { kube.RouteLogs(log) }, func(ctx context.Context, cfg *rest.Config, log *slog.Logger) error {
		wakeUpSoon(log)
		return speaker.Run(ctx, cfg, o, log)
	})
	f := cmd.Flags()
	f.StringVar(&o.Namespace, "namespace", os.Getenv("METALLB_NAMESPACE"), "namespace of Herald and of its configuration objects [METALLB_NAMESPACE]")
	f.StringVar(&o.NodeName, "node-name", os.Getenv("METALLB_NODE_NAME"), "name of the node this speaker runs on [METALLB_NODE_NAME]")
	f.StringVar(&o.PodName, "pod-name", os.Getenv("METALLB_POD_NAME"), "name of the Pod this speaker runs in; it will own the status objects [METALLB_POD_NAME]")
	f.StringVar(&o.LBClass, "lb-class", "", "serve only Services with this spec.loadBalancerClass (default: only Services without one)")
	f.BoolVar(&o.IgnoreExcludeLB, "ignore-exclude-lb", false, "announce also from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers")
	f.IntVar(&o.Port, "port", 9120, "port of /metrics and /debug/plan; 0 turns it off")
	f.IntVar(&o.HealthProbePort, "health-probe-port", 17472, "port of /healthz and /readyz; 0 turns it off")
	f.StringVar(&o.PprofBindAddress, "pprof-bind-address", "", "address of net/http/pprof, for example 127.0.0.1:6060 (default: off)")
	f.StringVar(&o.GossipBindAddr, "ml-bindaddr", os.Getenv("METALLB_ML_BIND_ADDR"), "address to gossip on; the other speakers must reach it [METALLB_ML_BIND_ADDR]")
	f.IntVar(&o.GossipBindPort, "ml-bindport", envPort("METALLB_ML_BIND_PORT", gossip.DefaultPort), "TCP and UDP port to gossip on, the same on all nodes [METALLB_ML_BIND_PORT]")
	f.StringVar(&o.GossipLabels, "ml-labels", os.Getenv("METALLB_ML_LABELS"), "label selector of the speaker Pods (default: none, this speaker is alone) [METALLB_ML_LABELS]")
	f.StringVar(&o.GossipSecretPath, "ml-secret-key-path", os.Getenv("METALLB_ML_SECRET_KEY_PATH"), "directory of the mounted memberlist Secret [METALLB_ML_SECRET_KEY_PATH]")
	times := l2.DefaultConfig()
	f.DurationVar(&o.L2Probe, "l2-probe", times.Probe, "how long to find out whether somebody else has an address that is new to the cluster, before it is announced; 0 turns it off")
	f.DurationVar(&o.L2ProbeAgain, "l2-probe-again", times.ProbeAgain, "longest time until an address that somebody else has is probed again")
	f.DurationVar(&o.L2Refresh, "l2-refresh", times.Refresh, "interval at which each address is announced again; 0 turns it off")
	f.DurationVar(&o.L2BalanceInterval, "l2-balance-interval", 0, "how often, at most, an address is moved to a node that answers for fewer; 0: never")
	f.BoolVar(&o.ARPOffload, "arp-offload", false, "make the kernel answer ARP requests; needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN, without which the speaker answers itself")
	f.StringVar(&o.ExclusionsFile, "excludel2-config", "", "file with patterns of interfaces that never answer (default: those of container networks)")
	f.DurationVar(&o.BGPAnnounceDelay, "bgp-announce-delay", 25*time.Millisecond, "how long a new route is held back so that kube-proxy can serve it first (with externalTrafficPolicy Local also until its health check node port says so); 0 turns it off")
	f.DurationVar(&o.BGPDrainWait, "bgp-drain-wait", 2*time.Second, "when the speaker ends, how long routers get to prefer other nodes before the routes are withdrawn")
	return cmd
}

// wakeUpSoon makes heartbeats and answers come in time on a node whose processors are busy (docs/decisions/0010).
func wakeUpSoon(log *slog.Logger) {
	switch granted, err := timeslice.Shorten(); {
	case err != nil:
		log.Warn("no short time slices: on a busy node, answers and heartbeats may be late", "error", err)
	case !granted:
		log.Debug("this kernel has no short time slices (Linux 6.12 has)")
	}
}

// envPort reads a port from the environment; one that cannot be read is
// reported like a wrong flag, by Options.Validate.
func envPort(name string, fallback int) int {
	v, ok := os.LookupEnv(name)
	if !ok {
		return fallback
	}
	port, err := strconv.Atoi(v)
	if err != nil {
		return -1
	}
	return port
}
