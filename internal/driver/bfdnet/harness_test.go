// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/netnstest"
)

// The tests run one after the other: the ports of BFD belong to one driver at a time, and they are about time.

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

const ms = time.Millisecond

var (
	host4 = netip.MustParsePrefix("192.0.2.1/24")
	far4  = netip.MustParsePrefix("192.0.2.2/24")
	host6 = netip.MustParsePrefix("2001:db8::1/64")
	far6  = netip.MustParsePrefix("2001:db8::2/64")
	hostL = netip.MustParsePrefix("fe80::1/64")
	farL  = netip.MustParsePrefix("fe80::2/64")
)

// cable connects an interface of this host with eth0 of a new namespace. Both have all addresses above.
func cable(tb testing.TB, name string) (host, far *netnstest.NS) {
	tb.Helper()
	host, far = netnstest.Host(tb), netnstest.New(tb)
	netnstest.Veth(tb, host, name, far, "eth0")
	for _, p := range []netip.Prefix{host4, host6, hostL} {
		host.AddAddr(tb, name, p)
	}
	for _, p := range []netip.Prefix{far4, far6, farL} {
		far.AddAddr(tb, "eth0", p)
	}
	return host, far
}

// watched is a driver that runs until the end of the test, and all its events.
type watched struct {
	*Driver
	stop func()

	mu     sync.Mutex // guards events
	events []timedEvent
}

type timedEvent struct {
	at time.Time
	bfd.Event
}

func running(tb testing.TB) *watched {
	tb.Helper()
	d := &watched{Driver: New(Config{Logger: slog.New(slog.DiscardHandler), Retry: 50 * ms})}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for e := range d.Events() {
			d.mu.Lock()
			d.events = append(d.events, timedEvent{time.Now(), e})
			d.mu.Unlock()
		}
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
		<-collected
	})
	tb.Cleanup(d.stop)
	return d
}

func (d *watched) seen() []timedEvent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]timedEvent(nil), d.events...)
}

// awaitEvents returns the events of a kind once there are n or more: a state can be read before the news of it come.
func (d *watched) awaitEvents(tb testing.TB, n int, kind bfd.Kind) []timedEvent {
	tb.Helper()
	var events []timedEvent
	netnstest.Eventually(tb, func() error {
		all := d.seen()
		events = slices.DeleteFunc(slices.Clone(all), func(e timedEvent) bool { return e.Kind != kind })
		if len(events) < n {
			return fmt.Errorf("%d events of kind %v, want %d: %v", len(events), kind, n, all)
		}
		return nil
	})
	return events
}

// await waits until the session with a router is as wanted.
func (d *watched) await(tb testing.TB, key bfd.Key, want string, check func(Session) bool) Session {
	tb.Helper()
	var last Session
	netnstest.Eventually(tb, func() error {
		for _, s := range d.State().Sessions {
			if s.Key == key {
				last = s
			}
		}
		if !check(last) {
			return fmt.Errorf("session is not %s: %+v", want, last)
		}
		return nil
	})
	return last
}

func (d *watched) awaitState(tb testing.TB, key bfd.Key, want bfd.State) Session {
	tb.Helper()
	return d.await(tb, key, want.String(), func(s Session) bool { return s.State == want })
}

