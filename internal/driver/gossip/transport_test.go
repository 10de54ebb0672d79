// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/internal/core/liveness"
	"github.com/heraldlb/herald/internal/driver/gossip"
)

func next(t *testing.T, m *member) liveness.Datagram {
	t.Helper()
	select {
	case d := <-m.Datagrams():
		return d
	case <-time.After(patience):
		t.Fatalf("%s: waited in vain for a datagram", m.name)
		return liveness.Datagram{}
	}
}

// TestDatagrams: heartbeats share the port with gossip and do not disturb it.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	data := []byte{liveness.Magic, 1, 2, 3}
	if err := a.WriteDatagram(data, b.State().Addr); err != nil {
		t.Fatal(err)
	}
	want := liveness.Datagram{From: a.State().Addr, Data: data}
	if diff := cmp.Diff(want, next(t, b), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("datagram (-want +got):\n%s", diff)
	}

	// More than anybody takes: they are dropped, and gossip goes on.
	for range 3000 {
		if err := a.WriteDatagram(data, b.State().Addr); err != nil {
			t.Fatal(err)
		}
	}
	a.Send([]byte("hello"))
	b.until(t, "hello", b.has(message("hello")))
	b.until(t, "dropped datagrams", func() bool { return b.State().Dropped > 0 })
	if n := b.count(func(e gossip.Event) bool { return e.Kind == gossip.MemberDown }); n != 0 {
		t.Errorf("%d members were lost", n)
	}
}

// TestQuiet: heartbeats that nobody waits for wake nobody up, and tell when they
// came.
func TestQuiet(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	quiet, loud := []byte{liveness.MagicQuiet, 1}, []byte{liveness.Magic, 2}
	b.Poll()
	for _, data := range [][]byte{quiet, loud} {
		if err := a.WriteDatagram(data, b.State().Addr); err != nil {
			t.Fatal(err)
		}
	}
	equal := cmpopts.EquateComparable(netip.AddrPort{})
	if diff := cmp.Diff(liveness.Datagram{From: a.State().Addr, Data: loud}, next(t, b), equal); diff != "" {
		t.Errorf("datagram (-want +got):\n%s", diff)
	}
	const pause = 50 * time.Millisecond
	time.Sleep(pause)
	got := b.Poll()
	if len(got) != 1 || got[0].Age < pause || got[0].Age > patience {
		t.Fatalf("got %+v, want one that is %v old", got, pause)
	}
	want := liveness.Datagram{From: a.State().Addr, Data: quiet, Age: got[0].Age}
	if diff := cmp.Diff(want, got[0], equal); diff != "" {
		t.Errorf("datagram (-want +got):\n%s", diff)
	}
	if again := b.Poll(); len(again) != 0 {
		t.Errorf("the same again: %+v", again)
	}
	b.stop()
	if rest := b.Poll(); len(rest) != 0 {
		t.Errorf("after the end: %+v", rest)
	}
}

// TestRefused: the host of a member that has died says so, and messages to
// others are sent all the same.
func TestRefused(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	dead, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	to := dead.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = dead.Close()
	var got liveness.Datagram
	for try := 0; got.Data == nil && !got.Refused; try++ { // kernels limit how often they say so
		if try == 100 {
			t.Fatal("nobody says that nobody listens")
		}
		if err := a.WriteDatagram([]byte{liveness.Magic}, to); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-a.Datagrams():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if diff := cmp.Diff(liveness.Datagram{From: to, Refused: true}, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("datagram (-want +got):\n%s", diff)
	}
	for range 200 { // the kernel reports the error of one with the next
		for _, addr := range []netip.AddrPort{to, b.State().Addr} {
			if err := a.WriteDatagram([]byte{liveness.Magic}, addr); err != nil {
				t.Fatalf("send to %s: %v", addr, err)
			}
		}
	}
	for range 200 {
		next(t, b)
	}
	if a.count(func(e gossip.Event) bool { return e.Kind == gossip.MemberDown }) != 0 {
		t.Error("a member was lost")
	}
}

// TestMeet exchanges states with a living member, and joins a stranger.
func TestMeet(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	before := a.count(state("state of b"))
	a.Meet(b.State().Addr)
	a.until(t, "b's state again", func() bool { return a.count(state("state of b")) > before })

	c := run(t, "c")
	a.Meet(c.State().Addr)
	a.until(t, "c", a.sees(b, c))
	c.until(t, "a and b", c.sees(a, b))
}

// TestHeartbeats: members tell that they send heartbeats.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for _, m := range []*member{a, b} {
		m.until(t, "a member that sends heartbeats", m.has(func(e gossip.Event) bool { return e.Kind == gossip.MemberUp && e.Heartbeats }))
	}
}

// TestIPv6 does the same with the other family.
func TestIPv6(t *testing.T) {
	t.Parallel()
	six := func(c *gossip.Config) { c.BindAddr = netip.IPv6Loopback() }
	a, b := run(t, "a", six), run(t, "b", six)
	a.want(b)
	a.until(t, "b", a.sees(b))
	for _, data := range [][]byte{{liveness.MagicQuiet}, {liveness.Magic}} {
		if err := a.WriteDatagram(data, b.State().Addr); err != nil {
			t.Fatal(err)
		}
	}
	next(t, b)
	if got := b.Poll(); len(got) != 1 || got[0].From != a.State().Addr {
		t.Errorf("got %+v, want one from %s", got, a.State().Addr)
	}
	dead := netip.AddrPortFrom(netip.IPv6Loopback(), 9)
	for try := 0; ; try++ {
		if err := a.WriteDatagram([]byte{liveness.Magic}, dead); err != nil {
			t.Fatal(err)
		}
		select {
		case d := <-a.Datagrams():
			if !d.Refused || d.From != dead {
				t.Fatalf("got %+v", d)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		if try == 50 {
			t.Fatal("nobody says that nobody listens")
		}
	}
}
