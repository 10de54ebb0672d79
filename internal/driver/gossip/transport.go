// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/heraldlb/herald/internal/core/liveness"
)

const (
	maxDatagram = 65536
	// readBuffer of the socket; the kernel may give less.
	readBuffer = 2 << 20
	// What waits for memberlist, and for the heartbeats. More is dropped, as
	// the kernel would: heartbeats must not wait for memberlist.
	packetBacklog    = 512
	heartbeatBacklog = 1024
	// portTries: a port that is free for TCP may be taken for UDP.
	portTries   = 10
	acceptPause = 50 * time.Millisecond
	// sendTries: several errors about earlier datagrams may have come.
	sendTries = 5
)

// transport is memberlist's way to the network: a UDP socket and a TCP listener
// on one port. Datagrams that are heartbeats take another way.
//
// memberlist has a transport of its own, but it keeps its socket to itself, and
// allocates 64 KiB for each datagram.
type transport struct {
	udp        *net.UDPConn
	quiet      *quiet // nil: there is none
	tcp        *net.TCPListener
	addr       netip.AddrPort // told to others
	packets    chan *memberlist.Packet
	streams    chan net.Conn
	heartbeats chan<- liveness.Datagram
	dropped    *atomic.Uint64
	done       chan struct{}
	wg         sync.WaitGroup
	closing    sync.Once
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport opens the sockets and starts to read.
func newTransport(ctx context.Context, bind netip.AddrPort, heartbeats chan<- liveness.Datagram, dropped *atomic.Uint64) (*transport, error) {
	t := &transport{
		packets:    make(chan *memberlist.Packet, packetBacklog),
		streams:    make(chan net.Conn),
		heartbeats: heartbeats,
		dropped:    dropped,
		done:       make(chan struct{}),
	}
	if err := t.listen(ctx, bind); err != nil {
		return nil, err
	}
	_ = t.udp.SetReadBuffer(readBuffer) // what the kernel gives will do
	wantRefusals(t.udp)
	port := t.udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	t.addr = netip.AddrPortFrom(bind.Addr(), port)
	if bind.Addr().IsUnspecified() {
		ip, err := hostAddress(bind.Addr().Is4())
		if err != nil {
			return nil, errors.Join(err, t.Shutdown())
		}
		t.addr = netip.AddrPortFrom(ip, port)
	}
	t.wg.Go(t.read)
	if t.quiet != nil {
		t.wg.Go(func() { t.quiet.watch(t.tellRefused) })
	}
	t.wg.Go(t.accept)
	return t, nil
}

// listen opens both sockets on one port.
func (t *transport) listen(ctx context.Context, bind netip.AddrPort) error {
	for try := 1; ; try++ {
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
		if err != nil {
			return fmt.Errorf("listen for TCP on %s: %w", bind, err)
		}
		at := netip.AddrPortFrom(bind.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
		udp, err := listenUDP(ctx, at)
		if err == nil {
			t.tcp, t.udp = tcp, udp
			t.quiet, _ = openQuiet(udp) // without it, all works the same and costs more
			return nil
		}
		_ = tcp.Close()
		if bind.Port() != 0 || try == portTries {
			return fmt.Errorf("listen for UDP on %s: %w", at, err)
		}
	}
}

// hostAddress is an address of this host that others may reach.
func hostAddress(v4 bool) (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list the addresses of this host: %w", err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if ip := p.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() && ip.Is4() == v4 {
			return ip, nil
		}
	}
	return netip.Addr{}, errors.New("this host has no address to tell others")
}

// read takes datagrams from the socket until it is closed.
func (t *transport) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t.readRefusals()
			continue
		}
		if n == 0 {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		data := append([]byte(nil), buf[:n]...)
		if data[0] == liveness.Magic || data[0] == liveness.MagicQuiet {
			t.beat(liveness.Datagram{From: from, Data: data})
			continue
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: data, From: net.UDPAddrFromAddrPort(from), Timestamp: now}:
		default:
			t.dropped.Add(1)
		}
	}
}

func (t *transport) beat(d liveness.Datagram) {
	select {
	case t.heartbeats <- d:
	default:
		t.dropped.Add(1)
	}
}

// readRefusals tells the heartbeats at which hosts nobody listens.
func (t *transport) readRefusals() { t.tellRefused(refusals(t.udp)) }

func (t *transport) tellRefused(hosts []netip.AddrPort) {
	for _, to := range hosts {
		t.beat(liveness.Datagram{From: to, Refused: true})
	}
}

func (t *transport) accept() {
	for {
		conn, err := t.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select { // out of files, perhaps
			case <-time.After(acceptPause):
			case <-t.done:
				return
			}
			continue
		}
		select {
		case t.streams <- conn:
		case <-t.done:
			_ = conn.Close()
			return
		}
	}
}

// write sends a datagram. The kernel reports with it what became of earlier
// ones to other hosts; that is no reason not to send this one.
func (t *transport) write(b []byte, to netip.AddrPort) error {
	_, err := t.udp.WriteToUDPAddrPort(b, to)
	for try := 1; try < sendTries && ofAnother(err); try++ {
		t.readRefusals()
		_, err = t.udp.WriteToUDPAddrPort(b, to)
	}
	return err
}

// ofAnother reports whether an error may be about an earlier datagram.
func ofAnother(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH)
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err == nil {
		err = t.write(b, to)
	}
	if err != nil {
		err = fmt.Errorf("send a datagram to %s: %w", addr, err)
	}
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.closing.Do(func() {
		close(t.done)
		_ = t.tcp.Close()
		_ = t.udp.Close()
		if t.quiet != nil {
			t.quiet.end()
		}
		t.wg.Wait()
		if t.quiet != nil {
			t.quiet.close()
		}
	})
	return nil
}