// command runs a command in a namespace.
func command(tb testing.TB, ns *netnstest.NS, name string, args ...string) {
	tb.Helper()
	out := &bytes.Buffer{}
	if err := start(tb, ns, out, name, args...).Wait(); err != nil {
		tb.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// start starts a process in a namespace and kills it at the end of the test.
func start(tb testing.TB, ns *netnstest.NS, out *bytes.Buffer, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	ns.Do(tb, func() error {
		runtime.LockOSThread() // never unlocked: the thread is in another namespace
		return cmd.Start()
	})
	var once sync.Once
	tb.Cleanup(func() { kill(&once, cmd) })
	return cmd
}

func kill(once *sync.Once, cmd *exec.Cmd) {
	once.Do(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
}

// program skips the test if a router is not installed, or fails it on CI.
func program(tb testing.TB, paths ...string) {
	tb.Helper()
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			if os.Getenv("CI") == "true" {
				tb.Fatal(err)
			}
			tb.Skipf("SKIPPED: %v", err)
		}
	}
}

// frr is a router that runs FRR's bfdd.
type frr struct {
	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// newFRR starts zebra, which bfdd has its interfaces from, and bfdd.
func newFRR(tb testing.TB, ns *netnstest.NS, config string) *frr {
	tb.Helper()
	program(tb, "/usr/lib/frr/zebra", "/usr/lib/frr/bfdd", "/usr/bin/vtysh")
	r := &frr{t: tb, dir: frrDir(tb)}
	daemon := func(name, config string, more ...string) *exec.Cmd {
		file := filepath.Join(r.dir, name+".conf")
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			tb.Fatal(err)
		}
		args := []string{"-u", "frr", "-g", "frr", "-f", file, "-i", filepath.Join(r.dir, name+".pid"),
			"-z", filepath.Join(r.dir, "zserv"), "--vty_socket", r.dir, "-P", "0", "--log", "stdout"}
		out := &bytes.Buffer{}
		cmd := start(tb, ns, out, "/usr/lib/frr/"+name, append(args, more...)...)
		tb.Cleanup(func() {
			if tb.Failed() {
				tb.Logf("%s:\n%s", name, out)
			}
		})
		return cmd
	}
	daemon("zebra", "")
	netnstest.Eventually(tb, func() error {
		_, err := os.Stat(filepath.Join(r.dir, "zserv"))
		return err
	})
	r.cmd = daemon("bfdd", config, "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
	netnstest.Eventually(tb, func() error {
		_, err := r.vtysh("show version")
		return err
	})
	return r
}

// frrDir returns a directory that belongs to the user that FRR insists on.
func frrDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "frr") //nolint:usetesting // TempDir is inside of a directory that only we may enter
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	owner, err := user.Lookup("frr")
	if err != nil {
		tb.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		tb.Skipf("SKIPPED, not root: %v", err)
	}
	return dir
}

func (r *frr) vtysh(commands ...string) (string, error) {
	args := []string{"--vty_socket", r.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.CommandContext(r.t.Context(), "/usr/bin/vtysh", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vtysh %q: %w: %s", commands, err, out)
	}
	return string(out), nil
}

// frrPeer is what FRR says about a session.
type frrPeer struct {
	Peer       string
	Status     string
	Diagnostic string
	Remote     string `json:"remote-diagnostic"`
	Multiplier int    `json:"remote-detect-multiplier"`
	Tx         int    `json:"remote-transmit-interval"`
	Rx         int    `json:"remote-receive-interval"`
	Echo       int    `json:"remote-echo-receive-interval"`
	MyTx       int    `json:"transmit-interval"`
}

func (r *frr) peer(addr netip.Addr) (frrPeer, error) {
	out, err := r.vtysh("show bfd peers json")
	if err != nil {
		return frrPeer{}, err
	}
	var peers []frrPeer
	if err := json.Unmarshal([]byte(out), &peers); err != nil {
		return frrPeer{}, fmt.Errorf("%w: %s", err, out)
	}
	for _, p := range peers {
		if p.Peer == addr.WithZone("").String() {
			return p, nil
		}
	}
	return frrPeer{}, fmt.Errorf("no peer %v: %s", addr, out)
}

func (r *frr) awaitPeer(addr netip.Addr, want string, check func(frrPeer) bool) {
	r.t.Helper()
	netnstest.Eventually(r.t, func() error {
		p, err := r.peer(addr)
		if err == nil && !check(p) {
			err = fmt.Errorf("FRR's session is not %s: %+v", want, p)
		}
		return err
	})
}

// bird is a router that runs BIRD.
type bird struct {
	t      testing.TB
	socket string
	cmd    *exec.Cmd
}

func newBird(tb testing.TB, ns *netnstest.NS, config string) *bird {
	tb.Helper()
	program(tb, "/usr/sbin/bird", "/usr/sbin/birdc")
	dir := tb.TempDir()
	b := &bird{t: tb, socket: filepath.Join(dir, "bird.ctl")}
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte("router id 192.0.2.2;\nprotocol device {}\n"+config), 0o644); err != nil {
		tb.Fatal(err)
	}
	out := &bytes.Buffer{}
	b.cmd = start(tb, ns, out, "/usr/sbin/bird", "-f", "-c", file, "-s", b.socket, "-P", filepath.Join(dir, "bird.pid"))
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("bird:\n%s", out)
		}
	})
	return b
}

func (b *bird) sessions() (string, error) {
	out, err := exec.Command("/usr/sbin/birdc", "-s", b.socket, "show", "bfd", "sessions").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// awaitPeer waits for a line of "show bfd sessions" with the address and the state.
func (b *bird) awaitPeer(addr netip.Addr, state string) {
	b.t.Helper()
	netnstest.Eventually(b.t, func() error {
		out, err := b.sessions()
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == addr.WithZone("").String() && f[2] == state {
				return nil
			}
		}
		return fmt.Errorf("BIRD's session with %v is not %s:\n%s", addr, state, out)
	})
}
