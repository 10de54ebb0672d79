// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// lanName is the bridge's name, and that of the namespace it is in.
const lanName = "lan"

// buildLAN makes the switch. It lives in the supervisor's own namespace, which gets a name so that commands can be run there.
func buildLAN() error {
	if err := os.MkdirAll(wire.Dir, 0o755); err != nil {
		return err
	}
	file := wire.Path(lanName)
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/ns/net", file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("name the LAN's namespace: %w", err)
	}
	if err := wire.Up(wire.Here, "lo"); err != nil {
		return err
	}
	// The switch itself is no host: without addresses it sends nothing of its own. The bridge module, if the machine
	// has loaded its packet filter, must not filter either.
	err := wire.Sysctl(wire.Here, "-ipv6.conf.all.disable_ipv6=1", "-ipv6.conf.default.disable_ipv6=1",
		"-bridge.bridge-nf-call-iptables=0", "-bridge.bridge-nf-call-ip6tables=0", "-bridge.bridge-nf-call-arptables=0")
	if err != nil {
		return err
	}
	return wire.Bridge(wire.Here, lanName)
}

// buildHost makes a machine on the LAN with eth0.
func buildHost(h host) error {
	if err := wire.Create(h.name); err != nil {
		return err
	}
	ns := wire.Path(h.name)
	cable := wire.Cable{Near: wire.Here, NearName: h.name, Far: ns, FarName: "eth0", FarMAC: h.mac}
	if err := cable.Connect(); err != nil {
		return err
	}
	if err := wire.Attach(wire.Here, h.name, lanName); err != nil {
		return err
	}
	for _, ip := range h.ips {
		if err := wire.Address(ns, "eth0", ip); err != nil {
			return err
		}
	}
	if err := wire.Up(wire.Here, h.name); err != nil {
		return err
	}
	return wire.Up(ns, "eth0")
}

// buildNode makes a node's machine: it forwards, and knows the way to the Pods of all others.
func buildNode(h host, p plan) error {
	if err := buildHost(h); err != nil {
		return err
	}
	ns := wire.Path(h.name)
	// Loose reverse path filtering, as distributions set it; everything about ARP as the kernel has it.
	err := wire.Sysctl(ns, "ipv4.ip_forward=1", "ipv4.conf.all.rp_filter=2", "ipv4.conf.default.rp_filter=2",
		"-ipv6.conf.all.forwarding=1", "-ipv6.conf.default.forwarding=1",
		"-ipv4.ip_local_port_range=32768 60999")
	if err != nil {
		return err
	}
	if err := routesBehind(h, p); err != nil {
		return err
	}
	for _, other := range p.nodes {
		if other.name == h.name {
			continue
		}
		for f, pods := range other.pods {
			if err := wire.AddRoute(ns, wire.Route{Dst: pods, Via: other.ips[f].Addr()}); err != nil {
				return err
			}
		}
	}
	for _, router := range h.links {
		if err := link(h.name, router); err != nil {
			return err
		}
	}
	// Without any default route a process on the node could not even begin to talk to a Service's address.
	return defaultRoutes(ns, p.gateways)
}

func defaultRoutes(ns string, gateways []netip.Addr) error {
	for _, gw := range gateways {
		everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := wire.AddRoute(ns, wire.Route{Dst: everything, Via: gw}); err != nil {
			return err
		}
	}
	return nil
}

// buildControlPlane makes the control plane's machine. It knows the way to Pods and Services of the nodes, as it would
// on a node: the API server calls webhooks and aggregated APIs.
func buildControlPlane(p plan) error {
	if err := buildHost(p.cp); err != nil {
		return err
	}
	for _, n := range p.nodes {
		for f, pods := range n.pods {
			if err := wire.AddRoute(wire.Path(p.cp.name), wire.Route{Dst: pods, Via: n.ips[f].Addr()}); err != nil {
				return err
			}
		}
	}
	return nil
}
