// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

func TestKernelResolves(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "resolve0")
	d, l := running(t, silent()), link(t, "resolve0")
	d.Set(own(l, vip4, vip6))
	for _, ip := range []netip.Addr{vip4, vip6} {
		ask(t, far, ip)
		awaitNeighbor(t, far, ip, l.MAC)
	}
	s := d.State()
	if len(s.Errors)+len(s.Conflicts) > 0 {
		t.Errorf("state: %+v", s)
	}
	for _, a := range s.Addresses {
		if a.RequestsReceived == 0 || a.RequestsReceived != a.ResponsesSent || a.GratuitousSent != 0 || a.Phase != l2.PhaseAnnouncing {
			t.Errorf("state of an address: %+v", a)
		}
	}
}

// TestTakeOver: the far kernel has the address at another MAC; announcements alone turn it to us.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "takeover0")
	d, l := running(t, l2.DefaultConfig()), link(t, "takeover0")
	for _, ip := range []netip.Addr{vip4, vip6} {
		far.SetNeighbor(t, "eth0", ip, otherMAC)
	}
	begin := time.Now()
	d.Set(own(l, vip4, vip6))
	for _, ip := range []netip.Addr{vip4, vip6} {
		awaitNeighbor(t, far, ip, l.MAC)
	}
	t.Logf("turned after %v", time.Since(begin))
	for _, a := range d.State().Addresses {
		if a.GratuitousSent == 0 {
			t.Errorf("not counted: %+v", a)
		}
	}
}

// TestSetBeforeRun: what was set first is announced when Run starts.
func TestSetBeforeRun(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "before0")
	w, l := newWire(t, far, arp), link(t, "before0")
	d := newDriver(t, Config{Logger: slog.New(slog.DiscardHandler), L2: l2.DefaultConfig()})
	d.Set(own(l, vip4))
	run(t, d)
	if p, _ := w.receive(t, l2.ARPRequest); p.SenderIP != vip4 || p.SenderMAC != l.MAC || p.Dst != broadcast() {
		t.Errorf("announced: %+v", p)
	}
}

// TestKernelDAD: a host that tries to take our address finds out that it is taken.
func TestKernelDAD(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "dad0")
	d := running(t, silent())
	d.Set(own(link(t, "dad0"), vip6))
	newWire(t, far, ip6).ready(t, vip6)
	far.AddAddrDAD(t, "eth0", netip.PrefixFrom(vip6, 64))
	netnstest.Eventually(t, func() error {
		if !far.DADFailed(t, "eth0", vip6) {
			return fmt.Errorf("the far kernel keeps %v", vip6)
		}
		return nil
	})
}

// TestInterfaceChanges: whatever happens to the interface, the far kernel ends up with its present MAC.
func TestInterfaceChanges(t *testing.T) {
	t.Parallel()
	host, far := cable(t, "change0")
	d := running(t, l2.DefaultConfig())
	check := func(what string) {
		t.Helper()
		l := link(t, "change0")
		d.Set(own(l, vip4, vip6))
		w4, w6 := newWire(t, far, arp), newWire(t, far, ip6)
		w4.ready(t, vip4)
		w6.ready(t, vip6)
		for _, ip := range []netip.Addr{vip4, vip6} {
			ask(t, far, ip)
			awaitNeighbor(t, far, ip, l.MAC)
		}
		// A packet socket hears the group in any case; a switch with MLD snooping does not bring it to who has not joined.
		netnstest.Eventually(t, func() error {
			if !joined(t, "change0", l2.SolicitedNode(vip6)) {
				return fmt.Errorf("%s: not in the group of %v", what, vip6)
			}
			return nil
		})
		if errs := d.State().Errors; len(errs) > 0 {
			t.Errorf("%s: %+v", what, errs)
		}
	}
	check("first")

	mac := l2.MAC{2, 0, 0, 0, 0, 0x77}
	host.SetMAC(t, "change0", mac)
	d.Set(own(link(t, "change0"), vip4, vip6))
	for _, ip := range []netip.Addr{vip4, vip6} {
		awaitNeighbor(t, far, ip, mac) // by the announcements, nobody asked
	}
	check("new MAC")

	before := d.State().Addresses
	host.Delete(t, "change0")
	awaitState(t, d, func(s l2.State) bool { return len(s.Errors) == 2 }) // noticed without being told
	d.Set(l2.Wanted{Addresses: own(l2.Link{Name: "change0"}, vip4, vip6).Addresses})
	awaitState(t, d, func(s l2.State) bool { return len(s.Errors) == 0 && s.Addresses[0].Phase == l2.PhaseIdle })
	connect(t, host, "change0", far)
	check("made anew")
	for i, a := range d.State().Addresses {
		if a.ResponsesSent <= before[i].ResponsesSent {
			t.Errorf("counters started anew: before %+v, now %+v", before[i], a)
		}
	}

	// Down and up again, faster than anybody tells the driver: it recovers and announces by itself.
	sent := d.State().Addresses[0].GratuitousSent
	host.Down(t, "change0")
	host.Up(t, "change0")
	awaitState(t, d, func(s l2.State) bool { return len(s.Errors) == 0 && s.Addresses[0].GratuitousSent > sent+1 })
	check("down and up")
}

