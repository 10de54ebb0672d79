// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/netnstest"
)

// frrConfig is a bfdd configuration with one peer.
func frrConfig(peer, more string) string {
	return fmt.Sprintf(`
bfd
 peer %s
  detect-multiplier 3
  transmit-interval 50
  receive-interval 50
  %s
  no shutdown
`, peer, more)
}

func settings(interval time.Duration) bfd.Settings {
	return bfd.Settings{Transmit: interval, Receive: interval, Multiplier: 3}
}

//nolint:paralleltest // the ports belong to one driver at a time
func TestFRRSingleHop(t *testing.T) {
	for _, tt := range []struct {
		name, link, peer string
		key              bfd.Key
	}{
		{"IPv4", "frr4", "192.0.2.1 local-address 192.0.2.2", bfd.Key{Peer: far4.Addr()}},
		{"IPv6", "frr6", "2001:db8::1 local-address 2001:db8::2", bfd.Key{Peer: far6.Addr(), Source: host6.Addr()}},
		{"link-local", "frrl", "fe80::1 local-address fe80::2 interface eth0", bfd.Key{Peer: farL.Addr().WithZone("frrl")}},
		{"device", "frrd", "192.0.2.1 interface eth0", bfd.Key{Peer: far4.Addr(), Device: "frrd"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, far := cable(t, tt.link)
			d := running(t)
			d.Set([]bfd.Session{{Key: tt.key, Settings: settings(50 * ms)}})
			r := newFRR(t, far, frrConfig(tt.peer, ""))
			d.awaitState(t, tt.key, bfd.Up)
			local := netip.MustParsePrefix(hostAddress(tt.key)).Addr()
			r.awaitPeer(local, "up at 50 ms", func(p frrPeer) bool { return p.Status == "up" && p.Tx == 50 && p.Rx == 50 })
			s := d.await(t, tt.key, "at 50 ms", func(s Session) bool {
				return s.TransmitInterval == 50*ms && s.DetectionTime == 150*ms
			})
			if s.Error != "" || s.Received == 0 || s.Sent == 0 {
				t.Errorf("session %+v", s)
			}
			steady(t, d, tt.key, time.Second, 50*ms)

			// Killed, FRR says nothing any more.
			if err := r.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			d.awaitState(t, tt.key, bfd.Down)
			last := d.awaitEvents(t, 1, bfd.Failed)[0]
			if last.Diagnostic != bfd.DetectionExpired {
				t.Errorf("event %+v", last)
			}
			t.Logf("noticed after %v", last.at.Sub(killed))
			if took := last.at.Sub(killed); took < 90*ms || took > 200*ms {
				t.Errorf("noticed after %v, want 100 ms to 150 ms", took)
			}
			if e := d.seen(); len(e) != 2 {
				t.Errorf("events %v", e)
			}
		})
	}
}

func hostAddress(key bfd.Key) string {
	switch {
	case key.Peer.Is4():
		return host4.String()
	case key.Peer.IsLinkLocalUnicast():
		return hostL.String()
	default:
		return host6.String()
	}
}

// steady checks that a session stays up, and how many packets go in both directions.
func steady(t *testing.T, d *watched, key bfd.Key, period, interval time.Duration) {
	t.Helper()
	before := d.awaitState(t, key, bfd.Up)
	var events int
	netnstest.Eventually(t, func() error { // the news may be on its way
		events = len(d.seen())
		if events == 0 || d.seen()[events-1].Kind != bfd.CameUp {
			return fmt.Errorf("events are %v", d.seen())
		}
		return nil
	})
	time.Sleep(period)
	after := d.awaitState(t, key, bfd.Up)
	least := uint64(period / interval * 9 / 10)
	most := uint64(period/interval*4/3) + 4
	for what, n := range map[string]uint64{"received": after.Received - before.Received, "sent": after.Sent - before.Sent} {
		if n < least || n > most {
			t.Errorf("%s %d packets in %v, want %d to %d", what, n, period, least, most)
		}
	}
	if n := len(d.seen()); n != events {
		t.Errorf("flapped: %v", d.seen()[events:])
	}
}

// TestFRRMultihop has a router between this host and FRR.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestFRRMultihop(t *testing.T) {
	host, mid, far := netnstest.Host(t), netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, host, "frrm", mid, "left")
	netnstest.Veth(t, mid, "right", far, "eth0")
	for _, a := range []struct {
		ns     *netnstest.NS
		name   string
		prefix string
	}{
		{host, "frrm", "192.0.2.1/24"}, {mid, "left", "192.0.2.254/24"},
		{mid, "right", "198.51.100.254/24"}, {far, "eth0", "198.51.100.2/24"},
	} {
		a.ns.AddAddr(t, a.name, netip.MustParsePrefix(a.prefix))
	}
	mid.Sysctl(t, "net/ipv4/ip_forward", "1")
	command(t, host, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
	command(t, far, "ip", "route", "add", "192.0.2.0/24", "via", "198.51.100.254")

	d := running(t)
	key := bfd.Key{Peer: netip.MustParseAddr("198.51.100.2"), Source: host4.Addr(), Multihop: true}
	d.Set([]bfd.Session{{Key: key, Settings: settings(100 * ms)}})
	newFRR(t, far, `
bfd
 peer 192.0.2.1 multihop local-address 198.51.100.2
  transmit-interval 100
  receive-interval 100
  minimum-ttl 254
  no shutdown
`)
	d.awaitState(t, key, bfd.Up)
	steady(t, d, key, time.Second, 100*ms)

	// A hop more than allowed.
	strict := settings(100 * ms)
	strict.MinTTL = 255
	d.Set([]bfd.Session{{Key: key, Settings: strict}})
	s := d.awaitState(t, key, bfd.Down)
	if want := "packet with TTL 254, at least 255 (minimumTtl) is wanted"; s.LastDrop != want {
		t.Errorf("last drop %q, want %q", s.LastDrop, want)
	}
}

