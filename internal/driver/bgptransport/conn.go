// SPDX-License-Identifier: Apache-2.0

package bgptransport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// Lengths of RFC 4271, section 4.1.
const (
	markerLength = 16
	headerLength = 19
	maxLength    = 4096
)

// Conn is a connection with a router.
type Conn struct {
	conn   *net.TCPConn
	reader *Reader
	local  bgp.Local
	finder *finder // nil unless the session is unnumbered
	once   sync.Once
}

func newConn(c *net.TCPConn) (*Conn, error) {
	local, err1 := endOf(c.LocalAddr())
	remote, err2 := endOf(c.RemoteAddr())
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	out := &Conn{conn: c, reader: NewReader(c), local: bgp.Local{Address: local, Remote: remote}}
	if err := out.neighbours(); err != nil {
		return nil, fmt.Errorf("list the addresses of this node: %w", err)
	}
	return out, nil
}

func endOf(a net.Addr) (netip.Addr, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("a TCP connection has the address %v", a)
	}
	return tcp.AddrPort().Addr().Unmap(), nil
}

// neighbours finds the other addresses of the interface of this end.
func (c *Conn) neighbours() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for i := range interfaces {
		list, err := interfaces[i].Addrs()
		if err != nil {
			continue // it went meanwhile
		}
		var all []netip.Addr
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, p.Addr().Unmap())
			}
		}
		zone := c.local.Address.Zone()
		if !slices.Contains(all, c.local.Address.WithZone("")) || zone != "" && zone != interfaces[i].Name {
			continue
		}
		c.local.Interface4 = first(all, func(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() })
		c.local.Interface6 = first(all, func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() })
		c.local.LinkLocal = first(all, func(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() })
		return nil
	}
	return nil
}

func first(all []netip.Addr, fit func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(all, fit); i >= 0 {
		return all[i]
	}
	return netip.Addr{}
}

// Local says what this end is.
func (c *Conn) Local() bgp.Local { return c.local }

// Receive returns the next message; the body of an UPDATE is dropped. For one
// goroutine.
func (c *Conn) Receive() (bgp.Raw, error) { return c.reader.Next() }

// Write sends bytes within the limit. For one goroutine.
func (c *Conn) Write(b []byte, limit time.Duration) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	if timeout(err) {
		return fmt.Errorf("it has not read anything for %s", limit)
	}
	return err
}

// Close ends the connection. Any number of times, from any goroutine.
func (c *Conn) Close() error {
	var err error
	c.once.Do(func() {
		c.finder.close()
		err = c.conn.Close()
	})
	return err
}

// Reader cuts a stream into messages.
type Reader struct {
	r      *bufio.Reader
	header [headerLength]byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, maxLength)} }

// Subcodes of a message header error (RFC 4271, section 6.1).
const (
	headerError = 1
	badMarker   = 1
	badLength   = 2
)

// Next returns the next message. At the end of the stream it returns io.EOF,
// in the middle of a message io.ErrUnexpectedEOF, and bgp.Malformed for a header
// that cannot be right: nothing behind it can be understood.
func (r *Reader) Next() (bgp.Raw, error) {
	if _, err := io.ReadFull(r.r, r.header[:]); err != nil {
		return bgp.Raw{}, err
	}
	if !bytes.Equal(r.header[:markerLength], bytes.Repeat([]byte{0xff}, markerLength)) {
		return bgp.Raw{}, bgp.Malformed{Code: headerError, Subcode: badMarker, Text: "router sent something that is not BGP"}
	}
	length := int(binary.BigEndian.Uint16(r.header[markerLength:]))
	t := bgp.Type(r.header[headerLength-1])
	if least := leastLength(t); length < least || length > maxLength || t == bgp.TypeKeepalive && length != least {
		return bgp.Raw{}, bgp.Malformed{Code: headerError, Subcode: badLength, Text: fmt.Sprintf("router sent %s of %d bytes", t, length)}
	}
	if t == bgp.TypeUpdate {
		if _, err := r.r.Discard(length - headerLength); err != nil {
			return bgp.Raw{}, inside(err)
		}
		return bgp.Raw{Type: t}, nil
	}
	body := make([]byte, length-headerLength)
	if _, err := io.ReadFull(r.r, body); err != nil {
		return bgp.Raw{}, inside(err)
	}
	return bgp.Raw{Type: t, Body: body}, nil
}

func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// leastLength returns the shortest message of a type (RFC 4271, section 6.1;
// RFC 2918).
func leastLength(t bgp.Type) int {
	switch t {
	case bgp.TypeOpen:
		return 29
	case bgp.TypeUpdate, bgp.TypeRouteRefresh:
		return 23
	case bgp.TypeNotification:
		return 21
	}
	return headerLength
}
