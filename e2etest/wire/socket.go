// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Socket sends and receives whole Ethernet frames on one interface. Reading and writing may go on at the same time, each
// from one goroutine.
type Socket struct {
	fd     int
	mac    MAC
	closed atomic.Bool
	oob    []byte
}

// readTimeout is how long Close may have to wait for a Read to notice.
const readTimeout = 100 * time.Millisecond

// readBuffer has room for some 20,000 frames.
const readBuffer = 16 << 20

// Open returns a socket for ARP and Neighbor Discovery frames, in the network namespace of the calling thread.
// promiscuous also shows frames between others; on a bridge, everything that passes it.
func Open(ifname string, promiscuous bool) (*Socket, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifname, err)
	}
	// Protocol 0 receives nothing until bind: no frame slips in before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifname, err)
	}
	s := &Socket{fd: fd, oob: make([]byte, 128)}
	copy(s.mac[:], ifi.HardwareAddr)
	if err := s.setUp(ifi.Index, promiscuous); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifname, err)
	}
	return s, nil
}

func (s *Socket) setUp(index int, promiscuous bool) error {
	if err := s.attachFilter(); err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(readTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err)
	}
	// A thousand addresses are announced within milliseconds, several times each.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVBUFFORCE", err)
	}
	if promiscuous {
		m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(s.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}))
}

// attachFilter lets the kernel drop everything but ARP and ICMPv6: the bridge also carries the whole cluster's traffic.
func (s *Socket) attachFilter() error {
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv6, SkipFalse: 3},
		bpf.LoadAbsolute{Off: ethLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoICMPv6, SkipFalse: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assemble the packet filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER",
		unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog))
}

// MAC returns the interface's own address.
func (s *Socket) MAC() MAC { return s.mac }

// ErrTimeout is returned by Read when nothing has come for a while; read again.
var ErrTimeout = errors.New("no frame yet")

// Read waits for the next frame and returns its length and the time at which the kernel got it. Frames that this socket
// sent are not seen. It returns ErrTimeout now and then, and net.ErrClosed after Close.
func (s *Socket) Read(buf []byte) (int, time.Time, error) {
	for {
		if s.closed.Load() {
			_ = unix.Close(s.fd)
			return 0, time.Time{}, net.ErrClosed
		}
		n, oobn, _, from, err := unix.Recvmsg(s.fd, buf, s.oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return 0, time.Time{}, ErrTimeout
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, time.Time{}, os.NewSyscallError("recvmsg", err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		return n, timestamp(s.oob[:oobn]), nil
	}
}

func timestamp(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now()
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS &&
			len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(ts.Unix())
		}
	}
	return time.Now()
}

// Write sends one frame.
func (s *Socket) Write(frame []byte) error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	_, err := unix.Write(s.fd, frame)
	return os.NewSyscallError("write", err)
}

// Close makes Read return net.ErrClosed, which also releases the socket: somebody must be reading or read once more.
func (s *Socket) Close() { s.closed.Store(true) }

func htons(v uint16) uint16 { return v<<8 | v>>8 }
