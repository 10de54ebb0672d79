// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/liveness"
)

// quiet is a second socket on the port, for heartbeats that nobody waits for. They
// stay in the kernel until somebody looks, with the time of their arrival:
// to be woken up for each of them would cost many times what they cost.
//
// The kernel deals them out by their first byte (SO_ATTACH_REUSEPORT_CBPF, see
// socket(7)). Where it cannot, they arrive at the other socket, and all works
// the same.
type quiet struct {
	stop   int        // eventfd that ends watch
	mu     sync.Mutex // guards the fields below
	fd     int        // -1: closed
	looked time.Time
	buf    []byte
	oob    []byte
}

// pollLimit bounds how many are taken at a time.
const pollLimit = 1024

// listenUDP opens a socket whose port can be shared with a quiet one.
func listenUDP(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error) {
	conf := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := conf.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// openQuiet opens the second socket.
func openQuiet(main *net.UDPConn) (*quiet, error) {
	if err := deal(main); err != nil {
		return nil, err
	}
	addr := main.LocalAddr().(*net.UDPAddr).AddrPort()
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	for _, option := range []int{unix.SO_REUSEPORT, unix.SO_TIMESTAMPNS} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
		}
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("share port %d: %w", addr.Port(), err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	wantRefusalsOf(fd)
	return &quiet{fd: fd, stop: stop, looked: time.Now(), buf: make([]byte, maxDatagram), oob: make([]byte, 128)}, nil
}

// write sends a datagram now or not at all. What gossip sends to hosts whose MAC
// address is not known fills the buffer of its socket, and nobody can send until
// the kernel gives up; heartbeats must go on.
func (q *quiet) write(b []byte, to netip.AddrPort) error {
	_, sa := sockaddr(to)
	q.mu.Lock()
	defer q.mu.Unlock()
	err := unix.Sendto(q.fd, b, unix.MSG_DONTWAIT, sa)
	for try := 1; try < sendTries && ofAnother(err); try++ {
		err = unix.Sendto(q.fd, b, unix.MSG_DONTWAIT, sa)
	}
	return os.NewSyscallError("sendto", err)
}

// watch waits for errors until close: the kernel picks one of the two sockets to
// report that nobody listens at a host.
func (q *quiet) watch(refused func([]netip.AddrPort)) {
	fds := []unix.PollFd{{Fd: int32(q.fd)}, {Fd: int32(q.stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || fds[1].Revents != 0:
			return
		}
		refused(refusalsOf(q.fd))
	}
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	in6 := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	if zone, err := net.InterfaceByName(ip.Zone()); err == nil {
		in6.ZoneId = uint32(zone.Index)
	}
	return unix.AF_INET6, in6
}

// deal gives the first socket of the port what does not begin with
// liveness.MagicQuiet, and the second one the rest.
func deal(main *net.UDPConn) error {
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: liveness.MagicQuiet, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assemble a program: %w", err)
	}
	filter := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	raw, err := main.SyscallConn()
	if err != nil {
		return fmt.Errorf("use the socket: %w", err)
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// poll takes what has arrived since it was called last.
func (q *quiet) poll() []liveness.Datagram {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	longest := now.Sub(q.looked)
	q.looked = now
	var out []liveness.Datagram
	for q.fd >= 0 && len(out) < pollLimit {
		n, oobn, _, from, err := unix.Recvmsg(q.fd, q.buf, q.oob, unix.MSG_DONTWAIT)
		if err != nil {
			break // there is no more, or an error of an earlier packet
		}
		out = append(out, liveness.Datagram{
			From: addrPortOf(from), Data: append([]byte(nil), q.buf[:n]...),
			// The clock on the wall may jump; it cannot have come before the last look.
			Age: min(max(age(q.oob[:oobn], now), 0), longest),
		})
	}
	return out
}

// age is how long ago the kernel received a packet.
func age(control []byte, now time.Time) time.Duration {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds, nano := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return now.Round(0).Sub(time.Unix(int64(seconds), int64(nano)))
		}
	}
	return 0
}

// end makes watch return.
func (q *quiet) end() { _, _ = unix.Write(q.stop, []byte{0, 0, 0, 0, 0, 0, 0, 1}) }

// close is for when watch has returned.
func (q *quiet) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	_ = unix.Close(q.fd)
	_ = unix.Close(q.stop)
	q.fd = -1
}
