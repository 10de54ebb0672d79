// SPDX-License-Identifier: Apache-2.0

package checker

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/wire"
)

// inNamespace runs fn on a thread with a network namespace of its own, which ends with the thread.
func inNamespace(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root for a network namespace, and CI must not skip it")
		}
		t.Skip("SKIPPED: needs root for a network namespace")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		fn()
	}()
	<-done
}

func ip(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		if args := strings.Fields(line); len(args) > 0 {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v: %s", strings.TrimSpace(line), err, out)
			}
		}
	}
}

// Two cards of one kernel stand for two machines: both are plugged into the bridge, and the kernel answers on both
// for an address it has, each time with the MAC of that card.
func TestWatcherNoticesTwoOwners(t *testing.T) {
	t.Parallel()
	inNamespace(t, func() {
		ip(t, `
			link add lan type bridge
			link set lan up
			link set lo up
			link add port1 master lan type veth peer name card1
			link add port2 master lan type veth peer name card2
			link set port1 up
			link set port2 up
			link set card1 up
			address add 192.168.2.128/32 dev lo
			address add 192.168.2.11/32 dev lo
			route add 192.168.2.9/32 dev card1`)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := Listen(Config{
			Interface: "lan",
			Watch:     func(a netip.Addr) bool { return a == addr },
			AskFrom:   netip.MustParseAddr("192.168.2.9"),
		})
		if err != nil {
			t.Errorf("listen: %v", err)
			cancel()
			return
		}
		ran := make(chan error, 1)
		go func() { ran <- w.Run(ctx) }()

		w.send(netip.MustParseAddr("192.168.2.11")) // not watched, must not be kept
		w.send(addr)
		eventually(t, "the first answer", func() bool { return w.Heard() > 3 })
		if os, err := w.Overlaps(); len(os) != 0 || err != nil {
			t.Errorf("with one owner: overlaps %v, error %v", describe(os), err)
		}

		ip(t, "link set card2 up")
		var longest Overlap
		eventually(t, "an overlap beyond the limit", func() bool {
			os, _ := w.Overlaps()
			longest, _ = Longest(os)
			return longest.Duration() > Limit
		})
		if why := w.Explain(longest); !strings.Contains(why, "192.168.2.128: ") || strings.Count(why, "\n") < 3 {
			t.Errorf("explanation lacks the address or the timeline:\n%s", why)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s was not seen within 10 s", what)
			return
		}
	}
}

func TestRecordKeepsABound(t *testing.T) {
	t.Parallel()
	w := &Watcher{known: map[netip.Addr]bool{}}
	for range maxClaims + 1 {
		w.record(Claim{At: epoch, Answer: wire.Answer{Addr: addr, MAC: mac("A")}})
	}
	if _, err := w.Overlaps(); err == nil {
		t.Error("a verdict on incomplete data must say so")
	}
}
