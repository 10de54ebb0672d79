// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
)

// Options say what lab is wanted. The zero value is a lab with three nodes, one client, IPv4 and nftables, with Herald
// installed from this repository's chart. What is really running is a Status, a type of its own.
type Options struct {
	// Name tells labs on one machine apart; default "lab".
	Name string
	// Nodes is the number of nodes, named node1, node2, ...; default 3.
	Nodes int
	// ControlPlaneNode gives node1 the label and the taint of a control-plane node.
	ControlPlaneNode bool
	// ProxyMode is kube-proxy's: nftables (default) or iptables.
	ProxyMode string
	// Families is ipv4 (default), ipv6 or dual.
	Families string
	// Subnet and Subnet6 are the LAN of control plane, nodes, clients and routers; default 192.168.2.0/24 and
	// fd00:2::/64. Addresses: control plane .10, nodes .11 and up, clients .101 and up, routers .200 and up.
	Subnet, Subnet6 netip.Prefix
	// Clients is the number of hosts on the LAN that are not part of the cluster, named client1, client2, ...;
	// default 1. NoClients asks for none.
	Clients   int
	NoClients bool
	// Routers are further hosts on the LAN that run a routing daemon.
	Routers []Router
	// Behind takes clients and routers off the LAN: a name here is connected to the router whose name is its value, and to
	// nothing else. Such a host's network is 10.99.N.0/24 and fd00:99:0:N::/64, where N is what would be the last part of its
	// address on the LAN (in hexadecimal for IPv6): the host has .2, the router .1, on an interface with the host's name. All
	// routers and nodes know the way there.
	Behind map[string]string
	// Links are further cables, each from a node to a router, with nothing but link-local addresses on them. At both ends
	// the interface has the name of the other end.
	Links []Link
	// MonitorGrace is kube-controller-manager's --node-monitor-grace-period, for example "10s"; empty is its default.
	MonitorGrace string
	// Audit makes the API server write each request of the ServiceAccounts of Namespace, with its time, to audit.log among the logs.
	Audit bool

	// NoInstall leaves the cluster without any load balancer.
	NoInstall bool
	// Namespace to install into; default metallb-system. It exists also with NoInstall.
	Namespace string
	// Chart is the directory of the Helm chart; default charts/herald of this repository.
	Chart string
	// ChartValues are Helm's --set arguments.
	ChartValues []string
	// ChartFiles are Helm's --values arguments.
	ChartFiles []string
	// Manifests, if set, are applied instead of the chart: files, or directories with or without kustomization.yaml.
	Manifests []string
	// Images says which program an image name stands for. Registry host and tag do not matter. The defaults are
	// heraldlb/controller and heraldlb/speaker, built to bin/.
	Images map[string]string

	// Keep leaves the lab running when this process ends: Detach is called for it once it is up.
	Keep bool
	// Progress receives one line per step, for people to read; may be nil.
	Progress io.Writer `json:"-"`
	// StateDir is the directory that holds one directory per lab; default $HERALD_LAB_DIR or /run/herald-lab.
	StateDir string
	// Root is the top of the source tree; default: found from the working directory.
	Root string
}

// Router is a host on the LAN that runs a routing daemon with a configuration written by the caller. It is asked with
//
//	lab exec router1 birdc -s /run/lab/routers/router1/bird.ctl show protocols
//	lab exec router1 vtysh -N router1 -c 'show bgp summary'
type Router struct {
	// Name is the host's name; default router1, router2, ... in the order of Options.Routers.
	Name string
	// Daemon is bird or frr.
	Daemon string
	// Config is the text of the daemon's configuration file.
	Config string
}

// Link is a cable of its own between a node and a router.
type Link struct{ Node, Router string }

const (
	defaultName      = "lab"
	defaultNamespace = "metallb-system"
	// More would not fit between the addresses of the nodes (.11) and those of the clients (.101).
	maxNodes   = 80
	maxClients = 20
	maxRouters = 50
)

// The ranges of Pods, Services, and hosts that are behind routers, which the LAN must not overlap.
const (
	PodRange4     = "10.244.0.0/16"
	PodRange6     = "fd00:244::/48"
	ServiceRange4 = "10.96.0.0/16"
	ServiceRange6 = "fd00:96::/112"
	BehindRange4  = "10.99.0.0/16"
	BehindRange6  = "fd00:99::/48"
)

// otherPlace matches the names of the places that are no routers.
var otherPlace = regexp.MustCompile(`^(cp|lan|(node|client)[0-9]+)$`)

