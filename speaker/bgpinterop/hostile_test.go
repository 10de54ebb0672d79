// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/netnstest"
)

// message returns a BGP message of a type.
func message(kind byte, body []byte) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
	return b
}

// open returns an OPEN of AS 64600 for IPv4.
func open(hold uint16, capabilities ...byte) []byte {
	body := []byte{4, 64600 >> 8, 64600 & 0xff, byte(hold >> 8), byte(hold), 10, 9, 9, 1}
	caps := append([]byte{1, 4, 0, 1, 0, 1, 2, 0}, capabilities...)
	body = append(body, byte(len(caps)+2), 2, byte(len(caps)))
	return message(1, append(body, caps...))
}

func keepalive() []byte { return message(4, nil) }

// listen lets a fake router accept connections on loopback, and gives each to
// serve, one after the other.
func listen(t *testing.T, serve func(c *net.TCPConn)) netip.AddrPort {
	t.Helper()
	netnstest.Host(t) // loopback is up
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// shake does what it takes to be established.
func shake(c net.Conn, hold uint16) error {
	if _, err := c.Write(open(hold)); err != nil {
		return err
	}
	if _, err := c.Write(keepalive()); err != nil {
		return err
	}
	return skip(c, 1, 4)
}

// skip reads messages until it has seen these types, in this order.
func skip(c net.Conn, types ...byte) error {
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	header := make([]byte, 19)
	for len(types) > 0 {
		if _, err := io.ReadFull(c, header); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(header[16:]))-19); err != nil {
			return err
		}
		if header[18] == types[0] {
			types = types[1:]
		}
	}
	return c.SetReadDeadline(time.Time{})
}

func sessionAt(name string, at netip.AddrPort, routes ...bgp.Route) bgp.Session {
	s := session(at.Addr(), routes...)
	s.Peer, s.Key.Port = name, at.Port()
	return s
}

// hostile is a router that does what it should not.
type hostile struct {
	name  string
	serve func(c *net.TCPConn)
	want  string // part of the error; empty: it is established
}

func hostiles() []hostile {
	return []hostile{
		{"closes at once", func(*net.TCPConn) {}, "closed it at once"},
		{"says nothing that is BGP", func(c *net.TCPConn) { _, _ = c.Write(bytes.Repeat([]byte("hello"), 100)); _ = skip(c, 3) }, "not BGP"},
		{"too long a message", func(c *net.TCPConn) {
			b := message(2, nil)
			b[16], b[17] = 0xff, 0xff
			_, _ = c.Write(b)
			_ = skip(c, 3)
		}, "65535 bytes"},
		{"half an OPEN", func(c *net.TCPConn) { _, _ = c.Write(open(90)[:25]) }, "closed it at once"},
		{"a broken OPEN", func(c *net.TCPConn) {
			b := open(90)
			b[28] = 200 // length of the parameters
			_, _ = c.Write(b)
			_ = skip(c, 3)
		}, "OPEN that cannot be read"},
		{"an unknown type", func(c *net.TCPConn) { _, _ = c.Write(open(90)); _, _ = c.Write(message(77, nil)); _ = skip(c, 3) }, "type 77"},
		{"a short hold time", func(c *net.TCPConn) { _, _ = c.Write(open(1)); _ = skip(c, 3) }, "hold time of 1s"},
		{"routes before KEEPALIVE", func(c *net.TCPConn) {
			_, _ = c.Write(open(90))
			_, _ = c.Write(message(2, []byte{0, 0, 0, 0}))
			_ = skip(c, 3)
		}, "UPDATE, which does not belong there"},
		{"AS4_PATH before AS_PATH", func(c *net.TCPConn) {
			_ = shake(c, 90)
			attributes := []byte{0x40, 1, 1, 0, 0xc0, 17, 6, 2, 1, 0, 0, 0xfc, 0x58, 0x40, 2, 4, 2, 1, 0xfc, 0x58}
			body := append([]byte{0, 0, 0, byte(len(attributes))}, attributes...)
			_, _ = c.Write(message(2, append(body, 24, 203, 0, 113)))
			_, _ = io.Copy(io.Discard, c)
		}, ""},
		{"malformed UPDATEs", func(c *net.TCPConn) {
			_ = shake(c, 90)
			for n := range 2000 {
				_, _ = c.Write(message(2, bytes.Repeat([]byte{byte(n), byte(n >> 3), 0xff}, 2+n%1300)))
			}
			_, _ = io.Copy(io.Discard, c)
		}, ""},
		{"a notification with a message", func(c *net.TCPConn) {
			_ = shake(c, 90)
			_, _ = c.Write(message(3, append([]byte{6, 2, 11}, "maintenance"...)))
		}, `shut the session down and says: "maintenance"`},
		{"says our AS is wrong", func(c *net.TCPConn) { _, _ = c.Write(message(3, []byte{2, 2, 0xfc, 0x01})) }, "router says our AS 64512 is wrong, it expects 64513"},
		{"random UPDATEs", func(c *net.TCPConn) {
			_ = shake(c, 90)
			r := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				body := make([]byte, 4+r.IntN(4000))
				for i := range body {
					body[i] = byte(r.Uint32())
				}
				_, _ = c.Write(message(2, body))
			}
			_, _ = io.Copy(io.Discard, c)
		}, ""},
	}
}

