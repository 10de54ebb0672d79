// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"errors"
	"net/netip"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// buildOthers makes clients and routers, and tells them the ways to each other.
func buildOthers(p plan) error {
	for _, h := range p.outward() {
		build := buildHost
		if h.behind != "" {
			build = func(h host) error { return buildBehind(h, p) }
		}
		if err := build(h); err != nil {
			return err
		}
	}
	for _, r := range p.routers {
		if err := routesBehind(r, p); err != nil {
			return err
		}
	}
	return nil
}

// buildBehind makes a machine whose only cable leads to a router.
func buildBehind(h host, p plan) error {
	if err := wire.Create(h.name); err != nil {
		return err
	}
	ns, router := wire.Path(h.name), wire.Path(h.behind)
	cable := wire.Cable{Near: router, NearName: h.name, Far: ns, FarName: "eth0", FarMAC: h.mac}
	if err := cable.Connect(); err != nil {
		return err
	}
	var gateways []netip.Addr
	for _, ip := range h.ips {
		gateway := netip.PrefixFrom(nth(ip, gatewayHost), ip.Bits())
		gateways = append(gateways, gateway.Addr())
		if err := errors.Join(wire.Address(ns, "eth0", ip), wire.Address(router, h.name, gateway)); err != nil {
			return err
		}
	}
	if err := errors.Join(wire.Up(router, h.name), wire.Up(ns, "eth0")); err != nil {
		return err
	}
	for f, lan := range p.lan {
		// Beside the default route: routing daemons resolve no next hop by way of that one.
		if err := wire.AddRoute(ns, wire.Route{Dst: lan, Via: gateways[f]}); err != nil {
			return err
		}
	}
	return defaultRoutes(ns, gateways)
}

// routesBehind tells a node or router the ways to the hosts that are behind other routers than itself.
func routesBehind(at host, p plan) error {
	for _, h := range p.outward() {
		path := p.path(h)
		next, ok := nextHop(at, path)
		if !ok {
			continue
		}
		for f, ip := range h.ips {
			if err := wire.AddRoute(wire.Path(at.name), wire.Route{Dst: ip.Masked(), Via: next.ips[f].Addr()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextHop returns the router to which at sends what is for a host at the end of a path; none is needed for hosts on the LAN, hosts
// that are behind at itself, and if at is behind something: it has a default route.
func nextHop(at host, path []host) (host, bool) {
	for i, r := range path {
		if r.name == at.name {
			if i+1 < len(path) {
				return path[i+1], true
			}
			return host{}, false
		}
	}
	if len(path) == 0 || at.behind != "" {
		return host{}, false
	}
	return path[0], true
}

// link connects a node and a router by a cable of its own.
func link(node, router string) error {
	// What is left of the cable to a node that was switched off.
	if err := wire.Remove(wire.Path(router), node); err != nil {
		return err
	}
	cable := wire.Cable{Near: wire.Path(router), NearName: node, Far: wire.Path(node), FarName: router}
	if err := cable.Connect(); err != nil {
		return err
	}
	return errors.Join(wire.Up(wire.Path(router), node), wire.Up(wire.Path(node), router))
}