var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// WithDefaults returns the options with every default filled in.
func (o Options) WithDefaults() Options {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&o.Name, defaultName)
	set(&o.ProxyMode, "nftables")
	set(&o.Families, "ipv4")
	set(&o.Namespace, defaultNamespace)
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Clients == 0 && !o.NoClients {
		o.Clients = 1
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix("192.168.2.0/24")
	}
	if !o.Subnet6.IsValid() {
		o.Subnet6 = netip.MustParsePrefix("fd00:2::/64")
	}
	o.Subnet, o.Subnet6 = o.Subnet.Masked(), o.Subnet6.Masked()
	routers := make([]Router, len(o.Routers))
	for i, r := range o.Routers {
		set(&r.Name, fmt.Sprintf("router%d", i+1))
		routers[i] = r
	}
	o.Routers = routers
	return o
}

// IPv4 reports whether the lab has IPv4.
func (o Options) IPv4() bool { return o.Families != "ipv6" }

// IPv6 reports whether the lab has IPv6.
func (o Options) IPv6() bool { return o.Families != "ipv4" }

// validate expects options that have their defaults.
func (o Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(namePattern.MatchString(o.Name), "name %q: want up to 32 lower-case letters, digits and dashes", o.Name)
	check(o.Nodes >= 1 && o.Nodes <= maxNodes, "nodes %d: want 1 to %d", o.Nodes, maxNodes)
	check(o.Clients >= 0 && o.Clients <= maxClients, "clients %d: want 0 to %d", o.Clients, maxClients)
	check(o.ProxyMode == "nftables" || o.ProxyMode == "iptables", "proxy mode %q: want nftables or iptables", o.ProxyMode)
	check(o.Families == "ipv4" || o.Families == "ipv6" || o.Families == "dual",
		"families %q: want ipv4, ipv6 or dual", o.Families)
	check(o.Subnet.Addr().Is4() && o.Subnet.Bits() <= 24, "subnet %s: want an IPv4 prefix of /24 or shorter", o.Subnet)
	check(o.Subnet6.Addr().Is6() && o.Subnet6.Bits() <= 64, "subnet %s: want an IPv6 prefix of /64 or shorter", o.Subnet6)
	errs = append(errs, o.overlaps()...)
	for name, path := range o.Images {
		check(name != "" && path != "", "image %q=%q: want NAME=PATH", name, path)
	}
	check(len(o.Routers) <= maxRouters, "routers %d: want up to %d", len(o.Routers), maxRouters)
	taken := map[string]bool{}
	for _, r := range o.Routers {
		check(!taken[r.Name] && !otherPlace.MatchString(r.Name), "router %s: another place has this name", r.Name)
		taken[r.Name] = true
		check(r.Daemon == "bird" || r.Daemon == "frr", "router %s: daemon %q: want bird or frr", r.Name, r.Daemon)
		check(namePattern.MatchString(r.Name) && len(r.Name) <= 15, "router name %q: want up to 15 characters", r.Name)
	}
	errs = append(errs, o.checkCables()...)
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("lab options: %w", errors.Join(errs...))
}

// overlaps finds what addresses the LAN would share with Pods or Services.
func (o Options) overlaps() []error {
	var errs []error
	check := func(lan netip.Prefix, what, used string) {
		if lan.Overlaps(netip.MustParsePrefix(used)) {
			errs = append(errs, fmt.Errorf("subnet %s overlaps %s, the range of the %s", lan, used, what))
		}
	}
	if o.IPv4() {
		check(o.Subnet, "Services", ServiceRange4)
		check(o.Subnet, "Pods", PodRange4)
		check(o.Subnet, "hosts behind routers", BehindRange4)
	}
	if o.IPv6() {
		check(o.Subnet6, "Services", ServiceRange6)
		check(o.Subnet6, "Pods", PodRange6)
		check(o.Subnet6, "hosts behind routers", BehindRange6)
	}
	return errs
}

// ParseRouter reads a NAME=DAEMON:CONFIGFILE argument, and the file.
func ParseRouter(arg string) (Router, error) {
	name, rest, _ := strings.Cut(arg, "=")
	daemon, path, ok := strings.Cut(rest, ":")
	if !ok || name == "" || path == "" || daemon != "bird" && daemon != "frr" {
		return Router{}, fmt.Errorf("router %q: want NAME=bird:CONFIGFILE or NAME=frr:CONFIGFILE, for example tor1=bird:tor1.conf", arg)
	}
	config, err := os.ReadFile(path)
	if err != nil {
		return Router{}, fmt.Errorf("router %s: %w", name, err)
	}
	return Router{Name: name, Daemon: daemon, Config: string(config)}, nil
}

// ParseImage reads a NAME=PATH argument.
func ParseImage(arg string) (name, path string, err error) {
	name, path, ok := strings.Cut(arg, "=")
	if !ok || name == "" || path == "" {
		return "", "", fmt.Errorf("image %q: want NAME=PATH, for example heraldlb/speaker=bin/speaker", arg)
	}
	return name, path, nil
}
