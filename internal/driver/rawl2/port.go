// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// readBuffer has room for some 5,000 questions; the default, for less than 300.
const readBuffer = 4 << 20

// port is a packet socket on one link for one protocol.
type port struct {
	conn     *packet.Conn
	raw      syscall.RawConn
	protocol int
	spans    []span        // what the kernel passes; nil: everything
	stop     int           // eventfd that ends serve
	done     chan struct{} // closed when serve has ended
	err      error         // why serve ended; read it after done
}

func openPort(link l2.Link, protocol int, spans []span) (*port, error) {
	filter, err := assemble(protocol, everything())
	if err != nil {
		return nil, err
	}
	ifi := &net.Interface{Index: link.Index, Name: link.Name, HardwareAddr: link.MAC[:]}
	conn, err := packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("use the packet socket: %w", err), conn.Close())
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), conn.Close())
	}
	// After a take-over everybody asks at once. As much as the kernel allows will do.
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer) })
	p := &port{conn: conn, raw: raw, stop: stop, done: make(chan struct{}), protocol: protocol}
	p.narrow(spans)
	return p, nil
}

// narrow makes the kernel pass only packets that are about the spans. If it does not take the program, everything
// passes, as before: that costs time and changes nothing else.
func (p *port) narrow(spans []span) {
	if slices.Equal(p.spans, spans) {
		return
	}
	filter, err := assemble(p.protocol, spans)
	if err == nil {
		err = p.conn.SetBPF(filter)
	}
	p.spans = spans
	if err != nil {
		p.spans = nil // the old program is wrong now, and the next one may be taken
		if filter, err = assemble(p.protocol, everything()); err == nil {
			_ = p.conn.SetBPF(filter)
		}
	}
}

// serve answers packets until close or an error, then calls ended.
func (p *port) serve(answer func(in, out []byte) []byte, ended func()) {
	err := p.raw.Control(func(fd uintptr) { p.err = p.loop(int(fd), answer) })
	if p.err == nil {
		p.err = err
	}
	close(p.done)
	ended()
}

// round limits the packets read between two looks at stop.
const round = 64

func (p *port) loop(fd int, answer func(in, out []byte) []byte) error {
	in, out := make([]byte, 2048), make([]byte, 0, l2.MaxFrame)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(p.stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for packets: %w", err)
		}
		if fds[1].Revents != 0 {
			return nil
		}
		for range round {
			n, err := unix.Read(fd, in)
			if err == unix.EAGAIN || err == unix.EINTR {
				break
			}
			if err != nil {
				return fmt.Errorf("read packets: %w", err)
			}
			if reply := answer(in[:n], out); len(reply) > 0 {
				// Whoever gets no answer asks again, and if the link is gone the next read says so.
				_, _ = unix.Write(fd, reply)
			}
		}
	}
}

// sendPatience is how long a full send buffer may hold up the announcements on other links.
const sendPatience = 20 * time.Millisecond

// send writes one frame.
func (p *port) send(frame []byte) {
	// An error means that the socket is closed, by us or by serve.
	_ = p.raw.Control(func(fd uintptr) {
		if _, err := unix.Write(int(fd), frame); err == unix.EAGAIN || err == unix.ENOBUFS {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			_, _ = unix.Poll(fds, int(sendPatience.Milliseconds()))
			_, _ = unix.Write(int(fd), frame)
		}
	})
}

// close ends serve, which must have been started, and closes the socket.
func (p *port) close() {
	if _, err := unix.Write(p.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		panic("rawl2: stop a port: " + err.Error()) // an eventfd of ours that is open takes a 1
	}
	<-p.done
	_ = p.conn.Close() // nothing is lost with it
	_ = unix.Close(p.stop)
}
