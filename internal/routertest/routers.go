// SPDX-License-Identifier: Apache-2.0

// Package routertest runs real routers, FRR and BIRD, in network namespaces of
// tests. A test whose router is not installed is skipped, or fails on CI.
package routertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/netnstest"
)

// Start runs a program in a namespace until the end of the test.
func Start(tb testing.TB, ns *netnstest.NS, name string, args ...string) (stop func()) {
	tb.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	ns.Do(tb, cmd.Start)
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Logf("%s:\n%s", name, out.String())
		}
	}
	tb.Cleanup(stop)
	return stop
}

// Await checks until it is so, or the test fails.
func Await(tb testing.TB, what string, limit time.Duration, check func() bool) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for !check() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// exists reports whether there is such a file.
func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

// missing skips the test, or fails it on CI.
func missing(tb testing.TB, args ...any) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(args...)
	}
	tb.Skip(append([]any{"SKIPPED, "}, args...)...)
}

// FRR is a running FRR.
type FRR struct {
	tb   testing.TB
	ns   *netnstest.NS
	name string
	bgpd func()
}

const frrDir = "/usr/lib/frr"

// StartFRR starts zebra, more daemons if asked for, and bgpd with a
// configuration.
func StartFRR(tb testing.TB, ns *netnstest.NS, config string, more ...string) *FRR {
	tb.Helper()
	f := newFRR(tb, ns)
	for _, name := range append([]string{"zebra"}, more...) {
		f.daemon(name)
	}
	f.StartBGP(config)
	return f
}

// StartBGPD starts bgpd alone, on another port than 179. It leaves the routing
// table of the namespace as it is.
func StartBGPD(tb testing.TB, ns *netnstest.NS, port int, config string) *FRR {
	tb.Helper()
	f := newFRR(tb, ns)
	f.bgpd = f.daemon("bgpd", "-p", strconv.Itoa(port), "-n")
	f.Configure(config)
	return f
}

func newFRR(tb testing.TB, ns *netnstest.NS) *FRR {
	tb.Helper()
	if _, err := os.Stat(filepath.Join(frrDir, "bgpd")); err != nil {
		missing(tb, "FRR is not installed: ", err)
	}
	// Not by the last part of the name: subtests of several tests are called "FRR".
	f := &FRR{tb: tb, ns: ns, name: fmt.Sprintf("herald-test-%d-%08x", os.Getpid(), crc32.ChecksumIEEE([]byte(tb.Name())))}
	dir := filepath.Join("/run/frr", f.name)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := giveToFRR(dir); err != nil {
		missing(tb, "FRR needs root: ", err)
	}
	return f
}

// CheckFRR says what is wrong with a file of FRR's configuration.
func CheckFRR(tb testing.TB, file string) error {
	tb.Helper()
	if _, err := exec.LookPath("vtysh"); err != nil {
		missing(tb, "FRR is not installed: ", err)
	}
	out, err := exec.CommandContext(tb.Context(), "vtysh", "-C", "-f", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", file, err, out)
	}
	return nil
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

func (f *FRR) daemon(name string, args ...string) func() {
	f.tb.Helper()
	socket := filepath.Join("/run/frr", f.name, name+".vty")
	_ = os.Remove(socket)
	args = append([]string{"-N", f.name, "-f", "/dev/null", "-A", "127.0.0.1", "--log", "stdout"}, args...)
	stop := Start(f.tb, f.ns, filepath.Join(frrDir, name), args...)
	Await(f.tb, name+" is up", 10*time.Second, exists(socket))
	return stop
}

// StartBGP starts bgpd, again if StopBGP has stopped it.
func (f *FRR) StartBGP(config string) {
	f.tb.Helper()
	f.bgpd = f.daemon("bgpd")
	f.Configure(config)
}

// StopBGP kills bgpd.
func (f *FRR) StopBGP() { f.bgpd() }

// Configure runs lines of configuration.
func (f *FRR) Configure(lines string) {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "frr.conf")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		f.tb.Fatal(err)
	}
	out, err := exec.CommandContext(f.tb.Context(), "vtysh", "-N", f.name, "-f", path).CombinedOutput()
	if err != nil {
		f.tb.Fatalf("vtysh -f: %v\n%s", err, out)
	}
}

// Show returns what vtysh says.
func (f *FRR) Show(command string) string {
	f.tb.Helper()
	out, err := exec.CommandContext(f.tb.Context(), "vtysh", "-N", f.name, "-c", command).CombinedOutput()
	if err != nil {
		f.tb.Logf("vtysh: %v", err)
	}
	return string(out)
}

// BIRD is a running BIRD.
type BIRD struct {
	tb     testing.TB
	ns     *netnstest.NS
	dir    string
	config string
	stop   func()
}

// StartBIRD starts BIRD with a configuration.
func StartBIRD(tb testing.TB, ns *netnstest.NS, config string) *BIRD {
	tb.Helper()
	if _, err := exec.LookPath("bird"); err != nil {
		missing(tb, "BIRD is not installed: ", err)
	}
	b := &BIRD{tb: tb, ns: ns, dir: tb.TempDir(), config: config}
	b.Start()
	return b
}

// Start starts it again after Stop.
func (b *BIRD) Start() {
	b.tb.Helper()
	path, socket := filepath.Join(b.dir, "bird.conf"), filepath.Join(b.dir, "bird.ctl")
	if err := os.WriteFile(path, []byte(b.config), 0o600); err != nil {
		b.tb.Fatal(err)
	}
	_ = os.Remove(socket)
	b.stop = Start(b.tb, b.ns, "bird", "-f", "-c", path, "-s", socket)
	Await(b.tb, "bird is up", 10*time.Second, exists(socket))
}

// Stop kills it.
func (b *BIRD) Stop() { b.stop() }

// Show returns what birdc says.
func (b *BIRD) Show(args ...string) string {
	b.tb.Helper()
	out, err := exec.CommandContext(b.tb.Context(), "birdc", append([]string{"-s", filepath.Join(b.dir, "bird.ctl")}, args...)...).CombinedOutput()
	if err != nil {
		b.tb.Logf("birdc: %v", err)
	}
	return string(out)
}
