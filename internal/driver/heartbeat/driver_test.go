// SPDX-License-Identifier: Apache-2.0

package heartbeat_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
	"github.com/heraldlb/herald/internal/driver/heartbeat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// udpPort is a Port of its own, without gossip.
type udpPort struct {
	conn      *net.UDPConn
	datagrams chan liveness.Datagram
}

func (p *udpPort) WriteDatagram(b []byte, to netip.AddrPort) error {
	_, err := p.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (p *udpPort) Datagrams() <-chan liveness.Datagram { return p.datagrams }

func (p *udpPort) Poll() []liveness.Datagram { return nil } // all come with Datagrams

func (p *udpPort) Knock(netip.Addr) {}

func (p *udpPort) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (p *udpPort) read() {
	buf := make([]byte, 2048)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.datagrams <- liveness.Datagram{From: from, Data: slices.Clone(buf[:n])}
		}
	}
}

// member is a running driver.
type member struct {
	*heartbeat.Driver
	name lb.NodeName
	port *udpPort
	stop func()
}

func run(t *testing.T, name lb.NodeName, secret string) *member {
	t.Helper()
	return runAt(t, name, secret, netip.MustParseAddrPort("127.0.0.1:0"))
}

func runAt(t *testing.T, name lb.NodeName, secret string, addr netip.AddrPort) *member {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	port := &udpPort{conn: conn, datagrams: make(chan liveness.Datagram, 1000)}
	d, err := heartbeat.New(heartbeat.Config{NodeName: name, Secrets: [][]byte{[]byte(secret)}, Port: port, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	go port.read()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	m := &member{Driver: d, name: name, port: port}
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run %s: %v", name, err)
		}
		_ = conn.Close()
	}
	t.Cleanup(m.stop)
	return m
}

// meet lets gossip introduce members to each other.
func meet(members ...*member) {
	for _, m := range members {
		for _, o := range members {
			if o != m {
				m.Join(heartbeat.Member{Node: o.name, Addr: o.port.addr(), Heartbeats: true})
			}
		}
	}
}

