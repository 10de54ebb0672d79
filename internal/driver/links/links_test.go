// SPDX-License-Identifier: Apache-2.0

package links

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

func running(t *testing.T) *Watcher {
	t.Helper()
	// Relist is out of reach: what the tests see comes from messages.
	w := New(Config{Logger: slog.New(slog.DiscardHandler), Relist: time.Hour, MinInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// await waits, by Changed alone, until the link looks as wanted. A nil check waits until it is gone.
func await(t *testing.T, w *Watcher, name string, check func(Link) bool) Link {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		links := w.Snapshot()
		i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
		switch {
		case i < 0 && check == nil:
			return Link{}
		case i >= 0 && check != nil && check(links[i]):
			return links[i]
		}
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("%s did not become as wanted: %+v", name, links)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	host, far := netnstest.Host(t), netnstest.New(t)
	w := running(t)
	await(t, w, "lo", func(l Link) bool { return l.Up })
	netnstest.Veth(t, host, "watch0", far, "eth0")

	l := await(t, w, "watch0", func(l Link) bool { return l.Up })
	if l.Kind != "veth" || l.Index == 0 || !l.MAC.IsUnicast() {
		t.Errorf("new link: %+v", l)
	}
	far.Down(t, "eth0")
	await(t, w, "watch0", func(l Link) bool { return !l.Up })
	far.Up(t, "eth0")
	await(t, w, "watch0", func(l Link) bool { return l.Up })
	host.Down(t, "watch0")
	await(t, w, "watch0", func(l Link) bool { return !l.Up })
	host.Up(t, "watch0")

	mac := l2.MAC{2, 0, 0, 0, 0, 7}
	host.SetMAC(t, "watch0", mac)
	await(t, w, "watch0", func(l Link) bool { return l.MAC == mac && l.Up })

	v6, v4 := netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("192.0.2.1/24")
	host.AddAddr(t, "watch0", v6)
	host.AddAddr(t, "watch0", v4)
	l = await(t, w, "watch0", func(l Link) bool { return slices.Contains(l.Addrs, v4) && slices.Contains(l.Addrs, v6) })
	if !slices.IsSortedFunc(l.Addrs, comparePrefixes) {
		t.Errorf("addresses are not sorted: %v", l.Addrs)
	}

	host.Bridge(t, "watchbr0", "watch0")
	t.Cleanup(func() { host.Delete(t, "watchbr0") })
	await(t, w, "watch0", func(l Link) bool { return l.Master == "watchbr0" })
	await(t, w, "watchbr0", func(l Link) bool { return l.Kind == "bridge" })

	host.Delete(t, "watch0")
	await(t, w, "watch0", nil)
	byName := func(a, b Link) int { return strings.Compare(a.Name, b.Name) }
	if links := w.Snapshot(); !slices.IsSortedFunc(links, byName) {
		t.Errorf("links are not sorted: %+v", links)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	netnstest.Host(t)
	w := running(t)
	got := await(t, w, "lo", func(l Link) bool { return len(l.Addrs) == 2 })
	want := Link{
		Name: "lo", Index: 1, Up: true, Kind: "device",
		Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")},
	}
	equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("lo (-want +got):\n%s", diff)
	}
}

// TestManyChanges makes more changes than there are listings: the last one must be seen.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	host, far := netnstest.Host(t), netnstest.New(t)
	w := running(t)
	netnstest.Veth(t, host, "many0", far, "eth0")
	var last netip.Prefix
	for i := range 200 {
		last = netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", i+1))
		host.AddAddr(t, "many0", last)
	}
	l := await(t, w, "many0", func(l Link) bool { return slices.Contains(l.Addrs, last) })
	v4 := slices.DeleteFunc(slices.Clone(l.Addrs), func(p netip.Prefix) bool { return p.Addr().Is6() })
	if len(v4) != 200 {
		t.Errorf("%d IPv4 addresses", len(v4))
	}
}

func TestBeforeRun(t *testing.T) {
	t.Parallel()
	if got := New(Config{Logger: slog.New(slog.DiscardHandler)}).Snapshot(); got != nil {
		t.Errorf("snapshot before the first listing: %v", got)
	}
}
