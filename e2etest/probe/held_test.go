// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

func TestHeld(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	target := netip.MustParseAddrPort(server.Listener.Addr().String())
	idle, err := Hold(t.Context(), target, 3, 0, here)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if got := asked.Load(); got != 3 {
		t.Errorf("idle connections have been asked %d times", got)
	}
	busy, err := Hold(t.Context(), target, 2, time.Millisecond, here)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for begun := time.Now(); asked.Load() < 50; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("busy connections have been asked only %d times", asked.Load())
		}
	}
	if got, want := idle.Ask(), (Health{Alive: 3}); got != want {
		t.Errorf("idle: %+v, want %+v", got, want)
	}
	server.CloseClientConnections()
	for name, h := range map[string]*Held{"idle": idle, "busy": busy} {
		if got, want := h.Ask(), (Health{Lost: len(h.conns)}); got != want {
			t.Errorf("%s, after the server has closed them: %+v, want %+v", name, got, want)
		}
	}
}

func TestHeldSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h, err := Hold(t.Context(), l.Addr().(*net.TCPAddr).AddrPort(), 1, 0, here)
	if err == nil {
		h.Close()
		t.Fatal("connections that nobody answers count as held")
	}
}
