// SPDX-License-Identifier: Apache-2.0

package healthport

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/bgp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// proxy answers at a port of the loopback as kube-proxy does.
type proxy struct {
	port   uint16
	status atomic.Int32
	asked  atomic.Int32
}

func newProxy(t *testing.T, status int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	p.status.Store(int32(status))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(int(p.status.Load()))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

func running(t *testing.T) *Driver {
	t.Helper()
	d := New(Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return d
}

// await waits, by Changed alone, until a port is as wanted.
func await(t *testing.T, d *Driver, port uint16, want bgp.Health) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for d.Health(port) != want {
		select {
		case <-d.Changed():
		case <-deadline:
			t.Fatalf("port %d: health %d, want %d", port, d.Health(port), want)
		}
	}
}

// hosts: nobody listens at the first.
var hosts = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}

func TestDriver(t *testing.T) {
	t.Parallel()
	d := running(t)
	p, other := newProxy(t, http.StatusServiceUnavailable), newProxy(t, http.StatusOK)
	d.Set(hosts, []uint16{p.port, other.port})
	await(t, d, other.port, bgp.HealthServing)
	await(t, d, p.port, bgp.HealthNotServing)
	p.status.Store(http.StatusOK)
	await(t, d, p.port, bgp.HealthServing)
	if n := other.asked.Load(); n != 1 {
		t.Errorf("what serves was asked %d times, want once", n)
	}

	// Wanted again it is asked again: its endpoints may be others.
	d.Set(hosts, []uint16{other.port})
	if got := d.Health(p.port); got != bgp.HealthUnknown {
		t.Errorf("a port that nobody wants: health %d, want unknown", got)
	}
	asked := p.asked.Load()
	d.Set(hosts, []uint16{other.port, p.port})
	await(t, d, p.port, bgp.HealthServing)
	if n := p.asked.Load(); n != asked+1 {
		t.Errorf("asked %d times more, want once", n-asked)
	}
	if n := other.asked.Load(); n != 1 {
		t.Errorf("what stayed wanted and serves was asked %d times, want once", n)
	}
}

// TestPauses: one that is new does not have the others asked more often.
func TestPauses(t *testing.T) {
	t.Parallel()
	d := New(Config{First: time.Millisecond, Longest: time.Hour})
	p := newProxy(t, http.StatusServiceUnavailable)
	ports := []uint16{p.port}
	d.Set(hosts, ports)
	for range 12 { // pauses of 1, 2, 4, ... ms
		d.ports[p.port].next = time.Time{}
		d.ask(t.Context())
	}
	before := p.asked.Load()
	for port := uint16(1); port <= 20; port++ {
		ports = append(ports, port)
		d.Set(hosts, ports)
		d.ask(t.Context())
	}
	if n := p.asked.Load(); before != 12 || n != before {
		t.Errorf("asked %d times, then %d times more; want 12 and none", before, n-before)
	}
	if wait := time.Until(d.ports[p.port].next); wait < time.Second || wait > 3*time.Second {
		t.Errorf("the next question is in %v, want 2 s after the last", wait)
	}
}

// TestSilent: nobody listens, then somebody does.
func TestSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	l.Close()
	if got := New(Config{}).askOne(t.Context(), hosts, port); got != bgp.HealthUnknown {
		t.Errorf("nobody listens: health %d, want unknown", got)
	}
}

// TestRedirect: who answers with something else does not serve, and leads nowhere.
func TestRedirect(t *testing.T) {
	t.Parallel()
	p := newProxy(t, http.StatusFound)
	if got := New(Config{}).askOne(t.Context(), hosts, p.port); got != bgp.HealthNotServing {
		t.Errorf("redirect: health %d, want not serving", got)
	}
}
