// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// addressPool hands out Pod addresses of one node, the same number in each family. A freed number comes round last.
type addressPool struct {
	mu     sync.Mutex // guards used and next
	ranges []netip.Prefix
	used   map[int]bool
	next   int
}

const firstPodNumber, lastPodNumber = 2, 250

func newAddressPool(ranges []netip.Prefix) *addressPool {
	return &addressPool{ranges: ranges, used: map[int]bool{}, next: firstPodNumber}
}

func (p *addressPool) take() (int, []netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastPodNumber - firstPodNumber + 1 {
		n := p.next
		if p.next++; p.next > lastPodNumber {
			p.next = firstPodNumber
		}
		if p.used[n] {
			continue
		}
		p.used[n] = true
		var ips []netip.Addr
		for _, r := range p.ranges {
			ips = append(ips, nth(r, n))
		}
		return n, ips, nil
	}
	return 0, nil, errors.New("no Pod address is free on this node")
}

func (p *addressPool) free(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, n)
}

func nth(p netip.Prefix, n int) netip.Addr {
	sum := new(big.Int).Add(new(big.Int).SetBytes(p.Masked().Addr().AsSlice()), big.NewInt(int64(n)))
	a, ok := netip.AddrFromSlice(sum.FillBytes(make([]byte, p.Addr().BitLen()/8)))
	if !ok {
		panic("agent: address arithmetic")
	}
	return a
}

// podNetwork is the network side of a Pod.
type podNetwork struct {
	netns  string // file of the namespace
	ips    []netip.Addr
	number int
	name   string // of the namespace and, shortened, of the node's end of the cable; empty on the node's network
}

// connect gives the Pod its network. A Pod of its own has one cable to its node and routes everything through it, so
// that no two Pods share a link and the node's connection tracking sees all traffic.
func (a *Agent) connect(pod *corev1.Pod) (*podNetwork, error) {
	if pod.Spec.HostNetwork {
		return &podNetwork{netns: wire.Here, ips: a.cfg.IPs}, nil
	}
	number, ips, err := a.ips.take()
	if err != nil {
		return nil, err
	}
	n := &podNetwork{netns: wire.Path("pod-" + string(pod.UID)), ips: ips, number: number, name: "pod-" + string(pod.UID)}
	if err := n.build(); err != nil {
		a.disconnect(n)
		return nil, fmt.Errorf("pod network: %w", err)
	}
	return n, nil
}

func (a *Agent) disconnect(n *podNetwork) {
	if n == nil || n.name == "" {
		return
	}
	if err := errors.Join(wire.Remove(wire.Here, n.port()), wire.Delete(n.name)); err != nil {
		a.log.Warn("remove pod network", "err", err)
	}
	a.ips.free(n.number)
}

// port is the name of the node's end; it begins like those of the usual network plugins.
func (n *podNetwork) port() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.name))
	return fmt.Sprintf("veth%08x", h.Sum32())
}

func (n *podNetwork) build() error {
	if err := wire.Create(n.name); err != nil {
		return err
	}
	nodeMAC := net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	podMAC := net.HardwareAddr{0x02, 'P', 'O', 'D', 0, byte(n.number)}
	cable := wire.Cable{
		Near: wire.Here, NearName: n.port(), NearMAC: nodeMAC, Far: n.netns, FarName: "eth0", FarMAC: podMAC,
	}
	if err := cable.Connect(); err != nil {
		return err
	}
	// Any user may listen on any port, as with current container runtimes.
	err := wire.Sysctl(n.netns, "ipv4.ip_unprivileged_port_start=0", "ipv4.ping_group_range=0 2147483647")
	if err != nil {
		return err
	}
	for _, ip := range n.ips {
		if err := wire.Address(n.netns, "eth0", netip.PrefixFrom(ip, ip.BitLen())); err != nil {
			return err
		}
	}
	if err := errors.Join(wire.Up(wire.Here, n.port()), wire.Up(n.netns, "eth0")); err != nil {
		return err
	}
	for _, ip := range n.ips {
		if err := n.routes(ip, nodeMAC, podMAC); err != nil {
			return err
		}
	}
	return nil
}

// routes joins both ends. Neither asks for the other's hardware address: both are known.
func (n *podNetwork) routes(ip netip.Addr, nodeMAC, podMAC net.HardwareAddr) error {
	gateway, everything := netip.MustParseAddr("169.254.1.1"), netip.MustParsePrefix("0.0.0.0/0")
	if ip.Is6() {
		gateway, everything = netip.MustParseAddr("fe80::1"), netip.MustParsePrefix("::/0")
	}
	if err := wire.Neighbour(n.netns, "eth0", gateway, nodeMAC); err != nil {
		return err
	}
	if err := wire.AddRoute(n.netns, wire.Route{Dst: everything, Via: gateway, Dev: "eth0", OnLink: true}); err != nil {
		return err
	}
	if err := wire.AddRoute(wire.Here, wire.Route{Dst: netip.PrefixFrom(ip, ip.BitLen()), Dev: n.port()}); err != nil {
		return err
	}
	return wire.Neighbour(wire.Here, n.port(), ip, podMAC)
}
