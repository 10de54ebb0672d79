// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

var (
	far4 = netip.MustParsePrefix("192.0.2.200/24")
	far6 = netip.MustParsePrefix("2001:db8::200/64")
	vip4 = netip.MustParseAddr("192.0.2.1")
	vip6 = netip.MustParseAddr("2001:db8::1:2:3")

	otherMAC = l2.MAC{2, 0, 0, 0, 0, 0xf}
)

// cable connects an interface of this host with eth0 of a new namespace that has far4 and far6.
func cable(tb testing.TB, name string) (host, far *netnstest.NS) {
	tb.Helper()
	host, far = netnstest.Host(tb), netnstest.New(tb)
	connect(tb, host, name, far)
	return host, far
}

func connect(tb testing.TB, host *netnstest.NS, name string, far *netnstest.NS) {
	tb.Helper()
	netnstest.Veth(tb, host, name, far, "eth0")
	far.AddAddr(tb, "eth0", far4)
	far.AddAddr(tb, "eth0", far6)
}

// link describes an interface of this host as it is now.
func link(tb testing.TB, name string) l2.Link {
	tb.Helper()
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		tb.Fatal(err)
	}
	return l2.Link{Name: name, Index: ifi.Index, MAC: l2.MAC(ifi.HardwareAddr), Up: true}
}

// own is the wanted state with some addresses on one link.
func own(link l2.Link, ips ...netip.Addr) l2.Wanted {
	w := l2.Wanted{Links: []l2.Link{link}}
	for _, ip := range ips {
		w.Addresses = append(w.Addresses, l2.Address{IP: ip, Interfaces: []string{link.Name}})
	}
	return w
}

// silent answers and announces nothing by itself.
func silent() l2.Config { return l2.Config{} }

// newDriver returns a driver, with an offload where TestOffloaded says so.
func newDriver(tb testing.TB, cfg Config) *Driver {
	tb.Helper()
	if os.Getenv(envOffload) != "" {
		cfg.Offload = newOffload(tb)
	}
	return New(cfg)
}

// running returns a driver that runs until the end of the test.
func running(tb testing.TB, cfg l2.Config) *Driver {
	tb.Helper()
	d := newDriver(tb, Config{Logger: slog.New(slog.DiscardHandler), L2: cfg, Retry: 20 * time.Millisecond})
	run(tb, d)
	return d
}

func run(tb testing.TB, d *Driver) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
}

// awaitState waits until the state is as wanted.
func awaitState(t *testing.T, d *Driver, check func(l2.State) bool) l2.State {
	t.Helper()
	var s l2.State
	netnstest.Eventually(t, func() error {
		if s = d.State(); !check(s) {
			return fmt.Errorf("state is %+v", s)
		}
		return nil
	})
	return s
}

// awaitNeighbor waits until the far kernel knows this MAC for an address.
func awaitNeighbor(t *testing.T, far *netnstest.NS, ip netip.Addr, want l2.MAC) {
	t.Helper()
	netnstest.Eventually(t, func() error {
		if got := far.Neighbor(t, "eth0", ip); !slices.Equal(got, want[:]) {
			return fmt.Errorf("%v is at %v, want %v", ip, got, want)
		}
		return nil
	})
}

// ask makes the far kernel send something to an address, so that it must find out its MAC.
func ask(t *testing.T, far *netnstest.NS, ip netip.Addr) {
	t.Helper()
	far.Do(t, func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(ip, 9).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
}

// wire is a bare socket at the far end, for what a kernel does not say on demand.
type wire struct {
	conn *packet.Conn
	mac  l2.MAC
	buf  []byte
}

func newWire(tb testing.TB, far *netnstest.NS, protocol int) *wire {
	tb.Helper()
	w := &wire{buf: make([]byte, 2048)}
	far.Do(tb, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		w.mac = l2.MAC(ifi.HardwareAddr)
		w.conn, err = packet.Listen(ifi, packet.Raw, protocol, nil)
		return err
	})
	tb.Cleanup(func() { w.conn.Close() })
	return w
}

func (w *wire) send(tb testing.TB, p l2.Packet) {
	tb.Helper()
	w.write(tb, l2.AppendFrame(nil, &p))
}

func (w *wire) write(tb testing.TB, frame []byte) {
	tb.Helper()
	if _, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		tb.Fatal(err)
	}
}

// receive returns the next packet of one of these kinds and its frame.
func (w *wire) receive(tb testing.TB, kinds ...l2.Kind) (l2.Packet, []byte) {
	tb.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	for {
		n, _, err := w.conn.ReadFrom(w.buf)
		if err != nil {
			tb.Fatalf("waiting for kinds %v: %v", kinds, err)
		}
		if p, err := l2.ParseFrame(w.buf[:n]); err == nil && slices.Contains(kinds, p.Kind) {
			return p, slices.Clone(w.buf[:n])
		}
	}
}

// unasked is like receive, but for answers: on a busy machine there may be one more of those that ready asked for.
func (w *wire) unasked(tb testing.TB, kind l2.Kind) l2.Packet {
	tb.Helper()
	for {
		if p, _ := w.receive(tb, kind); p.Dst != w.mac {
			return p
		}
	}
}

func broadcast() l2.MAC { return l2.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func (w *wire) request(ip netip.Addr) l2.Packet {
	return l2.Packet{
		Kind: l2.ARPRequest, Src: w.mac, Dst: broadcast(),
		SenderMAC: w.mac, SenderIP: far4.Addr(), TargetIP: ip,
	}
}

func (w *wire) solicitation(ip netip.Addr) l2.Packet {
	group := l2.SolicitedNode(ip)
	a := group.As16()
	return l2.Packet{
		Kind: l2.Solicitation, Src: w.mac, Dst: l2.MAC{0x33, 0x33, a[12], a[13], a[14], a[15]},
		SenderMAC: w.mac, SenderIP: far6.Addr(), TargetIP: ip, DestIP: group,
	}
}

// ready waits until the driver answers on the wire, and drops what else came so far.
func (w *wire) ready(tb testing.TB, ips ...netip.Addr) {
	tb.Helper()
	for _, ip := range ips {
		q, kind := w.request(ip), l2.ARPReply
		if ip.Is6() {
			q, kind = w.solicitation(ip), l2.Advertisement
		}
		netnstest.Eventually(tb, func() error {
			w.send(tb, q)
			if err := w.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				return err
			}
			for {
				n, _, err := w.conn.ReadFrom(w.buf)
				if err != nil {
					return fmt.Errorf("no answer for %v: %w", ip, err)
				}
				if p, err := l2.ParseFrame(w.buf[:n]); err == nil && p.Kind == kind && p.SenderIP == ip && p.Dst == w.mac {
					return nil
				}
			}
		})
	}
}

const (
	arp = unix.ETH_P_ARP
	ip6 = unix.ETH_P_IPV6
)
