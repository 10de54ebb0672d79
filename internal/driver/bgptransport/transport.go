// SPDX-License-Identifier: Apache-2.0

// Package bgptransport makes the TCP connections of BGP sessions, and cuts what
// comes over them into messages.
//
// The node always dials; it listens on no port. What a router sends in UPDATEs
// is dropped here, unread: Herald installs no routes, so a full table, or a
// malformed one, costs nothing but the copying by the kernel.
package bgptransport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// Config says how a Transport works.
type Config struct {
	Logger *slog.Logger
}

// Transport connects to routers.
type Transport struct {
	log *slog.Logger
}

// New returns a Transport.
func New(cfg Config) *Transport {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Transport{log: cfg.Logger}
}

// Dial connects to a router. It returns when ctx is done, at the latest. The
// error says in words what is wrong.
func (t *Transport) Dial(ctx context.Context, e bgp.Endpoint) (*Conn, error) {
	address := e.Address
	var f *finder
	if !address.IsValid() {
		var err error
		if f, err = t.find(ctx, e.Interface); err != nil {
			return nil, err
		}
		address = f.router
	}
	conn, err := dial(ctx, e, address)
	if err != nil {
		f.close()
		return nil, describe(err, e, address)
	}
	c, err := newConn(conn)
	if err != nil {
		f.close()
		return nil, errors.Join(err, conn.Close())
	}
	c.finder = f
	return c, nil
}

func dial(ctx context.Context, e bgp.Endpoint, address netip.Addr) (*net.TCPConn, error) {
	d := net.Dialer{KeepAlive: -1} // BGP has its own
	d.SetMultipathTCP(false)       // TCP-MD5 does not go with it
	if e.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(zoned(e.Source, address.Zone()), 0))
	}
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		var err error
		if outer := raw.Control(func(fd uintptr) { err = configure(int(fd), e, address) }); outer != nil {
			return outer
		}
		return err
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address.String(), strconv.Itoa(int(e.Port))))
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// zoned gives a link-local source address the zone of the router's.
func zoned(a netip.Addr, zone string) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" {
		return a.WithZone(zone)
	}
	return a
}

// optionError is a socket option that could not be set.
type optionError struct {
	what string
	err  error
}

func (e *optionError) Error() string { return e.what + ": " + e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

// configure sets the options of the socket before it connects.
func configure(fd int, e bgp.Endpoint, address netip.Addr) error {
	set := func(what string, err error) error {
		if err != nil {
			return &optionError{what, err}
		}
		return nil
	}
	errs := []error{set("set the hop limit", setHops(fd, address)), set("set the traffic class", setClass(fd, address))}
	if e.Device != "" {
		errs = append(errs, set("bind to the device "+e.Device, unix.BindToDevice(fd, e.Device)))
	}
	if e.Password != "" {
		errs = append(errs, set("set the password of TCP-MD5", setMD5(fd, address, string(e.Password))))
	}
	return errors.Join(errs...)
}

// setHops sends with the highest hop limit: routers over several hops are
// reached, and one that insists on neighbours being next to it sees that we are
// (GTSM, RFC 5082). Nothing can be asked of the hop limit of what we receive:
// routers send 1 to neighbours unless told otherwise.
func setHops(fd int, address netip.Addr) error {
	const most = 255
	if address.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, most)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, most)
}

// setClass marks packets as network control (CS6), as routers do.
func setClass(fd int, address netip.Addr) error {
	const cs6 = 0xc0
	if address.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, cs6)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, cs6)
}

// maxPassword is the longest key of TCP-MD5 that the kernel takes.
const maxPassword = unix.TCP_MD5SIG_MAXKEYLEN

func setMD5(fd int, address netip.Addr, password string) error {
	if len(password) > maxPassword {
		return fmt.Errorf("it is longer than %d characters", maxPassword)
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	if address.Is4() {
		sig.Addr.Family = unix.AF_INET
		a := address.As4()
		// struct sockaddr_in: port, then address. Addr.Data begins behind the family.
		copy(sig.Addr.Data[2:], a[:])
	} else {
		sig.Addr.Family = unix.AF_INET6
		a := address.As16()
		// struct sockaddr_in6: port, flow, then address; the kernel does not
		// look at the zone.
		copy(sig.Addr.Data[6:], a[:])
	}
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
}

// describe says in words why there is no connection.
func describe(err error, e bgp.Endpoint, address netip.Addr) error {
	var option *optionError
	switch {
	case errors.As(err, &option):
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses connections on port %d: does BGP run there, and is this node allowed to connect?", address, e.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this node does not have the sourceAddress %s", e.Source)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("no route to %s", address)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), timeout(err):
		if e.Password != "" {
			return fmt.Errorf("MD5 mismatch suspected: connection to %s port %d times out; the router may also be down, or a firewall in the way", address, e.Port)
		}
		return fmt.Errorf("connection to %s port %d times out: the router is down, a firewall is in the way, or it wants a password", address, e.Port)
	}
	return fmt.Errorf("connect to %s port %d: %w", address, e.Port, err)
}

func timeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
