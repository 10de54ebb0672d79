// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
)

// Ports of RFC 5881 section 4 and RFC 5883 section 5.
const (
	portControl  = 3784
	portMultihop = 4784

	firstSource = 49152 // up to 65535
)

const (
	ttl          = 255  // RFC 5881 section 5
	trafficClass = 0xc0 // CS6, network control
)

// listenerKey names a socket that receives.
type listenerKey struct {
	port   int
	v6     bool
	device string
}

func (k listenerKey) compare(o listenerKey) int {
	six := func(k listenerKey) int {
		if k.v6 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(k.port, o.port), cmp.Compare(six(k), six(o)), strings.Compare(k.device, o.device))
}

func listenerOf(key bfd.Key) listenerKey {
	k := listenerKey{portControl, key.Peer.Is6(), key.Device}
	if key.Multihop {
		k.port = portMultihop
	}
	return k
}

// listener receives the packets of many sessions.
type listener struct {
	key listenerKey
	fd  int
}

// receiveBuffer holds some 1,000 packets: those of 300 sessions at 100 ms for 300 ms.
const receiveBuffer = 1 << 20

func openListener(key listenerKey, shared bool) (*listener, error) {
	fd, err := openSocket(key.v6, key.device)
	if err != nil {
		return nil, err
	}
	l := &listener{key, fd}
	var options []error
	set := func(level, option, value int) {
		options = append(options, unix.SetsockoptInt(fd, level, option, value))
	}
	if key.v6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	} else {
		set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		set(unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // wants CAP_NET_ADMIN
		set(unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // as much of it as net.core.rmem_max allows
	}
	if shared {
		options = append(options, l.share(true))
	}
	err = errors.Join(options...)
	if err == nil {
		err = unix.Bind(fd, socketAddress(anyAddress(key.v6), key.port, 0))
	}
	if shared {
		err = errors.Join(err, l.share(false))
	}
	if err != nil {
		l.close()
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("listen on UDP port %d: %w: does another BFD program run on this node?", key.port, err)
		}
		return nil, fmt.Errorf("listen on UDP port %d: %w", key.port, err)
	}
	return l, nil
}

// share lets other sockets have the same port.
func (l *listener) share(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, value)
}

func (l *listener) close() { _ = unix.Close(l.fd) } // nothing is lost with it

// sender sends the packets of one session.
type sender struct {
	fd   int
	zone uint32 // index of the interface of a link-local peer
}

func openSender(key bfd.Key) (*sender, error) {
	s := &sender{}
	if zone := key.Peer.Zone(); zone != "" {
		ifi, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("find interface %s: %w", zone, err)
		}
		s.zone = uint32(ifi.Index)
	}
	var err error
	if s.fd, err = openSocket(key.Peer.Is6(), key.Device); err != nil {
		return nil, err
	}
	err = s.connect(key)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sender) connect(key bfd.Key) error {
	v6 := key.Peer.Is6()
	set := func(level, option, value int) error { return unix.SetsockoptInt(s.fd, level, option, value) }
	options := []error{set(unix.SOL_SOCKET, unix.SO_RCVBUF, 1)} // nobody should send anything here, and nobody reads it
	if v6 {
		options = append(options,
			set(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl), set(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass))
	} else {
		options = append(options, set(unix.IPPROTO_IP, unix.IP_TTL, ttl), set(unix.IPPROTO_IP, unix.IP_TOS, trafficClass))
	}
	if err := errors.Join(options...); err != nil {
		return fmt.Errorf("set up a socket: %w", err)
	}
	from := anyAddress(v6)
	if key.Source.IsValid() {
		from = key.Source
	}
	if err := s.bind(from); err != nil {
		return err
	}
	port := portControl
	if key.Multihop {
		port = portMultihop
	}
	if err := unix.Connect(s.fd, socketAddress(key.Peer, port, s.zone)); err != nil {
		return fmt.Errorf("find a way to %v: %w", key.Peer, err)
	}
	return nil
}

// bind takes a free source port.
func (s *sender) bind(from netip.Addr) error {
	var err error
	for range 100 {
		port := firstSource + rand.IntN(1<<16-firstSource)
		err = unix.Bind(s.fd, socketAddress(from, port, s.zone))
		if err != unix.EADDRINUSE {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("use source address %v: %w", from, err)
	}
	return nil
}

func (s *sender) close() { _ = unix.Close(s.fd) }

func openSocket(v6 bool, device string) (int, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	if v6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && device != "" {
		if err = unix.BindToDevice(fd, device); err != nil {
			err = fmt.Errorf("use device %s: %w", device, err)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set up a socket: %w", err)
	}
	return fd, nil
}

// socketAddress is for the kernel. The zone matters only for link-local addresses.
func socketAddress(addr netip.Addr, port int, zone uint32) unix.Sockaddr {
	if addr.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	sa := &unix.SockaddrInet6{Port: port, Addr: addr.As16()}
	if addr.IsLinkLocalUnicast() {
		sa.ZoneId = zone
	}
	return sa
}
