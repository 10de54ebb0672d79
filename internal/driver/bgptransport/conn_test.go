// SPDX-License-Identifier: Apache-2.0

package bgptransport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/netnstest"
)

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

func message(kind bgp.Type, body ...byte) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, byte(kind))
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
	return b
}

func TestReader(t *testing.T) {
	t.Parallel()
	update := message(bgp.TypeUpdate, bytes.Repeat([]byte{7}, 4000)...)
	refresh := message(bgp.TypeRouteRefresh, 0, 1, 0, 1)
	r := NewReader(bytes.NewReader(bytes.Join([][]byte{update, message(bgp.TypeKeepalive), update, refresh}, nil)))
	want := []bgp.Raw{{Type: bgp.TypeUpdate}, {Type: bgp.TypeKeepalive, Body: []byte{}}, {Type: bgp.TypeUpdate}, {Type: bgp.TypeRouteRefresh, Body: []byte{0, 1, 0, 1}}}
	var got []bgp.Raw
	for {
		raw, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		got = append(got, raw)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	withLength := func(b []byte, n uint16) []byte {
		binary.BigEndian.PutUint16(b[16:], n)
		return b
	}
	tests := []struct {
		name    string
		data    []byte
		subcode uint8 // of NOTIFICATION 1; 0: the stream ends
	}{
		{"marker", append(make([]byte, 18), 4), 1},
		{"shorter than a header", withLength(message(bgp.TypeKeepalive), 18), 2},
		{"too long", withLength(message(bgp.TypeUpdate), 4097), 2},
		{"KEEPALIVE with a body", message(bgp.TypeKeepalive, 1), 2},
		{"short OPEN", message(bgp.TypeOpen, 4), 2},
		{"short UPDATE", message(bgp.TypeUpdate, 0, 0, 0), 2},
		{"short NOTIFICATION", message(bgp.TypeNotification, 6), 2},
		{"short ROUTE-REFRESH", message(bgp.TypeRouteRefresh, 0), 2},
		{"half a header", message(bgp.TypeKeepalive)[:10], 0},
		{"half an UPDATE", message(bgp.TypeUpdate, make([]byte, 100)...)[:50], 0},
		{"half an OPEN", message(bgp.TypeOpen, make([]byte, 20)...)[:30], 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw, err := NewReader(bytes.NewReader(tt.data)).Next()
			bad := bgp.Malformed{}
			switch {
			case tt.subcode == 0 && !errors.Is(err, io.ErrUnexpectedEOF):
				t.Errorf("message %v, error %v; want an unexpected end", raw, err)
			case tt.subcode != 0 && (!errors.As(err, &bad) || bad.Code != 1 || bad.Subcode != tt.subcode):
				t.Errorf("message %v, error %v; want NOTIFICATION 1/%d", raw, err, tt.subcode)
			}
		})
	}
}

// FuzzReader: whatever comes, the reader takes exactly the length that the
// header says, keeps nothing of an UPDATE, and ends.
func FuzzReader(f *testing.F) {
	f.Add(message(bgp.TypeKeepalive))
	f.Add(message(bgp.TypeUpdate, 0, 0, 0, 0))
	f.Add(append(message(bgp.TypeOpen, make([]byte, 10)...), message(bgp.TypeNotification, 6, 2)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		used := 0
		for {
			raw, err := r.Next()
			if err != nil {
				return
			}
			length := int(binary.BigEndian.Uint16(data[used+16:]))
			if bgp.Type(data[used+18]) != raw.Type || raw.Type == bgp.TypeUpdate && raw.Body != nil || raw.Type != bgp.TypeUpdate && len(raw.Body) != length-headerLength {
				t.Fatalf("at %d: %d bytes, message %+v", used, length, raw)
			}
			used += length
		}
	})
}

// TestDialErrors says in words what is wrong.
func TestDialErrors(t *testing.T) {
	t.Parallel()
	host := netnstest.Host(t)
	far := netnstest.New(t)
	netnstest.Veth(t, host, "err0", far, "eth0")
	host.AddAddr(t, "err0", netip.MustParsePrefix("192.0.2.1/24"))
	tests := []struct {
		name     string
		endpoint bgp.Endpoint
		want     string
	}{
		{"refused", bgp.Endpoint{Address: netip.MustParseAddr("127.0.0.1"), Port: 1}, "127.0.0.1 refuses connections on port 1"},
		{"no route", bgp.Endpoint{Address: netip.MustParseAddr("203.0.113.1"), Port: 179}, "no route to 203.0.113.1"},
		{"silent", bgp.Endpoint{Address: netip.MustParseAddr("192.0.2.9"), Port: 179}, "connection to 192.0.2.9 port 179 times out"},
		{"silent, with a password", bgp.Endpoint{Address: netip.MustParseAddr("192.0.2.9"), Port: 179, Password: "x"}, "MD5 mismatch suspected"},
		{"source address", bgp.Endpoint{Address: netip.MustParseAddr("192.0.2.9"), Port: 179, Source: netip.MustParseAddr("192.0.2.77")}, "this node does not have the sourceAddress 192.0.2.77"},
		{"device", bgp.Endpoint{Address: netip.MustParseAddr("192.0.2.9"), Port: 179, Device: "nosuch"}, "bind to the device nosuch"},
		{"long password", bgp.Endpoint{Address: netip.MustParseAddr("192.0.2.9"), Port: 179, Password: bgp.Password(strings.Repeat("x", 81))}, "longer than 80 characters"},
		{"interface", bgp.Endpoint{Interface: "nosuch", Port: 179}, "this node has no interface nosuch"},
		{"nobody behind the interface", bgp.Endpoint{Interface: "err0", Port: 179}, "err0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			c, err := New(Config{}).Dial(ctx, tt.endpoint)
			if err == nil {
				_ = c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestDial looks at a connection from the other end: the hop limit of GTSM, and
// what Local says.
func TestDial(t *testing.T) {
	t.Parallel()
	host, far := netnstest.Host(t), netnstest.New(t)
	netnstest.Veth(t, host, "dial0", far, "eth0")
	host.AddAddr(t, "dial0", netip.MustParsePrefix("10.77.0.1/24"))
	host.AddAddr(t, "dial0", netip.MustParsePrefix("2001:db8:77::1/64"))
	far.AddAddr(t, "eth0", netip.MustParsePrefix("10.77.0.254/24"))
	var l net.Listener
	far.Do(t, func() (err error) {
		l, err = net.Listen("tcp", "10.77.0.254:0")
		return err
	})
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := New(Config{}).Dial(ctx, bgp.Endpoint{Address: netip.MustParseAddr("10.77.0.254"), Port: l.Addr().(*net.TCPAddr).AddrPort().Port()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	want := bgp.Local{
		Address: netip.MustParseAddr("10.77.0.1"), Remote: netip.MustParseAddr("10.77.0.254"),
		Interface4: netip.MustParseAddr("10.77.0.1"), Interface6: netip.MustParseAddr("2001:db8:77::1"), LinkLocal: c.Local().LinkLocal,
	}
	if c.Local() != want || !want.LinkLocal.IsLinkLocalUnicast() {
		t.Errorf("local %+v, want %+v", c.Local(), want)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(message(bgp.TypeKeepalive), time.Second); err != nil {
		t.Fatal(err)
	}
	if raw, err := NewReader(other).Next(); err != nil || raw.Type != bgp.TypeKeepalive {
		t.Errorf("message %v, error %v", raw, err)
	}
	_ = other.Close()
	if _, err := c.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want the end", err)
	}
}
