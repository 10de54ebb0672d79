// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Here is the namespace of the calling process.
const Here = "/proc/self/ns/net"

// in runs fn with a netlink handle in a namespace.
func in(path string, fn func(*netlink.Handle) error) error {
	return Do(path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer h.Close()
		return fn(h)
	})
}

// Up sets an interface up.
func Up(path, link string) error { return setUp(path, link, true) }

// Down sets an interface down. The other end of a veth pair loses its carrier.
func Down(path, link string) error { return setUp(path, link, false) }

func setUp(path, name string, up bool) error {
	return in(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		set := h.LinkSetDown
		if up {
			set = h.LinkSetUp
		}
		if err := set(link); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		return nil
	})
}

// Bridge makes a switch that forwards at once and to everybody: no spanning tree, no multicast snooping.
func Bridge(path, name string) error {
	return in(path, func(h *netlink.Handle) error {
		snooping := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snooping}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("bridge %s: %w", name, err)
		}
		return h.LinkSetUp(br)
	})
}

// A Cable is a veth pair between two namespaces.
type Cable struct {
	Near, Far         string // namespaces
	NearName, FarName string // interfaces
	NearMAC, FarMAC   net.HardwareAddr
}

// Connect makes the pair. Both ends are still down.
func (c Cable) Connect() error {
	return in(c.Near, func(h *netlink.Handle) error {
		far, err := unix.Open(c.Far, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("network namespace %s: %w", c.Far, err)
		}
		defer unix.Close(far)
		veth := &netlink.Veth{
			LinkAttrs:        netlink.LinkAttrs{Name: c.NearName, HardwareAddr: c.NearMAC},
			PeerName:         c.FarName,
			PeerHardwareAddr: c.FarMAC,
			PeerNamespace:    netlink.NsFd(far),
		}
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth %s to %s in %s: %w", c.NearName, c.FarName, c.Far, err)
		}
		return nil
	})
}

// Attach makes an interface a port of a bridge; an empty bridge takes it off.
func Attach(path, name, bridge string) error {
	return in(path, func(h *netlink.Handle) error {
		port, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		if bridge == "" {
			return h.LinkSetNoMaster(port)
		}
		br, err := h.LinkByName(bridge)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", bridge, err)
		}
		return h.LinkSetMaster(port, br)
	})
}

// Remove deletes an interface if it exists.
func Remove(path, name string) error {
	return in(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		return h.LinkDel(link)
	})
}

// Address gives an interface an address, at once usable: no duplicate address detection.
func Address(path, name string, addr netip.Prefix) error {
	return in(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		a := &netlink.Addr{IPNet: ipNet(addr)}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s on %s: %w", addr, name, err)
		}
		return nil
	})
}

// A Route leads to Dst by way of Via (the zero Addr: directly) on the interface Dev (may be empty if Via says it).
type Route struct {
	Dst    netip.Prefix
	Via    netip.Addr
	Dev    string
	OnLink bool // Via is reachable on Dev though no route says so
}

// AddRoute adds a route, or replaces the one to the same destination.
func AddRoute(path string, r Route) error {
	return in(path, func(h *netlink.Handle) error {
		route := &netlink.Route{Dst: ipNet(r.Dst), Scope: netlink.SCOPE_LINK}
		if r.Via.IsValid() {
			route.Gw, route.Scope = r.Via.AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if r.OnLink {
			route.Flags = int(netlink.FLAG_ONLINK)
		}
		if r.Dev != "" {
			link, err := h.LinkByName(r.Dev)
			if err != nil {
				return fmt.Errorf("interface %s: %w", r.Dev, err)
			}
			route.LinkIndex = link.Attrs().Index
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s via %s: %w", r.Dst, r.Via, err)
		}
		return nil
	})
}

// Neighbour tells an interface the hardware address of a neighbour for good.
func Neighbour(path, name string, ip netip.Addr, mac net.HardwareAddr) error {
	return in(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		n := &netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: ip.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
		}
		if err := h.NeighSet(n); err != nil {
			return fmt.Errorf("neighbour %s on %s: %w", ip, name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
