// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/netnstest"
)

// wire is a BFD port in another namespace, without a BFD program.
type wire struct {
	t  testing.TB
	fd int
	in receiver
}

func newWire(tb testing.TB, ns *netnstest.NS, at netip.Addr, port int) *wire {
	tb.Helper()
	w := &wire{t: tb, fd: -1}
	ns.Do(tb, func() error {
		l, err := openListener(listenerKey{port: port, v6: at.Is6()}, false)
		if err == nil {
			w.fd = l.fd
		}
		return err
	})
	tb.Cleanup(func() { _ = unix.Close(w.fd) })
	return w
}

// next waits for a packet.
func (w *wire) next() bfd.Packet {
	w.t.Helper()
	var p bfd.Packet
	netnstest.Eventually(w.t, func() error {
		n, err := w.in.read(w.fd)
		if err == nil {
			p, err = bfd.Parse(w.in.payload[:n])
		}
		return err
	})
	return p
}

// send sends a payload to a port of this host with a TTL.
func (w *wire) send(to netip.Addr, port, ttl int, payload []byte) {
	w.t.Helper()
	level, option := unix.IPPROTO_IP, unix.IP_TTL
	if to.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	if err := unix.SetsockoptInt(w.fd, level, option, ttl); err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Sendto(w.fd, payload, 0, socketAddress(to, port, 0)); err != nil {
		w.t.Fatal(err)
	}
}

func down() *bfd.Packet {
	return &bfd.Packet{State: bfd.Down, Multiplier: 3, MyDiscriminator: 7, DesiredMinTx: 1e6, RequiredMinRx: 1e6}
}

// TestPackets looks at what goes out: RFC 5881 sections 4 and 5.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestPackets(t *testing.T) {
	for _, tt := range []struct {
		name, link string
		key        bfd.Key
		from       netip.Addr
		port       int
	}{
		{"IPv4", "wire4", bfd.Key{Peer: far4.Addr()}, host4.Addr(), 3784},
		{"IPv6", "wire6", bfd.Key{Peer: far6.Addr()}, host6.Addr(), 3784},
		{"multihop", "wirem", bfd.Key{Peer: far4.Addr(), Multihop: true}, host4.Addr(), 4784},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, far := cable(t, tt.link)
			w := newWire(t, far, far4.Addr(), tt.port)
			if tt.key.Peer.Is6() {
				w = newWire(t, far, far6.Addr(), tt.port)
			}
			d := running(t)
			d.Set([]bfd.Session{{Key: tt.key, Settings: settings(50 * ms)}})
			first := w.next()
			if first.State != bfd.Down || first.DesiredMinTx != 1_000_000 || first.RequiredMinRx != 50_000 || first.Multiplier != 3 {
				t.Errorf("packet %+v", first)
			}
			if w.in.ttl != 255 || w.in.from != tt.from {
				t.Errorf("from %v with TTL %d, want %v with 255", w.in.from, w.in.ttl, tt.from)
			}
			port := sourcePort(&w.in)
			if port < 49152 {
				t.Errorf("source port %d", port)
			}
			w.next()
			if again := sourcePort(&w.in); again != port {
				t.Errorf("source port changed from %d to %d", port, again)
			}

			// Answered, it comes up at once.
			answer := down()
			answer.State, answer.YourDiscriminator = bfd.Init, first.MyDiscriminator
			w.send(tt.from, tt.port, 255, answer.Append(nil))
			if p := w.next(); p.State != bfd.Up || !p.Poll || p.YourDiscriminator != 7 || p.DesiredMinTx != 50_000 {
				t.Errorf("packet %+v", p)
			}
		})
	}
}

func sourcePort(r *receiver) int { return int(r.name[2])<<8 | int(r.name[3]) }

