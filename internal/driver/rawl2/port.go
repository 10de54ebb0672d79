// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// readBuffer has room for some 5,000 questions; the default, for less than 300.
const readBuffer = 4 << 20

// port is a packet socket on one link for one protocol.
type port struct {
	fd       int
	protocol int
	spans    []span        // what the kernel passes; nil: everything
	stop     int           // eventfd that ends serve
	done     chan struct{} // closed when serve has ended
	err      error         // why serve ended; read it after done
}

// openPort opens the socket by itself, without package net or one like it: those would have each packet wake up the thread of Go's
// network poller, too, before the thread that answers gets its turn.
func openPort(link l2.Link, protocol int, spans []span) (*port, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // 0: nothing arrives yet
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	p := &port{fd: fd, done: make(chan struct{}), protocol: protocol}
	filter, err := assemble(protocol, everything())
	if err == nil {
		err = p.filter(filter)
	}
	if err == nil {
		// After a take-over everybody asks at once. As much as the kernel allows will do.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer)
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: networkOrder(protocol)}); err != nil {
			err = fmt.Errorf("bind it to %s: %w", link.Name, err)
		}
	}
	if err == nil {
		p.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a packet socket: %w", err), unix.Close(fd))
	}
	p.narrow(spans)
	return p, nil
}

// networkOrder is the number of a protocol as packet(7) wants it.
func networkOrder(protocol int) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(protocol)))
}

// filter has the kernel pass what the program says.
func (p *port) filter(program []bpf.RawInstruction) error {
	raw := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(p.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
}

// narrow makes the kernel pass only packets that are about the spans. If it does not take the program, everything
// passes, as before: that costs time and changes nothing else.
func (p *port) narrow(spans []span) {
	if slices.Equal(p.spans, spans) {
		return
	}
	filter, err := assemble(p.protocol, spans)
	if err == nil {
		err = p.filter(filter)
	}
	p.spans = spans
	if err != nil {
		p.spans = nil // the old program is wrong now, and the next one may be taken
		if filter, err = assemble(p.protocol, everything()); err == nil {
			_ = p.filter(filter)
		}
	}
}

// serve answers packets until close or an error, then calls ended.
func (p *port) serve(answer func(in, out []byte) []byte, ended func()) {
	p.err = p.loop(answer)
	close(p.done)
	ended()
}

// round limits the packets read between two looks at stop.
const round = 64

func (p *port) loop(answer func(in, out []byte) []byte) error {
	in, out := make([]byte, 2048), make([]byte, 0, l2.MaxFrame)
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(p.stop), Events: unix.POLLIN}}
	var stint stint
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for packets: %w", err)
		}
		if fds[1].Revents != 0 {
			return nil
		}
		for range round {
			n, err := unix.Read(p.fd, in)
			if err == unix.EAGAIN || err == unix.EINTR {
				break
			}
			if err != nil {
				return fmt.Errorf("read packets: %w", err)
			}
			if reply := answer(in[:n], out); len(reply) > 0 {
				// Whoever gets no answer asks again, and if the link is gone the next read says so.
				_, _ = unix.Write(p.fd, reply)
			}
		}
		if stint.yield(time.Now()) {
			runtime.Gosched()
		}
	}
}

// sendPatience is how long a full send buffer may hold up the announcements on other links.
const sendPatience = 20 * time.Millisecond

// send writes one frame.
func (p *port) send(frame []byte) {
	if _, err := unix.Write(p.fd, frame); err == unix.EAGAIN || err == unix.ENOBUFS {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLOUT}}
		_, _ = unix.Poll(fds, int(sendPatience.Milliseconds()))
		_, _ = unix.Write(p.fd, frame)
	}
}

// close ends serve, which must have been started, and closes the socket.
func (p *port) close() {
	if _, err := unix.Write(p.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		panic("rawl2: stop a port: " + err.Error()) // an eventfd of ours that is open takes a 1
	}
	<-p.done
	_ = unix.Close(p.fd) // nothing is lost with it
	_ = unix.Close(p.stop)
}
