// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/core/l2"
)

// Options are the settings of a speaker. cmd/speaker fills them from flags.
type Options struct {
	// Namespace is Herald's own namespace: where its configuration objects,
	// its speaker Pods and its status objects live. Required.
	Namespace string
	// NodeName is the node this speaker runs on. Required.
	NodeName string
	// PodName is the Pod this speaker runs in; it owns the status objects, so
	// that they go when the Pod goes. Empty: they have no owner.
	PodName string

	// LBClass limits the speaker to Services of this loadBalancerClass; empty
	// means Services without one.
	LBClass string
	// IgnoreExcludeLB lets nodes announce that carry the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	IgnoreExcludeLB bool

	// Port serves /metrics and /debug/plan; 0 turns it off.
	Port int
	// HealthProbePort serves /healthz and /readyz; 0 turns it off.
	HealthProbePort int
	// PprofBindAddress serves net/http/pprof; empty turns it off.
	PprofBindAddress string

	// GossipBindAddr and GossipBindPort are where memberlist listens. The
	// other speakers must reach the same port. Required.
	GossipBindAddr string
	GossipBindPort int
	// GossipLabels selects the speaker Pods to gossip with. Empty means that
	// this speaker is alone.
	GossipLabels string
	// GossipSecretPath is the directory of the mounted Secret whose key
	// "secretkey" encrypts gossip. Required.
	GossipSecretPath string

	// L2Probe is how long an address that is new to the cluster is probed before
	// it is announced; 0 turns probing off. L2ProbeAgain is the longest time
	// until one that somebody else has is probed again.
	L2Probe, L2ProbeAgain time.Duration
	// L2Refresh is the interval at which each address is announced again; 0
	// turns that off.
	L2Refresh time.Duration
	// ARPOffload makes the kernel answer ARP requests, where it can. It takes CAP_BPF and CAP_NET_ADMIN.
	ARPOffload bool

	// L2BalanceInterval is how often, at most, an address is moved from a node
	// that answers for more to one that answers for fewer; 0: never.
	L2BalanceInterval time.Duration

	// BGPAnnounceDelay is how long a route is held back after its endpoint was
	// seen, so that kube-proxy can serve it. BGPDrainWait is how long routers
	// get to prefer other nodes before the routes of a speaker that ends are
	// withdrawn.
	BGPAnnounceDelay, BGPDrainWait time.Duration

	// ExclusionsFile lists interfaces that never answer; see loadExclusions.
	ExclusionsFile string
}

const (
	maxProbe   = 10 * time.Second // RFC 5227 takes 5 to 7
	minRefresh = 5 * time.Second
	minBalance = time.Second

	maxAnnounceDelay = time.Minute
	maxDrainWait     = 20 * time.Second // within the grace period of the Pod
)

// l2Config are the times of ARP and NDP.
func (o *Options) l2Config() l2.Config {
	c := l2.DefaultConfig()
	c.Probe, c.ProbeAgain, c.Refresh = o.L2Probe, o.L2ProbeAgain, o.L2Refresh
	return c
}

// secretKeyName is the key inside the memberlist Secret, as MetalLB names it.
const secretKeyName = "secretkey"

// Validate names every setting that cannot work.
func (o *Options) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(o.Namespace != "", "--namespace is required (in a Pod: set METALLB_NAMESPACE by the downward API)")
	require(o.NodeName != "", "--node-name is required (in a Pod: set METALLB_NODE_NAME by the downward API)")
	_, err := netip.ParseAddr(o.GossipBindAddr)
	require(err == nil, "--ml-bindaddr %q is not an IP address (in a Pod: set METALLB_ML_BIND_ADDR to status.podIP)", o.GossipBindAddr)
	require(o.GossipBindPort > 0 && o.GossipBindPort < 65536, "--ml-bindport %d is not a port number", o.GossipBindPort)
	require(o.GossipSecretPath != "", "--ml-secret-key-path is required: gossip is always encrypted (mount the memberlist Secret there)")
	require(o.L2Probe >= 0 && o.L2Probe <= maxProbe, "--l2-probe %v is not between 0 (off) and %v", o.L2Probe, maxProbe)
	require(o.L2ProbeAgain >= 0, "--l2-probe-again %v is negative", o.L2ProbeAgain)
	require(o.L2Refresh == 0 || o.L2Refresh >= minRefresh, "--l2-refresh %v is neither 0 (off) nor at least %v", o.L2Refresh, minRefresh)
	require(o.L2BalanceInterval == 0 || o.L2BalanceInterval >= minBalance, "--l2-balance-interval %s: want 0, or at least %s", o.L2BalanceInterval, minBalance)
	if _, err := labels.Parse(o.GossipLabels); err != nil {
		errs = append(errs, fmt.Errorf("--ml-labels %q: %w", o.GossipLabels, err))
	}
	require(o.BGPDrainWait >= 0 && o.BGPDrainWait <= maxDrainWait, "--bgp-drain-wait %s: want 0 to %s, which is within the grace period of the Pod", o.BGPDrainWait, maxDrainWait)
	require(o.BGPAnnounceDelay >= 0 && o.BGPAnnounceDelay <= maxAnnounceDelay, "--bgp-announce-delay %v is not between 0 and %v", o.BGPAnnounceDelay, maxAnnounceDelay)
	return errors.Join(errs...)
}

// gossipKey reads the key of the gossip. The error never holds the key.
func (o *Options) gossipKey() ([]byte, error) {
	path := filepath.Join(o.GossipSecretPath, secretKeyName)
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the gossip key: %w (the controller creates the Secret; is it mounted at --ml-secret-key-path?)", err)
	}
	if len(key) == 0 {
		return nil, fmt.Errorf("the gossip key in %s is empty: delete the Secret, the controller makes a new one", path)
	}
	return key, nil
}
