// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/driver/bgptransport"
	"github.com/heraldlb/herald/internal/driver/gobgp"
	"github.com/heraldlb/herald/internal/netnstest"
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

// start runs a program in a namespace until the end of the test.
func start(t *testing.T, ns *netnstest.NS, name string, args ...string) (stop func()) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	ns.Do(t, cmd.Start)
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, out.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

func await(t *testing.T, what string, limit time.Duration, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

// missing skips the test, or fails it on CI.
func missing(t *testing.T, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(args...)
	}
	t.Skip(append([]any{"SKIPPED, "}, args...)...)
}

// frr is a running FRR.
type frr struct {
	t    *testing.T
	ns   *netnstest.NS
	name string
	bgpd func()
}

const frrDir = "/usr/lib/frr"

func startFRR(t *testing.T, ns *netnstest.NS, config string) *frr {
	t.Helper()
	if _, err := os.Stat(filepath.Join(frrDir, "bgpd")); err != nil {
		missing(t, "FRR is not installed: ", err)
	}
	f := &frr{t: t, ns: ns, name: fmt.Sprintf("herald-test-%d-%s", os.Getpid(), strings.ToLower(filepath.Base(t.Name())))}
	dir := filepath.Join("/run/frr", f.name)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := giveToFRR(dir); err != nil {
		missing(t, "FRR needs root: ", err)
	}
	f.daemon("zebra")
	f.startBGP(config)
	return f
}

func giveToFRR(dir string) error {
	u, err := user.Lookup("frr")
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return errors.Join(err1, err2, os.MkdirAll(dir, 0o755), os.Chown(filepath.Dir(dir), uid, gid), os.Chown(dir, uid, gid))
}

func (f *frr) daemon(name string) func() {
	f.t.Helper()
	socket := filepath.Join("/run/frr", f.name, name+".vty")
	_ = os.Remove(socket)
	stop := start(f.t, f.ns, filepath.Join(frrDir, name), "-N", f.name, "-f", "/dev/null", "-A", "127.0.0.1", "--log", "stdout")
	await(f.t, name+" is up", 10*time.Second, exists(socket))
	return stop
}

func (f *frr) startBGP(config string) {
	f.t.Helper()
	f.bgpd = f.daemon("bgpd")
	f.configure(config)
}

// configure runs lines of configuration.
func (f *frr) configure(lines string) {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), "frr.conf")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		f.t.Fatal(err)
	}
	out, err := exec.CommandContext(f.t.Context(), "vtysh", "-N", f.name, "-f", path).CombinedOutput()
	if err != nil {
		f.t.Fatalf("vtysh -f: %v\n%s", err, out)
	}
}

// show returns what vtysh says.
func (f *frr) show(command string) string {
	f.t.Helper()
	out, err := exec.CommandContext(f.t.Context(), "vtysh", "-N", f.name, "-c", command).CombinedOutput()
	if err != nil {
		f.t.Logf("vtysh: %v", err)
	}
	return string(out)
}

// bird is a running BIRD.
type bird struct {
	t      *testing.T
	ns     *netnstest.NS
	dir    string
	config string
	stop   func()
}

func startBIRD(t *testing.T, ns *netnstest.NS, config string) *bird {
	t.Helper()
	if _, err := exec.LookPath("bird"); err != nil {
		missing(t, "BIRD is not installed: ", err)
	}
	b := &bird{t: t, ns: ns, dir: t.TempDir(), config: config}
	b.start()
	return b
}

func (b *bird) start() {
	b.t.Helper()
	path, socket := filepath.Join(b.dir, "bird.conf"), filepath.Join(b.dir, "bird.ctl")
	if err := os.WriteFile(path, []byte(b.config), 0o600); err != nil {
		b.t.Fatal(err)
	}
	_ = os.Remove(socket)
	b.stop = start(b.t, b.ns, "bird", "-f", "-c", path, "-s", socket)
	await(b.t, "bird is up", 10*time.Second, exists(socket))
}

func (b *bird) show(args ...string) string {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "birdc", append([]string{"-s", filepath.Join(b.dir, "bird.ctl")}, args...)...).CombinedOutput()
	if err != nil {
		b.t.Logf("birdc: %v", err)
	}
	return string(out)
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
