// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver reads packets with what the kernel says about them. It calls recvmsg itself because unix.Recvmsg allocates an
// address for each packet.
type receiver struct {
	payload [256]byte // the largest control packet has 255 bytes; what is behind does not count
	control [128]byte
	name    [unix.SizeofSockaddrInet6]byte
	iov     unix.Iovec
	header  unix.Msghdr

	// About the packet that was read last:
	from        netip.Addr // without zone
	index       uint32     // of the interface of a link-local sender
	destination netip.Addr
	ttl         uint8 // 0: the kernel did not say
}

// read returns the number of bytes in payload.
func (r *receiver) read(fd int) (int, error) {
	r.iov.Base = &r.payload[0]
	r.iov.SetLen(len(r.payload))
	r.header = unix.Msghdr{Name: &r.name[0], Namelen: uint32(len(r.name)), Iov: &r.iov, Iovlen: 1, Control: &r.control[0]}
	r.header.SetControllen(len(r.control))
	for {
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.header)), unix.MSG_DONTWAIT)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		r.parseName(r.name[:min(int(r.header.Namelen), len(r.name))])
		r.destination, r.ttl = netip.Addr{}, 0
		r.parseControl(r.control[:min(int(r.header.Controllen), len(r.control))])
		return int(n), nil
	}
}

// parseName reads a sockaddr_in or sockaddr_in6.
func (r *receiver) parseName(b []byte) {
	r.from, r.index = netip.Addr{}, 0
	if len(b) < 8 {
		return
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET:
		r.from = netip.AddrFrom4([4]byte(b[4:8]))
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		r.from = netip.AddrFrom16([16]byte(b[8:24]))
		r.index = binary.NativeEndian.Uint32(b[24:])
	}
}

// parseControl reads the control messages that the options of listeners ask for.
func (r *receiver) parseControl(b []byte) {
	for len(b) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_TTL && len(data) >= 4,
			header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			r.ttl = uint8(binary.NativeEndian.Uint32(data))
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			r.destination = netip.AddrFrom4([4]byte(data[8:12])) // behind the index and the local address
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			r.destination = netip.AddrFrom16([16]byte(data[:16]))
		}
		b = rest
	}
}

// source returns the sender, with the name of the interface if it is link-local. An interface on which there is no peer
// has no name here: nobody is known by that.
func (r *receiver) source(zones map[uint32]string) netip.Addr {
	if r.from.Is6() && r.from.IsLinkLocalUnicast() {
		return r.from.WithZone(zones[r.index])
	}
	return r.from
}
