// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/driver/bgptransport"
	"github.com/heraldlb/herald/internal/driver/gobgp"
	"github.com/heraldlb/herald/internal/netnstest"
	"github.com/heraldlb/herald/internal/routertest"
)

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// world is a node and a router with a cable between them: the node is in the
// namespace of the test binary, the router in another.
type world struct {
	node, router *netnstest.NS
	nic          string // the node's end; the router's is eth0
}

// worlds of tests that run at the same time share the node's namespace, so
// they differ in the number n of their network.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{node: netnstest.Host(t), router: netnstest.New(t), nic: fmt.Sprintf("r%d", n)}
	netnstest.Veth(t, w.node, w.nic, w.router, "eth0")
	// Routers of unnumbered sessions advertise prefixes; the node keeps to the
	// addresses that the router knows.
	w.node.Sysctl(t, "net/ipv6/conf/"+w.nic+"/autoconf", "0")
	w.node.AddAddr(t, w.nic, netip.PrefixFrom(w.node4(n), 24))
	w.router.AddAddr(t, "eth0", netip.PrefixFrom(w.router4(n), 24))
	w.node.AddAddr(t, w.nic, netip.PrefixFrom(w.node6(n), 64))
	w.router.AddAddr(t, "eth0", netip.PrefixFrom(w.router6(n), 64))
	return w
}

func (w *world) node4(n int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 0, byte(n), 1}) }
func (w *world) router4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n), 254}) }
func (w *world) node6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", n))
}
func (w *world) router6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::254", n))
}

func await(t *testing.T, what string, limit time.Duration, check func() bool) {
	t.Helper()
	routertest.Await(t, what, limit, check)
}

func startFRR(t *testing.T, ns *netnstest.NS, config string) *routertest.FRR {
	t.Helper()
	return routertest.StartFRR(t, ns, config)
}

func startBIRD(t *testing.T, ns *netnstest.NS, config string) *routertest.BIRD {
	t.Helper()
	return routertest.StartBIRD(t, ns, config)
}

// speak runs the drivers as the speaker does.
func speak(t *testing.T) *gobgp.Driver {
	t.Helper()
	d, _ := speakUntil(t, false)
	return d
}

func speakUntil(t *testing.T, restarting bool) (*gobgp.Driver, func()) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	transport := bgptransport.New(bgptransport.Config{Logger: log})
	d := gobgp.New(gobgp.Config{
		Dial: func(ctx context.Context, e bgp.Endpoint) (gobgp.Conn, error) {
			c, err := transport.Dial(ctx, e)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Restarting: restarting, Logger: log,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return d, stop
}

func stateOf(d *gobgp.Driver, peer string) bgp.SessionState {
	for _, s := range d.State() {
		if s.Peer == peer {
			return s
		}
	}
	return bgp.SessionState{}
}

func awaitState(t *testing.T, d *gobgp.Driver, peer string, limit time.Duration, check func(bgp.SessionState) bool) bgp.SessionState {
	t.Helper()
	var s bgp.SessionState
	defer func() {
		if t.Failed() {
			t.Logf("session %+v", s)
		}
	}()
	await(t, "state of the session", limit, func() bool { s = stateOf(d, peer); return check(s) })
	return s
}

func established(s bgp.SessionState) bool { return s.State == bgp.Established }

// session returns a plain external session with the router at address.
func session(address netip.Addr, routes ...bgp.Route) bgp.Session {
	return bgp.Session{
		Peer: "tor",
		Key: bgp.Key{
			Endpoint: bgp.Endpoint{Address: address, Port: 179}, LocalAS: 64512, PeerAS: 64600,
			RouterID: netip.MustParseAddr("10.9.9.9"), V4: address.Is4(), V6: address.Is6(),
		},
		Timers: bgp.Timers{Hold: 90 * time.Second},
		Routes: routes,
	}
}

func route(prefix string) bgp.Route {
	return bgp.Route{Prefix: netip.MustParsePrefix(prefix), Attributes: bgp.Attributes{LocalPref: 100}}
}

func wanted(sessions ...bgp.Session) bgp.Wanted { return bgp.Wanted{Sessions: sessions} }
