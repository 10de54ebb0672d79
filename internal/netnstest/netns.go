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
func Host(t testing.TB) *NS {
	t.Helper()
	require(t)
	ns, err := netns.Get()
	if err != nil {
		t.Fatalf("get the namespace: %v", err)
	}
	return open(t, ns)
}

// New makes another namespace. It is gone, with everything in it, at the end of the test.
func New(t testing.TB) *NS {
	t.Helper()
	require(t)
	var ns netns.NsHandle
	err := onOwnThread(func() (err error) {
		ns, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	return open(t, ns)
}

func open(t testing.TB, ns netns.NsHandle) *NS {
	t.Helper()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatalf("open netlink: %v", err)
	}
	t.Cleanup(func() {
		handle.Close()
		if err := ns.Close(); err != nil {
			t.Errorf("close the namespace: %v", err)
		}
	})
	n := &NS{Handle: handle, ns: ns}
	// Without duplicate address detection an IPv6 address can be used at once.
	for _, setting := range []string{"accept_dad", "dad_transmits"} {
		for _, scope := range []string{"all", "default"} {
			n.Sysctl(t, "net/ipv6/conf/"+scope+"/"+setting, "0")
		}
	}
	n.Up(t, "lo")
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
func (n *NS) Do(t testing.TB, fn func() error) {
	t.Helper()
	err := onOwnThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter the namespace: %w", err)
		}
		return fn()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sysctl writes a value below /proc/sys.
func (n *NS) Sysctl(t testing.TB, path, value string) {
	t.Helper()
	n.Do(t, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}

// Link returns an interface by its name.
func (n *NS) Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := n.Handle.LinkByName(name)
	if err != nil {
		t.Fatalf("link %s: %v", name, err)
	}
	return l
}

// Up sets an interface up.
func (n *NS) Up(t testing.TB, name string) {
	t.Helper()
	if err := n.Handle.LinkSetUp(n.Link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// Down sets an interface down; the other end of a veth pair loses its carrier.
func (n *NS) Down(t testing.TB, name string) {
	t.Helper()
	if err := n.Handle.LinkSetDown(n.Link(t, name)); err != nil {
		t.Fatalf("set %s down: %v", name, err)
	}
}

// SetMAC gives an interface another MAC.
func (n *NS) SetMAC(t testing.TB, name string, mac [6]byte) {
	t.Helper()
	if err := n.Handle.LinkSetHardwareAddr(n.Link(t, name), mac[:]); err != nil {
		t.Fatalf("set the MAC of %s: %v", name, err)
	}
}

// Delete removes an interface, and with it the other end of its veth pair.
func (n *NS) Delete(t testing.TB, name string) {
	t.Helper()
	if err := n.Handle.LinkDel(n.Link(t, name)); err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

// AddAddr gives an interface an address, usable at once.
func (n *NS) AddAddr(t testing.TB, name string, prefix netip.Prefix) {
	t.Helper()
	flags := 0
	if prefix.Addr().Is6() {
		flags = unix.IFA_F_NODAD
	}
	n.addAddr(t, name, prefix, flags)
}

// AddAddrDAD gives an interface an IPv6 address as a real host does, with duplicate address detection.
func (n *NS) AddAddrDAD(t testing.TB, name string, prefix netip.Prefix) {
	t.Helper()
	for _, setting := range []string{"accept_dad", "dad_transmits"} {
		n.Sysctl(t, "net/ipv6/conf/"+name+"/"+setting, "1")
	}
	n.addAddr(t, name, prefix, 0)
}

func (n *NS) addAddr(t testing.TB, name string, prefix netip.Prefix, flags int) {
	t.Helper()
	ip := prefix.Addr()
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen())},
		Flags: flags,
	}
	if err := n.Handle.AddrAdd(n.Link(t, name), addr); err != nil {
		t.Fatalf("add %v to %s: %v", prefix, name, err)
	}
}

// DADFailed reports whether duplicate address detection found another owner of an address of an interface.
func (n *NS) DADFailed(t testing.TB, name string, ip netip.Addr) bool {
	t.Helper()
	addrs, err := n.Handle.AddrList(n.Link(t, name), netlink.FAMILY_V6)
	if err != nil {
		t.Fatalf("list the addresses of %s: %v", name, err)
	}
	for _, a := range addrs {
		if got, ok := netip.AddrFromSlice(a.IP); ok && got == ip {
			return a.Flags&unix.IFA_F_DADFAILED != 0
		}
	}
	t.Fatalf("%s does not have %v", name, ip)
	return false
}

// Neighbor returns the MAC that the kernel of the namespace holds for an address, nil if it has none.
func (n *NS) Neighbor(t testing.TB, name string, ip netip.Addr) net.HardwareAddr {
	t.Helper()
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	neighbors, err := n.Handle.NeighList(n.Link(t, name).Attrs().Index, family)
	if err != nil {
		t.Fatalf("list the neighbours of %s: %v", name, err)
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
func (n *NS) SetNeighbor(t testing.TB, name string, ip netip.Addr, mac [6]byte) {
	t.Helper()
	err := n.Handle.NeighSet(&netlink.Neigh{
		LinkIndex: n.Link(t, name).Attrs().Index, State: unix.NUD_REACHABLE, IP: ip.AsSlice(), HardwareAddr: mac[:],
	})
	if err != nil {
		t.Fatalf("set neighbour %v of %s: %v", ip, name, err)
	}
}

// Veth connects two namespaces, or one with itself, with a cable whose ends are up. The ends get unicast MACs made by
// the kernel.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.ns))}
	if err := a.Handle.LinkAdd(pair); err != nil {
		t.Fatalf("add veth %s - %s: %v", nameA, nameB, err)
	}
	t.Cleanup(func() {
		l, err := a.Handle.LinkByName(nameA)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return // deleted by the test
		}
		if err == nil {
			err = a.Handle.LinkDel(l)
		}
		if err != nil {
			t.Errorf("delete veth %s: %v", nameA, err)
		}
	})
	a.Up(t, nameA)
	b.Up(t, nameB)
}

// Bridge makes a bridge that is up and connects the named interfaces to it.
func (n *NS) Bridge(t testing.TB, name string, ports ...string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := n.Handle.LinkAdd(bridge); err != nil {
		t.Fatalf("add bridge %s: %v", name, err)
	}
	for _, port := range ports {
		if err := n.Handle.LinkSetMaster(n.Link(t, port), bridge); err != nil {
			t.Fatalf("connect %s to %s: %v", port, name, err)
		}
	}
	n.Up(t, name)
}

// Eventually waits until check returns nil, because kernels take their time; after five seconds the test fails with
// the last error.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 5 s: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