// TestDrops: what comes from elsewhere, over a hop, or is no BFD, changes nothing and is counted.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestDrops(t *testing.T) {
	_, far := cable(t, "drop0")
	far.AddAddr(t, "eth0", netip.MustParsePrefix("192.0.2.3/24"))
	w := newWire(t, far, far4.Addr(), 3784)
	d := running(t)
	key := bfd.Key{Peer: netip.MustParseAddr("192.0.2.3")}
	d.Set([]bfd.Session{{Key: key, Settings: settings(50 * ms)}})
	w.next() // the sockets are open

	w.send(host4.Addr(), 3784, 255, down().Append(nil)) // from .2, which is nobody
	w.send(host4.Addr(), 3784, 255, []byte("hello"))
	w.send(host4.Addr(), 3784, 255, nil)
	w.send(host4.Addr(), 3784, 255, make([]byte, 1400))
	netnstest.Eventually(t, func() error {
		if s := d.State(); s.Unknown != 1 || s.Malformed != 3 {
			return fmt.Errorf("state is %+v", s)
		}
		return nil
	})

	d.Set([]bfd.Session{{Key: bfd.Key{Peer: far4.Addr()}, Settings: settings(50 * ms)}})
	w.send(host4.Addr(), 3784, 254, down().Append(nil))
	key = bfd.Key{Peer: far4.Addr()}
	s := d.await(t, key, "dropping", func(s Session) bool { return s.Dropped == 1 })
	if s.State != bfd.Down || s.Received != 0 || !strings.Contains(s.LastDrop, "TTL 254") {
		t.Errorf("session %+v", s)
	}
	w.send(host4.Addr(), 3784, 255, down().Append(nil))
	d.awaitState(t, key, bfd.Init)
}

// TestProblems: what keeps packets from being sent or received is told, and over when it is over.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestProblems(t *testing.T) {
	host, far := cable(t, "prob0")
	other, err := openListener(listenerKey{port: 3784}, false)
	if err != nil {
		t.Fatal(err)
	}
	d := running(t)
	failing := func(key bfd.Key, want string) {
		t.Helper()
		d.await(t, key, "failing: "+want, func(s Session) bool { return strings.Contains(s.Error, want) })
	}
	working := func(key bfd.Key) {
		t.Helper()
		d.await(t, key, "working", func(s Session) bool {
			return s.Sent > 0 && (s.Error == "" || s.Error == errRefused.Error())
		})
	}
	keys := map[string]bfd.Key{
		"another program": {Peer: far4.Addr()},
		"no route":        {Peer: netip.MustParseAddr("203.0.113.1"), Multihop: true},
		"no address":      {Peer: far4.Addr(), Source: netip.MustParseAddr("192.0.2.77"), Multihop: true},
		"no interface":    {Peer: netip.MustParseAddr("fe80::9%prob1")},
		"no device":       {Peer: far6.Addr(), Device: "prob1"},
		"no BFD":          {Peer: far6.Addr(), Multihop: true},
	}
	var wanted []bfd.Session
	for _, key := range keys {
		wanted = append(wanted, bfd.Session{Key: key, Settings: settings(50 * ms)})
	}
	d.Set(wanted)
	failing(keys["another program"], "does another BFD program run on this node?")
	failing(keys["no route"], "find a way to 203.0.113.1: network is unreachable")
	failing(keys["no address"], "use source address 192.0.2.77: cannot assign requested address")
	failing(keys["no interface"], "find interface prob1")
	failing(keys["no device"], "use device prob1: no such device")
	failing(keys["no BFD"], "router refuses BFD packets: is BFD enabled there?")

	other.close()
	host.AddAddr(t, "prob0", netip.MustParsePrefix("203.0.113.2/24"))
	host.AddAddr(t, "prob0", netip.MustParsePrefix("192.0.2.77/24"))
	netnstest.Veth(t, host, "prob1", far, "eth1")
	host.AddAddr(t, "prob1", netip.MustParsePrefix("fe80::8/64"))
	host.AddAddr(t, "prob1", netip.MustParsePrefix("2001:db8::3/64"))
	for what, key := range keys {
		if what != "no BFD" {
			working(key)
		}
	}
	d.Set(nil)
	if s := d.State(); len(s.Sessions) != 0 {
		t.Errorf("state %+v", s)
	}
}

// TestInterfaceRemade: a link-local session survives that its interface is made anew under the same name.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestInterfaceRemade(t *testing.T) {
	host := netnstest.Host(t)
	d := running(t)
	key := bfd.Key{Peer: farL.Addr().WithZone("again0")}
	d.Set([]bfd.Session{{Key: key, Settings: settings(50 * ms)}})
	for range 2 {
		_, far := cable(t, "again0")
		w := newWire(t, far, farL.Addr(), 3784)
		w.next()
		host.Delete(t, "again0")
		d.await(t, key, "failing", func(s Session) bool { return s.Error != "" })
	}
}