// TestRelease: what is taken away is answered no more when Set returns, and the rest still is.
func TestRelease(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "release0")
	d, l := running(t, silent()), link(t, "release0")
	second := vip4.Next()
	d.Set(own(l, vip4, second))
	w := newWire(t, far, arp)
	w.ready(t, vip4, second)
	d.Set(own(l, second))
	gone, kept := w.request(vip4), w.request(second)
	gone.SenderIP = netip.MustParseAddr("192.0.2.222")
	kept.SenderIP = gone.SenderIP
	w.send(t, gone)
	w.send(t, kept)
	for {
		p, _ := w.receive(t, l2.ARPReply)
		if p.TargetIP != gone.SenderIP {
			continue // to an earlier question
		}
		if p.SenderIP != second {
			t.Errorf("answered after Set: %+v", p)
		}
		return
	}
}

// TestBridge: of a bridge the master answers, as the link of the host that it is.
func TestBridge(t *testing.T) {
	t.Parallel()
	host, far := cable(t, "port0")
	host.Bridge(t, "master0", "port0")
	t.Cleanup(func() { host.Delete(t, "master0") })
	d, l := running(t, l2.DefaultConfig()), link(t, "master0")
	wanted := own(l, vip4, vip6)
	for i := range wanted.Addresses {
		wanted.Addresses[i].Probe = true
	}
	d.Set(wanted)
	awaitState(t, d, func(s l2.State) bool {
		return s.Addresses[0].Phase == l2.PhaseAnnouncing && s.Addresses[1].Phase == l2.PhaseAnnouncing
	})
	for _, ip := range []netip.Addr{vip4, vip6} {
		ask(t, far, ip)
		awaitNeighbor(t, far, ip, l.MAC)
	}
	if s := d.State(); len(s.Errors)+len(s.Conflicts) > 0 {
		t.Errorf("state: %+v", s)
	}
}

// TestManyIPv6 joins more groups than one socket may, answers for all of them, and leaves them.
func TestManyIPv6(t *testing.T) {
	t.Parallel()
	host, far := cable(t, "many0")
	host.Sysctl(t, "net/core/optmem_max", "20480") // the default of older kernels
	d, l := running(t, silent()), link(t, "many0")
	var ips []netip.Addr
	for i := range 10_000 {
		ips = append(ips, netip.MustParseAddr(fmt.Sprintf("2001:db8::aa:%x", i)))
	}
	begin := time.Now()
	d.Set(own(l, ips...))
	awaitGroups(t, len(ips))
	t.Logf("joined %d groups in %v", len(ips), time.Since(begin))
	w := newWire(t, far, ip6)
	w.ready(t, ips[0])
	for i := 1; i < len(ips); i += 9 {
		ip := ips[i]
		w.send(t, w.solicitation(ip))
		if p, _ := w.receive(t, l2.Advertisement); p.TargetIP != ip {
			t.Fatalf("asked for %v, got %+v", ip, p)
		}
	}
	// Two addresses share a group: it stays until both are gone.
	twin := netip.MustParseAddr("2001:db8:0:1::aa:0")
	d.Set(own(l, ips[0], twin))
	awaitGroups(t, 1)
	d.Set(own(l, twin))
	w.ready(t, twin)
	awaitGroups(t, 1)
	d.Set(own(l))
	awaitGroups(t, 0)
	if errs := d.State().Errors; len(errs) > 0 {
		t.Errorf("errors: %+v", errs)
	}
}

// joined says whether the kernel is in a group on an interface.
func joined(t *testing.T, name string, group netip.Addr) bool {
	t.Helper()
	return slices.Contains(groupsOf6(t, name), fmt.Sprintf("%x", group.As16()))
}

// groupsOf6 lists the IPv6 groups that the kernel is in on an interface, as it writes them.
func groupsOf6(t *testing.T, name string) (groups []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == name {
			groups = append(groups, fields[2])
		}
	}
	return groups
}

// groupsOn counts the solicited-node groups of addresses that end in ::aa:0 to ::aa:ffff that the kernel is in on an
// interface. It asks as this thread: the first one of the process may have been left in another namespace
// by NS.Do.
func groupsOn(t *testing.T, name string) int {
	t.Helper()
	n := 0
	for _, group := range groupsOf6(t, name) {
		if strings.HasPrefix(group, "ff0200000000000000000001ffaa") {
			n++
		}
	}
	return n
}

// awaitGroups takes its time: joining 10,000 groups keeps the kernel busy, and so does counting them.
func awaitGroups(t *testing.T, want int) {
	t.Helper()
	got := groupsOn(t, "many0")
	for deadline := time.Now().Add(time.Minute); got != want; got = groupsOn(t, "many0") {
		if time.Now().After(deadline) {
			t.Fatalf("in %d groups, want %d", got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestErrors: what does not work is said, in words, and forgotten when it is no longer wanted.
func TestErrors(t *testing.T) {
	t.Parallel()
	netnstest.Host(t)
	d := running(t, silent())
	d.Set(own(l2.Link{Name: "nowhere0", Index: 99999, MAC: otherMAC, Up: true}, vip4, vip6))
	s := awaitState(t, d, func(s l2.State) bool { return len(s.Errors) == 3 })
	for i, start := range []string{"ARP: ", "IPv6 multicast groups: ", "NDP: "} {
		if e := s.Errors[i]; e.Interface != "nowhere0" || !strings.HasPrefix(e.Message, start) || !strings.Contains(e.Message, "no such device") {
			t.Errorf("error %d: %+v", i, e)
		}
		if e := s.Errors[i]; e.NoIPv4 != (i == 0) || e.NoIPv6 != (i == 2) {
			t.Errorf("error %d is about the wrong family: %+v", i, e)
		}
	}
	select {
	case <-d.Changed():
	default:
		t.Error("no signal")
	}
	d.Set(l2.Wanted{})
	awaitState(t, d, func(s l2.State) bool { return len(s.Errors) == 0 })
}
