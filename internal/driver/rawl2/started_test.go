// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

// awaitStarted waits until the driver says that it answers for all of these.
func awaitStarted(t *testing.T, d *Driver, ips ...netip.Addr) {
	t.Helper()
	limit := time.After(5 * time.Second)
	for len(ips) > 0 {
		select {
		case started := <-d.Started():
			ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return slices.Contains(started, ip) })
		case <-limit:
			t.Fatalf("not started: %v", ips)
		}
	}
}

// await receives packets until the answer to a question about an address is among them.
func (w *wire) await(t *testing.T, kind l2.Kind, ip netip.Addr) {
	t.Helper()
	for {
		if p, _ := w.receive(t, kind); p.Dst == w.mac && p.SenderIP == ip {
			return
		}
	}
}

// TestStarted: when an address is said to be answered for, it was announced, and the very next question gets an answer:
// the socket is open and its filter lets the question through.
func TestStarted(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "started0")
	w4, w6 := newWire(t, far, arp), newWire(t, far, ip6)
	netnstest.Eventually(t, func() error { // the kernel drops what is sent before
		if ifi, err := net.InterfaceByName("started0"); err != nil || ifi.Flags&net.FlagRunning == 0 {
			return fmt.Errorf("the link does not run yet (error: %w)", err)
		}
		return nil
	})
	d, l := running(t, l2.DefaultConfig()), link(t, "started0")
	var ips []netip.Addr
	for i := range 100 {
		// Far from each other, so that each of them changes the filter.
		ip4 := netip.AddrFrom4([4]byte{198, byte(i), 1, 1})
		ip6 := netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 13: byte(i), 14: 1, 15: 1})
		ips = append(ips, ip4, ip6)
		d.Set(own(l, ips...))
		awaitStarted(t, d, ip4, ip6)
		for _, a := range d.State().Addresses {
			if a.GratuitousSent == 0 {
				t.Fatalf("started before it was announced: %+v", a)
			}
		}
		w4.send(t, w4.request(ip4)) // once
		w4.await(t, l2.ARPReply, ip4)
		w6.send(t, w6.solicitation(ip6))
		w6.await(t, l2.Advertisement, ip6)
		if len(ips) > 20 {
			ips = ips[2:]
		}
	}
}

// TestStartedAgain: an address that was away starts again, also when Run has not seen that it was.
func TestStartedAgain(t *testing.T) {
	t.Parallel()
	cable(t, "again0")
	d, l := running(t, l2.DefaultConfig()), link(t, "again0")
	for range 20 {
		d.Set(own(l, vip4))
		awaitStarted(t, d, vip4)
		d.Set(own(l))
	}
	d.Set(own(l, vip4))
	awaitStarted(t, d, vip4)
	d.Set(own(l, vip4))
	awaitState(t, d, func(s l2.State) bool { return s.Addresses[0].GratuitousSent > 2 }) // has been rescheduled
	d.Set(own(l, vip4, vip4.Next()))
	var ips []netip.Addr
	for limit := time.After(5 * time.Second); !slices.Contains(ips, vip4.Next()); {
		select {
		case more := <-d.Started():
			ips = append(ips, more...)
		case <-limit:
			t.Fatal("not started")
		}
	}
	if slices.Contains(ips, vip4) {
		t.Errorf("started without a reason: %v", ips)
	}
}

// TestStartedAndGone: what was told, and not heard yet, of an address that went or was set anew is taken back.
func TestStartedAndGone(t *testing.T) {
	t.Parallel()
	d := New(Config{Logger: slog.New(slog.DiscardHandler), L2: silent()})
	anew := vip4.Next()
	r := &runner{driver: d, told: map[netip.Addr]uint64{vip4: 1, anew: 2, vip6: 3}}
	r.reaches = []l2.Reach{{IP: anew, Number: 4}, {IP: vip6, Number: 3}}
	d.started <- []netip.Addr{vip4, anew, vip6}
	r.takeBack()
	if got := <-d.Started(); !slices.Equal(got, []netip.Addr{vip6}) {
		t.Errorf("still told of %v, want %v", got, vip6)
	}
	r.takeBack() // nothing to take
	d.started <- []netip.Addr{vip4}
	r.takeBack()
	if len(d.started) > 0 {
		t.Errorf("still told of %v", <-d.started)
	}
}

// TestStartedBroken: an interface that does not work holds up no other, and its addresses are not said to be answered
// for.
func TestStartedBroken(t *testing.T) {
	t.Parallel()
	cable(t, "broken0")
	d, l := running(t, silent()), link(t, "broken0")
	gone := l2.Link{Name: "nowhere1", Index: 99998, MAC: otherMAC, Up: true}
	both := vip4.Next().Next()
	d.Set(l2.Wanted{Links: []l2.Link{gone, l}, Addresses: []l2.Address{
		{IP: vip4, Interfaces: []string{gone.Name}},
		{IP: vip4.Next(), Interfaces: []string{l.Name}},
		{IP: both, Interfaces: []string{l.Name, gone.Name}},
	}})
	started := map[netip.Addr]bool{}
	for limit := time.After(5 * time.Second); !started[vip4.Next()] || !started[both]; {
		select {
		case ips := <-d.Started():
			for _, ip := range ips {
				started[ip] = true
			}
		case <-limit:
			t.Fatalf("only %v started", started)
		}
	}
	awaitState(t, d, func(s l2.State) bool { return len(s.Errors) > 0 })
	if started[vip4] {
		t.Error("an address without a socket is said to be answered for")
	}
}
