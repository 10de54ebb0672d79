// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NS is a network namespace.
type NS struct {
	// Handle changes and reads the namespace from anywhere.
	Handle *netlink.Handle

	ns netns.NsHandle
}

// Host returns the namespace that the test binary itself runs in.
func Host(tb testing.TB) *NS {
	tb.Helper()
	require(tb)
	ns, err := netns.Get()
	if err != nil {
		tb.Fatalf("get the namespace: %v", err)
	}
	return open(tb, ns)
}

// New makes another namespace. It is gone, with everything in it, at the end of the test.
func New(tb testing.TB) *NS {
	tb.Helper()
	require(tb)
	var ns netns.NsHandle
	err := onOwnThread(func() (err error) {
		ns, err = netns.New()
		return err
	})
	if err != nil {
		tb.Fatalf("make a namespace: %v", err)
	}
	return open(tb, ns)
}

func open(tb testing.TB, ns netns.NsHandle) *NS {
	tb.Helper()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		tb.Fatalf("open netlink: %v", err)
	}
	tb.Cleanup(func() {
		handle.Close()
		if err := ns.Close(); err != nil {
			tb.Errorf("close the namespace: %v", err)
		}
	})
	n := &NS{Handle: handle, ns: ns}
	// Without duplicate address detection an IPv6 address can be used at once.
	for _, setting := range []string{"accept_dad", "dad_transmits"} {
		for _, scope := range []string{"all", "default"} {
			n.Sysctl(tb, "net/ipv6/conf/"+scope+"/"+setting, "0")
		}
	}
	n.Up(tb, "lo")
	return n
}

// onOwnThread runs fn on a thread that ends with it, so that no other goroutine ever runs in its namespace.
func onOwnThread(fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		result <- fn()
	}()
	return <-result
}

// Do runs fn in the namespace. Sockets that it opens stay there and can be used from anywhere; goroutines that it
// starts do not.
func (n *NS) Do(tb testing.TB, fn func() error) {
	tb.Helper()
	err := onOwnThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter the namespace: %w", err)
		}
		return fn()
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Sysctl writes a value below /proc/sys.
func (n *NS) Sysctl(tb testing.TB, path, value string) {
	tb.Helper()
	n.Do(tb, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}

// Link returns an interface by its name.
func (n *NS) Link(tb testing.TB, name string) netlink.Link {
	tb.Helper()
	l, err := n.Handle.LinkByName(name)
	if err != nil {
		tb.Fatalf("link %s: %v", name, err)
	}
	return l
}

// Up sets an interface up.
func (n *NS) Up(tb testing.TB, name string) {
	tb.Helper()
	if err := n.Handle.LinkSetUp(n.Link(tb, name)); err != nil {
		tb.Fatalf("set %s up: %v", name, err)
	}
}

// Down sets an interface down; the other end of a veth pair loses its carrier.
func (n *NS) Down(tb testing.TB, name string) {
	tb.Helper()
	if err := n.Handle.LinkSetDown(n.Link(tb, name)); err != nil {
		tb.Fatalf("set %s down: %v", name, err)
	}
}

// SetMAC gives an interface another MAC.
func (n *NS) SetMAC(tb testing.TB, name string, mac [6]byte) {
	tb.Helper()
	if err := n.Handle.LinkSetHardwareAddr(n.Link(tb, name), mac[:]); err != nil {
		tb.Fatalf("set the MAC of %s: %v", name, err)
	}
}

// Delete removes an interface, and with it the other end of its veth pair.
func (n *NS) Delete(tb testing.TB, name string) {
	tb.Helper()
	if err := n.Handle.LinkDel(n.Link(tb, name)); err != nil {
		tb.Fatalf("delete %s: %v", name, err)
	}
}

// AddAddr gives an interface an address, usable at once.
func (n *NS) AddAddr(tb testing.TB, name string, prefix netip.Prefix) {
	tb.Helper()
	flags := 0
	if prefix.Addr().Is6() {
		flags = unix.IFA_F_NODAD
	}
	n.addAddr(tb, name, prefix, flags)
}

// AddLocal makes the namespace consider all addresses of a prefix its own.
func (n *NS) AddLocal(tb testing.TB, name string, prefix netip.Prefix) {
	tb.Helper()
	ip := prefix.Addr()
	route := &netlink.Route{
		LinkIndex: n.Link(tb, name).Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
		Dst: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen())},
	}
	if err := n.Handle.RouteAdd(route); err != nil {
		tb.Fatalf("make %v local: %v", prefix, err)
	}
}

// AddAddrDAD gives an interface an IPv6 address as a real host does, with duplicate address detection.
func (n *NS) AddAddrDAD(tb testing.TB, name string, prefix netip.Prefix) {
	tb.Helper()
	for _, setting := range []string{"accept_dad", "dad_transmits"} {
		n.Sysctl(tb, "net/ipv6/conf/"+name+"/"+setting, "1")
	}
	n.addAddr(tb, name, prefix, 0)
}

