// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A host whose speaker has died says so: its kernel answers a datagram to a
// port that nobody listens on with an ICMP error (RFC 1122 section 4.1.3.1). The
// kernel here hands it over with IP_RECVERR, together with the destination of
// the datagram, in a queue of its own (ip(7)).

// wantRefusals asks the kernel for these errors. Without them all works, slower.
func wantRefusals(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { wantRefusalsOf(int(fd)) })
}

func wantRefusalsOf(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
}

// refusals empties the queue of errors and returns the destinations at whose
// host nobody listens.
func refusals(c *net.UDPConn) []netip.AddrPort {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	_ = raw.Control(func(fd uintptr) { out = refusalsOf(int(fd)) })
	return out
}

func refusalsOf(fd int) []netip.AddrPort {
	var out []netip.AddrPort
	var data [1]byte
	var control [512]byte
	for range 64 { // so that nobody can keep this busy
		_, n, _, to, err := unix.Recvmsg(fd, data[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if addr := addrPortOf(to); addr.IsValid() && refused(control[:n]) {
			out = append(out, addr)
		}
	}
	return out
}

// refused reports whether the control messages hold an ICMP error that says that
// nobody listens.
func refused(control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		// The data is a struct sock_extended_err: errno, then origin, ...
		if !v4 && !v6 || len(m.Data) < 16 {
			continue
		}
		origin := m.Data[4]
		errno := unix.Errno(binary.NativeEndian.Uint32(m.Data))
		if errno == unix.ECONNREFUSED && (origin == unix.SO_EE_ORIGIN_ICMP || origin == unix.SO_EE_ORIGIN_ICMP6) {
			return true
		}
	}
	return false
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
