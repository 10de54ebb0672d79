// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/e2etest/lab"
)

// The last part of a machine's address on the LAN. Between the last node and the first client lies room for the
// pools of the examples. .1 is every machine's default gateway and does not exist.
const (
	gatewayHost = 1
	cpHost      = 10
	firstNode   = 11
	firstClient = 101
	firstRouter = 200
	behindHost  = 2 // and its router 1, on the network between the two
)

// host is one machine.
type host struct {
	name   string
	ips    []netip.Prefix // on the LAN, or on the network behind its router; with the length
	mac    net.HardwareAddr
	pods   []netip.Prefix // nodes only
	behind string         // the router that it is behind; empty: it is on the LAN
	links  []string       // nodes only: the routers with a cable of its own
}

// plan is everything that follows from the options alone. In each list of families IPv4 comes first.
type plan struct {
	lan, pods, services []netip.Prefix
	gateways            []netip.Addr
	cp                  host
	nodes, clients      []host
	routers             []host
}

func newPlan(o lab.Options) plan {
	var p plan
	if o.IPv4() {
		p.lan = append(p.lan, o.Subnet)
		p.pods = append(p.pods, netip.MustParsePrefix(lab.PodRange4))
		p.services = append(p.services, netip.MustParsePrefix(lab.ServiceRange4))
	}
	if o.IPv6() {
		p.lan = append(p.lan, o.Subnet6)
		p.pods = append(p.pods, netip.MustParsePrefix(lab.PodRange6))
		p.services = append(p.services, netip.MustParsePrefix(lab.ServiceRange6))
	}
	for _, lan := range p.lan {
		p.gateways = append(p.gateways, nth(lan, gatewayHost))
	}
	p.cp = p.host("cp", cpHost)
	for i := range o.Nodes {
		n := p.host(fmt.Sprintf("node%d", i+1), firstNode+i)
		for _, pods := range p.pods {
			n.pods = append(n.pods, podPrefix(pods, i+1))
		}
		for _, l := range o.Links {
			if l.Node == n.name {
				n.links = append(n.links, l.Router)
			}
		}
		p.nodes = append(p.nodes, n)
	}
	for i := range o.Clients {
		p.clients = append(p.clients, p.placed(fmt.Sprintf("client%d", i+1), firstClient+i, o.Behind))
	}
	for i, r := range o.Routers {
		p.routers = append(p.routers, p.placed(r.Name, firstRouter+i, o.Behind))
	}
	return p
}

func (p plan) host(name string, n int) host {
	h := host{name: name, mac: net.HardwareAddr{0x02, 'L', 'A', 'B', byte(n >> 8), byte(n)}}
	for _, lan := range p.lan {
		h.ips = append(h.ips, netip.PrefixFrom(nth(lan, n), lan.Bits()))
	}
	return h
}

// placed returns a host on the LAN or behind a router.
func (p plan) placed(name string, n int, behind map[string]string) host {
	h := p.host(name, n)
	h.behind = behind[name]
	if h.behind == "" {
		return h
	}
	for f, lan := range p.lan {
		all := lab.BehindRange4
		if lan.Addr().Is6() {
			all = lab.BehindRange6
		}
		network := podPrefix(netip.MustParsePrefix(all), n)
		h.ips[f] = netip.PrefixFrom(nth(network, behindHost), network.Bits())
	}
	return h
}

// router returns the one of that name; there is one, or the options were not valid.
func (p plan) router(name string) host {
	i := slices.IndexFunc(p.routers, func(h host) bool { return h.name == name })
	return p.routers[i]
}

// outward lists clients and routers, each after the router that it is behind.
func (p plan) outward() []host {
	var out []host
	for depth := 0; len(out) < len(p.clients)+len(p.routers); depth++ {
		for _, h := range slices.Concat(p.clients, p.routers) {
			if len(p.path(h)) == depth {
				out = append(out, h)
			}
		}
	}
	return out
}

// path lists the routers from the LAN to a host; it is empty for a host on the LAN.
func (p plan) path(h host) []host {
	var out []host
	for h.behind != "" {
		h = p.router(h.behind)
		out = append(out, h)
	}
	slices.Reverse(out)
	return out
}

// apiServer is the address at which the API server is known on the LAN.
func (p plan) apiServer() string {
	return netip.AddrPortFrom(p.cp.ips[0].Addr(), 6443).String()
}

// kubernetesService is the first address of each Service range: the API server as Pods know it.
func (p plan) kubernetesService() []netip.Addr {
	var out []netip.Addr
	for _, s := range p.services {
		out = append(out, nth(s, 1))
	}
	return out
}

// podPrefix is the n-th node's part of the Pods' range: a /24, or a /64.
func podPrefix(pods netip.Prefix, n int) netip.Prefix {
	bits := 24
	if pods.Addr().Is6() {
		bits = 64
	}
	shifted := new(big.Int).Lsh(big.NewInt(int64(n)), uint(pods.Addr().BitLen()-bits))
	return netip.PrefixFrom(add(pods.Addr(), shifted), bits)
}

func nth(p netip.Prefix, n int) netip.Addr { return add(p.Masked().Addr(), big.NewInt(int64(n))) }

func add(a netip.Addr, n *big.Int) netip.Addr {
	sum := new(big.Int).Add(new(big.Int).SetBytes(a.AsSlice()), n)
	out, ok := netip.AddrFromSlice(sum.FillBytes(make([]byte, a.BitLen()/8)))
	if !ok {
		panic("supervisor: address arithmetic")
	}
	return out
}

func addrs(prefixes []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.Addr()
	}
	return out
}

func join[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return strings.Join(out, ",")
}