// expect waits for an event and compares it.
func (m *member) expect(t *testing.T, want heartbeat.Event) {
	t.Helper()
	select {
	case got := <-m.Events():
		if got != want {
			t.Fatalf("%s: got %+v, want %+v", m.name, got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: waited in vain for %+v; state %+v", m.name, want, m.State())
	}
}

// quiet asserts that nothing is said of anybody for a while.
func (m *member) quiet(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case e := <-m.Events():
		t.Fatalf("%s: unexpected %+v", m.name, e)
	case <-time.After(d):
	}
}

func trio(t *testing.T) (a, b, c *member) {
	t.Helper()
	a, b, c = run(t, "a", "secret"), run(t, "b", "secret"), run(t, "c", "secret")
	meet(a, b, c)
	for _, m := range []*member{a, b, c} {
		var got []lb.NodeName
		for range 2 {
			e := <-m.Events()
			if e.Kind != heartbeat.Up || e.Returned {
				t.Fatalf("%s: %+v", m.name, e)
			}
			got = append(got, e.Node)
		}
		if slices.Contains(got, m.name) || got[0] == got[1] {
			t.Fatalf("%s sees %v", m.name, got)
		}
	}
	return a, b, c
}

// TestDeath: a member stops without goodbye, another one says goodbye.
func TestDeath(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	a.quiet(t, 500*time.Millisecond)
	begun := time.Now()
	c.stop()
	down := heartbeat.Event{Kind: heartbeat.Down, Node: "c", Addr: c.port.addr()}
	a.expect(t, down)
	b.expect(t, down)
	t.Logf("both survivors know after %v", time.Since(begun).Round(time.Millisecond))

	a.Leave("b", true)
	a.expect(t, heartbeat.Event{Kind: heartbeat.Down, Node: "b", Addr: b.port.addr(), Left: true})
}

// TestGossipErrs: gossip takes a member for dead that sends heartbeats.
func TestGossipErrs(t *testing.T) {
	t.Parallel()
	a, _, c := trio(t)
	a.quiet(t, 200*time.Millisecond)
	a.Leave("c", false)
	a.quiet(t, 500*time.Millisecond)
	c.stop()
	a.expect(t, heartbeat.Event{Kind: heartbeat.Down, Node: "c", Addr: c.port.addr()})
}

// TestPublish: members hear which record another one has published.
func TestPublish(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	c.Publish(7)
	published := heartbeat.Event{Kind: heartbeat.Record, Node: "c", Addr: c.port.addr(), Version: 7}
	a.expect(t, published)
	b.expect(t, published)
}

// TestRefused: the host of a member says that nobody listens there.
func TestRefused(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	a.quiet(t, 200*time.Millisecond)
	// Of somebody who is alive that proves nothing.
	a.port.datagrams <- liveness.Datagram{From: c.port.addr(), Refused: true}
	a.quiet(t, 400*time.Millisecond)

	c.stop()
	for _, m := range []*member{a, b} {
		m.port.datagrams <- liveness.Datagram{From: c.port.addr(), Refused: true}
	}
	begun := time.Now()
	down := heartbeat.Event{Kind: heartbeat.Down, Node: "c", Addr: c.port.addr()}
	a.expect(t, down)
	b.expect(t, down)
	t.Logf("both survivors know after %v", time.Since(begun).Round(time.Millisecond))
}

// TestStranger: who does not have the secret cannot make himself heard.
func TestStranger(t *testing.T) {
	t.Parallel()
	a, s := run(t, "a", "secret"), run(t, "s", "another")
	meet(a, s)
	a.expect(t, heartbeat.Event{Kind: heartbeat.Up, Node: "s", Addr: s.port.addr()}) // gossip says so
	a.port.datagrams <- liveness.Datagram{From: s.port.addr(), Data: []byte("Hello, I am nobody")}
	a.expect(t, heartbeat.Event{Kind: heartbeat.Down, Node: "s", Addr: s.port.addr()})
	deadline := time.Now().Add(5 * time.Second)
	for a.State().Rejected < 2 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if st := a.State(); st.Rejected < 2 || st.Received != 0 || st.Sent == 0 {
		t.Errorf("counts %+v, want only rejected ones", st.Counts)
	}
}

// TestCutOff: who hears nobody any more says so, and who is found again is told.
func TestCutOff(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	a.quiet(t, 200*time.Millisecond)
	b.stop()
	c.stop()
	for range 2 {
		if e := <-a.Events(); e.Kind != heartbeat.Down || e.Left {
			t.Fatalf("got %+v", e)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for !a.State().CutOff && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if !a.State().CutOff {
		t.Errorf("does not say that it may be cut off: %+v", a.State())
	}
	a.Leave("b", false)
	a.Leave("c", false)
	a.Keep([]netip.AddrPort{c.port.addr()})
	again := runAt(t, "c", "secret", c.port.addr())
	again.Join(heartbeat.Member{Node: "a", Addr: a.port.addr(), Heartbeats: true})
	a.expect(t, heartbeat.Event{Kind: heartbeat.Found, Node: "c", Addr: c.port.addr()})
	for a.State().CutOff && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := a.State(); s.CutOff || len(s.Nodes) != 1 {
		t.Errorf("state %+v, want only c, and not to be cut off", s)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := heartbeat.Config{NodeName: "a", Secrets: [][]byte{{1}}, Port: &udpPort{}, Logger: slog.New(slog.DiscardHandler)}
	tests := []struct {
		want  string
		spoil func(*heartbeat.Config)
	}{
		{"node name", func(c *heartbeat.Config) { c.NodeName = "" }},
		{"secret", func(c *heartbeat.Config) { c.Secrets = nil }},
		{"secret", func(c *heartbeat.Config) { c.Secrets = [][]byte{{1}, {}} }},
		{"port", func(c *heartbeat.Config) { c.Port = nil }},
		{"logger", func(c *heartbeat.Config) { c.Logger = nil }},
	}
	for _, test := range tests {
		cfg := good
		test.spoil(&cfg)
		if _, err := heartbeat.New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want one about the %s", err, test.want)
		}
	}
	if _, err := heartbeat.New(good); err != nil {
		t.Error(err)
	}
}