func (n *NS) addAddr(tb testing.TB, name string, prefix netip.Prefix, flags int) {
	tb.Helper()
	ip := prefix.Addr()
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen())},
		Flags: flags,
	}
	if err := n.Handle.AddrAdd(n.Link(tb, name), addr); err != nil {
		tb.Fatalf("add %v to %s: %v", prefix, name, err)
	}
}

// DelAddr takes an address from an interface.
func (n *NS) DelAddr(tb testing.TB, name string, prefix netip.Prefix) {
	tb.Helper()
	ip := prefix.Addr()
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen())}}
	if err := n.Handle.AddrDel(n.Link(tb, name), addr); err != nil {
		tb.Fatalf("delete %v from %s: %v", prefix, name, err)
	}
}

// AddRoute lets packets to a network take an interface and a gateway.
func (n *NS) AddRoute(tb testing.TB, name string, to netip.Prefix, gateway netip.Addr) {
	tb.Helper()
	route := &netlink.Route{
		LinkIndex: n.Link(tb, name).Attrs().Index, Gw: gateway.AsSlice(),
		Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
	}
	if err := n.Handle.RouteAdd(route); err != nil {
		tb.Fatalf("add a route to %v via %v: %v", to, gateway, err)
	}
}

// DADFailed reports whether duplicate address detection found another owner of an address of an interface.
func (n *NS) DADFailed(tb testing.TB, name string, ip netip.Addr) bool {
	tb.Helper()
	return n.flags6(tb, name, ip)&unix.IFA_F_DADFAILED != 0
}

// DADDone reports whether duplicate address detection found no other owner of an address of an interface.
func (n *NS) DADDone(tb testing.TB, name string, ip netip.Addr) bool {
	tb.Helper()
	return n.flags6(tb, name, ip)&(unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE) == 0
}

// flags6 returns the flags of an IPv6 address of an interface.
func (n *NS) flags6(tb testing.TB, name string, ip netip.Addr) int {
	tb.Helper()
	addrs, err := n.Handle.AddrList(n.Link(tb, name), netlink.FAMILY_V6)
	if err != nil {
		tb.Fatalf("list the addresses of %s: %v", name, err)
	}
	for _, a := range addrs {
		if got, ok := netip.AddrFromSlice(a.IP); ok && got == ip {
			return a.Flags
		}
	}
	tb.Fatalf("%s does not have %v", name, ip)
	return 0
}

// Neighbor returns the MAC that the kernel of the namespace holds for an address, nil if it has none.
func (n *NS) Neighbor(tb testing.TB, name string, ip netip.Addr) net.HardwareAddr {
	tb.Helper()
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	neighbors, err := n.Handle.NeighList(n.Link(tb, name).Attrs().Index, family)
	if err != nil {
		tb.Fatalf("list the neighbours of %s: %v", name, err)
	}
	const valid = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	for _, neighbor := range neighbors {
		if got, ok := netip.AddrFromSlice(neighbor.IP); ok && got.Unmap() == ip && neighbor.State&valid != 0 {
			return neighbor.HardwareAddr
		}
	}
	return nil
}

// SetNeighbor makes the kernel of the namespace believe, as if it had learned it, that an address has this MAC.
func (n *NS) SetNeighbor(tb testing.TB, name string, ip netip.Addr, mac [6]byte) {
	tb.Helper()
	err := n.Handle.NeighSet(&netlink.Neigh{
		LinkIndex: n.Link(tb, name).Attrs().Index, State: unix.NUD_REACHABLE, IP: ip.AsSlice(), HardwareAddr: mac[:],
	})
	if err != nil {
		tb.Fatalf("set neighbour %v of %s: %v", ip, name, err)
	}
}

// Veth connects two namespaces, or one with itself, with a cable whose ends are up. The ends get unicast MACs made by
// the kernel.
func Veth(tb testing.TB, a *NS, nameA string, b *NS, nameB string) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.ns))}
	if err := a.Handle.LinkAdd(pair); err != nil {
		tb.Fatalf("add veth %s - %s: %v", nameA, nameB, err)
	}
	tb.Cleanup(func() {
		l, err := a.Handle.LinkByName(nameA)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return // deleted by the test
		}
		if err == nil {
			err = a.Handle.LinkDel(l)
		}
		if err != nil {
			tb.Errorf("delete veth %s: %v", nameA, err)
		}
	})
	a.Up(tb, nameA)
	b.Up(tb, nameB)
}

// Bridge makes a bridge that is up and connects the named interfaces to it.
func (n *NS) Bridge(tb testing.TB, name string, ports ...string) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := n.Handle.LinkAdd(bridge); err != nil {
		tb.Fatalf("add bridge %s: %v", name, err)
	}
	for _, port := range ports {
		if err := n.Handle.LinkSetMaster(n.Link(tb, port), bridge); err != nil {
			tb.Fatalf("connect %s to %s: %v", port, name, err)
		}
	}
	n.Up(tb, name)
}

// Eventually waits until check returns nil, because kernels take their time; after five seconds the test fails with
// the last error.
func Eventually(tb testing.TB, check func() error) {
	tb.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("after 5 s: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
