// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// knock asks for the MAC address of a host, by an ARP request (RFC 826) of our
// own. The kernel asks for a host that does not answer once a second only
// (retrans_time_ms in arp(7)), and meanwhile sends it nothing: without this, it
// would take up to a second after the end of a partition until two hosts hear
// each other. The question makes the other kernel learn our address, its answer
// makes ours learn the other's.
//
// IPv6 is left to the kernel. So are hosts behind a router, and all of them where
// this program may not open packet sockets.
func knock(to netip.Addr) {
	if !to.Is4() {
		return
	}
	ifi, own, ok := linkTo(to)
	if !ok {
		return
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // 0: it receives nothing
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	frame := binary.BigEndian.AppendUint16(nil, 1)       // Ethernet
	frame = binary.BigEndian.AppendUint16(frame, 0x0800) // IPv4
	frame = append(frame, 6, 4, 0, 1)                    // sizes, request
	frame = append(append(frame, ifi.HardwareAddr...), own.AsSlice()...)
	frame = append(append(frame, make([]byte, 6)...), to.AsSlice()...)
	all := &unix.SockaddrLinklayer{Ifindex: ifi.Index, Protocol: 0x0608 /* ETH_P_ARP, swapped */, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	_ = unix.Sendto(fd, frame, unix.MSG_DONTWAIT, all)
}

// linkTo finds the link on whose network a host is, and our address there.
func linkTo(to netip.Addr) (net.Interface, netip.Addr, bool) {
	links, err := net.Interfaces()
	if err != nil {
		return net.Interface{}, netip.Addr{}, false
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil || len(l.HardwareAddr) != 6 || l.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Contains(to) && p.Addr() != to {
				return l, p.Addr(), true
			}
		}
	}
	return net.Interface{}, netip.Addr{}, false
}
