// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

// BenchmarkARPReply measures, through veth pairs and a bridge, the time until the answer to an ARP request for one of
// 1,000 owned addresses, and for comparison the kernel's for an address of its own. Between two questions it sleeps:
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
	for i := range 1000 {
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