// TestHostileRouters: whatever a router does, the speaker stays up, says what is
// wrong with that router, and the session with another router does not notice.
func TestHostileRouters(t *testing.T) {
	t.Parallel()
	for _, tt := range hostiles() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			good := listen(t, func(c *net.TCPConn) { _ = shake(c, 90); _, _ = io.Copy(io.Discard, c) })
			bad := listen(t, tt.serve)
			d := speak(t)
			d.Set(wanted(sessionAt("bad", bad, route("198.51.100.1/32")), sessionAt("good", good, route("198.51.100.1/32"))))
			awaitState(t, d, "good", 15*time.Second, established)
			awaitState(t, d, "bad", 15*time.Second, func(s bgp.SessionState) bool {
				return tt.want != "" && strings.Contains(s.LastError, tt.want) || tt.want == "" && established(s)
			})
			if tt.want == "" {
				await(t, "UPDATEs are received and dropped", 5*time.Second, func() bool { return stateOf(d, "bad").Counters.UpdatesReceived > 0 })
				time.Sleep(50 * time.Millisecond)
				if s := stateOf(d, "bad"); !established(s) {
					t.Errorf("the session is %+v, want it to stay", s)
				}
			}
			if s := stateOf(d, "good"); !established(s) || s.LastError != "" {
				t.Errorf("the session with the other router is %+v", s)
			}
		})
	}
}

// TestHostileTogether: all of them at once cost no memory, none is asked over
// and over, and the one router that behaves notices nothing. It runs alone: it
// measures the heap.
func TestHostileTogether(t *testing.T) { //nolint:paralleltest // measures the memory of the process
	good := listen(t, func(c *net.TCPConn) { _ = shake(c, 90); _, _ = io.Copy(io.Discard, c) })
	list := []bgp.Session{sessionAt("good", good, route("198.51.100.1/32"))}
	var attempts [64]atomic.Int64
	bad := append(hostiles(),
		hostile{"a million routes", millionRoutes, ""},
		hostile{"never says anything", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, ""},
		hostile{"OPEN and then nothing", func(c *net.TCPConn) { _, _ = c.Write(open(90)); _, _ = io.Copy(io.Discard, c) }, ""},
		hostile{"does not read", func(c *net.TCPConn) { _ = shake(c, 90); time.Sleep(6 * time.Second) }, ""},
	)
	for i, h := range bad {
		at := listen(t, func(c *net.TCPConn) { attempts[i].Add(1); h.serve(c) })
		list = append(list, sessionAt(fmt.Sprintf("%02d", i), at, route("198.51.100.1/32")))
	}
	slices.SortFunc(list, func(a, b bgp.Session) int { return strings.Compare(a.Peer, b.Peer) })
	before := heap()
	d := speak(t)
	d.Set(wanted(list...))
	awaitState(t, d, "good", 15*time.Second, established)
	time.Sleep(5 * time.Second)
	if grown := int64(heap()) - int64(before); grown > 10<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	} else {
		t.Logf("the heap grew by %d kB with %d hostile routers", grown/1024, len(bad))
	}
	if s := stateOf(d, "good"); !established(s) || s.Counters.OpensSent != 1 {
		t.Errorf("the session with the good router is %+v", s)
	}
	for i, h := range bad {
		// At once, then after 0.5, 1, 2 s, less a quarter.
		if n := attempts[i].Load(); n < 1 || n > 5 {
			t.Errorf("%s: %d connections in 5 s", h.name, n)
		}
	}
}