// TestFRRAdminDown: both ways of holding a session down, neither of which is a failure.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestFRRAdminDown(t *testing.T) {
	_, far := cable(t, "frra")
	d := running(t)
	key := bfd.Key{Peer: far4.Addr()}
	wanted := bfd.Session{Key: key, Settings: settings(50 * ms)}
	d.Set([]bfd.Session{wanted})
	r := newFRR(t, far, frrConfig("192.0.2.1", ""))
	d.awaitState(t, key, bfd.Up)

	must := func(commands ...string) {
		t.Helper()
		if _, err := r.vtysh(append([]string{"configure terminal", "bfd", "peer 192.0.2.1"}, commands...)...); err != nil {
			t.Fatal(err)
		}
	}
	must("shutdown")
	d.await(t, key, "held down by FRR", func(s Session) bool { return s.State == bfd.Down && s.Remote == bfd.AdminDown })
	d.awaitEvents(t, 1, bfd.Released)
	if e := d.seen(); len(e) != 2 {
		t.Errorf("events %v", e)
	}
	must("no shutdown")
	d.awaitState(t, key, bfd.Up)

	down := wanted
	down.AdminDown = true
	d.Set([]bfd.Session{down})
	r.awaitPeer(host4.Addr(), "down", func(p frrPeer) bool {
		return p.Status == "down" && p.Remote == "administratively down"
	})
	d.Set([]bfd.Session{wanted})
	d.awaitState(t, key, bfd.Up)
	r.awaitPeer(host4.Addr(), "up", func(p frrPeer) bool { return p.Status == "up" })

	// A session that is not wanted any more, and a driver that ends, say goodbye.
	d.Set(nil)
	r.awaitPeer(host4.Addr(), "down", func(p frrPeer) bool {
		return p.Status == "down" && p.Remote == "administratively down"
	})
	d.Set([]bfd.Session{wanted})
	r.awaitPeer(host4.Addr(), "up", func(p frrPeer) bool { return p.Status == "up" })
	d.stop()
	r.awaitPeer(host4.Addr(), "down", func(p frrPeer) bool {
		return p.Status == "down" && p.Remote == "administratively down"
	})
}

// TestFRRIntervals changes the intervals of a session that is up, on either side.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestFRRIntervals(t *testing.T) {
	_, far := cable(t, "frri")
	d := running(t)
	key := bfd.Key{Peer: far4.Addr()}
	d.Set([]bfd.Session{{Key: key, Settings: settings(50 * ms)}})
	r := newFRR(t, far, frrConfig("192.0.2.1", ""))
	d.awaitState(t, key, bfd.Up)
	for _, interval := range []time.Duration{200 * ms, 60 * ms, time.Second, 50 * ms} {
		d.Set([]bfd.Session{{Key: key, Settings: bfd.Settings{Transmit: interval, Receive: interval, Multiplier: 4}}})
		d.await(t, key, interval.String(), func(s Session) bool {
			return s.TransmitInterval == interval && s.DetectionTime == 3*interval
		})
		r.awaitPeer(host4.Addr(), interval.String(), func(p frrPeer) bool {
			return p.Tx == int(interval/ms) && p.Rx == int(interval/ms) && p.Multiplier == 4
		})
	}
	if _, err := r.vtysh("configure terminal", "bfd", "peer 192.0.2.1", "transmit-interval 400", "receive-interval 150", "detect-multiplier 5"); err != nil {
		t.Fatal(err)
	}
	d.await(t, key, "150 ms and 2 s", func(s Session) bool {
		return s.TransmitInterval == 150*ms && s.DetectionTime == 5*400*ms
	})
	if e := d.seen(); len(e) != 1 {
		t.Errorf("flapped: %v", e)
	}
}

// TestFRREcho: FRR, which may send echo packets, is asked not to, and the session holds without.
//
//nolint:paralleltest // the ports belong to one driver at a time
func TestFRREcho(t *testing.T) {
	_, far := cable(t, "frre")
	d := running(t)
	key := bfd.Key{Peer: far4.Addr()}
	echo := settings(50 * ms)
	echo.Echo = true
	d.Set([]bfd.Session{{Key: key, Settings: echo}})
	r := newFRR(t, far, frrConfig("192.0.2.1", "echo-mode"))
	d.awaitState(t, key, bfd.Up)
	r.awaitPeer(host4.Addr(), "without echo", func(p frrPeer) bool { return p.Status == "up" && p.Tx == 50 && p.Echo == 0 })
	steady(t, d, key, 2*time.Second, 50*ms)
	text, err := r.vtysh("show bfd peer 192.0.2.1 counters")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "Echo packet output: 0 packets") {
		t.Errorf("FRR sends echo packets:\n%s", text)
	}
	if s := d.awaitState(t, key, bfd.Up); !strings.Contains(s.Notice, "echoMode has no effect") {
		t.Errorf("notice %q", s.Notice)
	}
}
