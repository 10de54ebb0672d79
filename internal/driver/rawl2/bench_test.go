// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

// BenchmarkARPReply measures, through veth pairs and a bridge, the time until the answer to an ARP request for one of
// 10,000 owned addresses, and for comparison the kernel's for an address of its own. Between two questions it sleeps:
// an idle node that is asked is the ordinary case, and the harder one.
func BenchmarkARPReply(b *testing.B) {
	host, far := netnstest.Host(b), netnstest.New(b)
	netnstest.Veth(b, host, "bench0", far, "port0")
	netnstest.Veth(b, far, "eth0", far, "port1")
	far.Bridge(b, "br0", "port0", "port1")
	kernel := netip.MustParseAddr("192.0.2.100")
	host.AddAddr(b, "bench0", netip.PrefixFrom(kernel, 24))

	d := running(b, silent())
	var ips []netip.Addr
	for i := range 10_000 {
		ips = append(ips, netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}))
	}
	d.Set(own(link(b, "bench0"), ips...))
	w := newWire(b, far, arp)
	w.ready(b, ips[0], kernel)
	fd := -1
	raw, err := w.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name string
		ip   netip.Addr
	}{{"kernel", kernel}, {"herald", ips[500]}} {
		b.Run(bb.name, func(b *testing.B) {
			q := w.request(bb.ip)
			question := l2.AppendFrame(nil, &q)
			var times []time.Duration
			for b.Loop() {
				times = append(times, roundTrip(b, fd, question, bb.ip))
				b.StopTimer()
				time.Sleep(300 * time.Microsecond)
				b.StartTimer()
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}

// BenchmarkTakeOver measures the time from Set with 1,000 new addresses until all of them have been announced for the
// first time, at the far end of a cable.
func BenchmarkTakeOver(b *testing.B) {
	for _, family := range []int{4, 6} {
		b.Run(fmt.Sprintf("IPv%d", family), func(b *testing.B) {
			_, far := cable(b, fmt.Sprintf("taken%d", family))
			cfg := silent()
			cfg.Repeats = []time.Duration{0}
			d, l := running(b, cfg), link(b, fmt.Sprintf("taken%d", family))
			ips, protocol := make([]netip.Addr, 1000), arp
			for i := range ips {
				ips[i] = netip.AddrFrom4([4]byte{198, 51, byte(i / 250), byte(i%250 + 1)})
				if family == 6 {
					ips[i], protocol = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 14: byte(i >> 8), 15: byte(i)}), ip6
				}
			}
			w := newWire(b, far, protocol)
			raw, err := w.conn.SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
			}
			if err != nil {
				b.Fatal(err)
			}
			var times []time.Duration
			for b.Loop() {
				b.StopTimer()
				d.Set(own(l, vip4, vip6))
				w.ready(b, map[int]netip.Addr{4: vip4, 6: vip6}[family])
				if family == 6 {
					time.Sleep(300 * time.Millisecond) // the groups of the last time are being left
				}
				_ = w.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				b.StartTimer()
				begin, left := time.Now(), len(ips)
				d.Set(own(l, append([]netip.Addr{vip4, vip6}, ips...)...))
				for left > 0 {
					n, _, err := w.conn.ReadFrom(w.buf)
					if err != nil {
						b.Fatalf("%d of %d missing: %v", left, len(ips), err)
					}
					if p, err := l2.ParseFrame(w.buf[:n]); err == nil && p.SenderIP == p.TargetIP && p.Kind != l2.ARPReply && p.SenderIP != vip4 && p.SenderIP != vip6 {
						left--
					}
				}
				times = append(times, time.Since(begin))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(times[len(times)-1].Microseconds()), "max-us")
		})
	}
}

// roundTrip waits in a blocking system call, as the driver does.
func roundTrip(b *testing.B, fd int, question []byte, ip netip.Addr) time.Duration {
	b.Helper()
	buf := make([]byte, 2048)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	start := time.Now()
	if _, err := unix.Write(fd, question); err != nil {
		b.Fatal(err)
	}
	for {
		if n, err := unix.Poll(poll, 5000); err == nil && n == 0 {
			b.Fatal("no answer")
		}
		n, err := unix.Read(fd, buf)
		if err != nil {
			continue
		}
		if p, err := l2.ParseFrame(buf[:n]); err == nil && p.Kind == l2.ARPReply && p.SenderIP == ip {
			return time.Since(start)
		}
	}
}