func millionRoutes(c *net.TCPConn) {
	_ = shake(c, 90)
	for n := range 1000 { // 1,000 messages of 1,000 prefixes
		body := []byte{0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x58, 0x40, 3, 4, 10, 9, 9, 1}
		for p := range 1000 {
			body = append(body, 24, byte(1+n>>8), byte(n), byte(p))
		}
		if _, err := c.Write(message(2, body)); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c)
}

// TestMillionRoutes: a router that sends a full table costs no memory. It runs
// alone: it measures the heap.
func TestMillionRoutes(t *testing.T) { //nolint:paralleltest // measures the memory of the process
	at := listen(t, millionRoutes)
	before := heap()
	d := speak(t)
	d.Set(wanted(sessionAt("bad", at)))
	awaitState(t, d, "bad", 30*time.Second, func(s bgp.SessionState) bool { return s.Counters.UpdatesReceived >= 1000 })
	if grown := int64(heap()) - int64(before); grown > 2<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if s := stateOf(d, "bad"); !established(s) {
		t.Errorf("the session is %+v, want it established", s)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSilentRouter: one that never sends KEEPALIVE is given up after the hold
// time, one that stops reading costs no more than one batch of routes.
func TestSilentRouter(t *testing.T) {
	t.Parallel()
	t.Run("no KEEPALIVE", func(t *testing.T) {
		t.Parallel()
		at := listen(t, func(c *net.TCPConn) { _ = shake(c, 3); _, _ = io.Copy(io.Discard, c) })
		d := speak(t)
		d.Set(wanted(sessionAt("bad", at)))
		awaitState(t, d, "bad", 15*time.Second, established)
		awaitState(t, d, "bad", 10*time.Second, func(s bgp.SessionState) bool {
			return strings.Contains(s.LastError, "nothing was heard of the router for the hold time of 3s")
		})
	})
	t.Run("does not read", func(t *testing.T) {
		t.Parallel()
		at := listen(t, func(c *net.TCPConn) {
			_ = c.SetReadBuffer(4096)
			_ = shake(c, 3)
			for range 40 { // alive, but deaf
				if _, err := c.Write(keepalive()); err != nil {
					return
				}
				time.Sleep(500 * time.Millisecond)
			}
		})
		d := speak(t)
		s := sessionAt("bad", at)
		s.Timers.Hold = 3 * time.Second
		many := make([]uint32, 250)
		for i := range many {
			many[i] = uint32(i)
		}
		for i := range 20_000 { // more than the buffers of the two sockets hold
			r := route("198.18.0.0/32")
			r.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32)
			r.Communities = append([]uint32{uint32(i) << 8}, many[1:]...) // each in a message of its own
			s.Routes = append(s.Routes, r)
		}
		d.Set(wanted(s))
		awaitState(t, d, "bad", 15*time.Second, established)
		awaitState(t, d, "bad", 25*time.Second, func(s bgp.SessionState) bool {
			return strings.Contains(s.LastError, "router does not take what is sent: it has not read anything for 10s")
		})
	})
}
