// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
	"github.com/heraldlb/herald/internal/driver/heartbeat"
	"github.com/heraldlb/herald/internal/netnstest"
)

// load is for how long TestLoad keeps all cores busy. A minute or two of it say
// more than the few seconds that every run can afford.
var load = flag.Duration("load", 3*time.Second, "how long TestLoad keeps all cores busy")

// hogs is how many processes per core do that.
var hogs = flag.Int("hogs", 2, "processes per core that TestLoad keeps busy")

// members is with how many speakers.
var members = flag.Int("members", 5, "speakers in TestLoad")

// memberEnv makes this test binary a process with the part of a speaker that
// finds dead ones: gossip, heartbeats and the detector. It holds a number, which
// becomes an address, how many there are, and how many addresses the first of
// them answers for: then there is an engine too, and what it drives.
const memberEnv = "HERALD_SPEAKER_TEST_MEMBER"

func memberAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(1 + i)}), gossip.DefaultPort)
}

func TestMain(m *testing.M) {
	var self, all, addresses int
	if _, err := fmt.Sscan(os.Getenv(memberEnv), &self, &all, &addresses); err == nil {
		if err := runMember(self, all, addresses); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// runMember prints a line for every member that comes or goes: the time in
// nanoseconds, up or down, and the node.
func runMember(self, all, addresses int) error {
	name := lb.NodeName(fmt.Sprint("n", self))
	secret := [][]byte{[]byte("secret")}
	g, err := gossip.New(gossip.Config{
		NodeName: name, BindAddr: memberAddr(self).Addr(), BindPort: gossip.DefaultPort, Secrets: secret, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	h, err := heartbeat.New(heartbeat.Config{NodeName: name, Secrets: secret, Port: g, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	d := newDetector(g, h)
	go func() {
		for range time.Tick(5 * time.Second) {
			fmt.Println(time.Now().UnixNano(), "late", h.State().Late)
		}
	}()
	var peers []netip.AddrPort
	for i := range all {
		if i != self {
			peers = append(peers, memberAddr(i))
		}
	}
	d.Set(gossip.Wanted{Peers: peers, State: []byte(name)})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// The parent holds the other end of stdin: a child never outlives it.
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	var eg errgroup.Group
	for _, r := range []driver{g, h, d} {
		eg.Go(func() error { return r.Run(ctx) })
	}
	events := make(chan gossip.Event, 64)
	if addresses > 0 {
		runEngine(ctx, &eg, overheard{d, events}, h.Beat, name, all, addresses)
	}
	eg.Go(func() error {
		for e := range d.Events() {
			if addresses > 0 {
				events <- e
			}
			switch e.Kind {
			case gossip.MemberUp:
				fmt.Println(time.Now().UnixNano(), "up", e.Node)
			case gossip.MemberDown:
				if e.Left {
					fmt.Println(time.Now().UnixNano(), "left", e.Node)
				} else {
					fmt.Println(time.Now().UnixNano(), "down", e.Node)
				}
			case gossip.Message, gossip.FullState:
			}
		}
		return nil
	})
	return eg.Wait()
}

// told is a line of a member.
type told struct {
	by   int
	at   time.Time
	what string
	node string
}

// family is a number of members, each a process in a namespace of its own. The
// namespace of the test is the switch that connects them.
type family struct {
	net   *netnstest.NS
	procs []*exec.Cmd
	lines chan told

	addresses int // that the first one answers for
}

func startGroup(t *testing.T, n int) *family { return startOwners(t, n, 0) }

func startOwners(t *testing.T, n, addresses int) *family {
	t.Helper()
	g := &family{net: netnstest.Host(t), lines: make(chan told, 10_000), addresses: addresses}
	var ports []string
	for i := range n {
		ns := netnstest.New(t)
		netnstest.Veth(t, g.net, port(i), ns, "eth0")
		ns.AddAddr(t, "eth0", netip.PrefixFrom(memberAddr(i).Addr(), 24))
		ports = append(ports, port(i))
		g.start(t, ns, i, n)
	}
	g.net.Bridge(t, "switch", ports...)
	t.Cleanup(func() { g.net.Delete(t, "switch") })
	g.await(t, n*(n-1), "up")
	return g
}

// port is the end of a member's cable at the switch.
func port(i int) string { return fmt.Sprint("port", i) }

func (g *family) start(t *testing.T, ns *netnstest.NS, i, n int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d", memberEnv, i, n, g.addresses))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(t, cmd.Start)
	g.procs = append(g.procs, cmd)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			s := told{by: i}
			var nano int64
			if _, err := fmt.Sscan(lines.Text(), &nano, &s.what, &s.node); err == nil {
				s.at = time.Unix(0, nano)
				g.lines <- s
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may be dead already
		_ = stdin.Close()
		_ = cmd.Wait()
	})
}

// await waits for as many lines that say something, and fails on other news.
func (g *family) await(t *testing.T, n int, what string) []told {
	t.Helper()
	var out []told
	deadline := time.After(30 * time.Second)
	for len(out) < n {
		select {
		case s := <-g.lines:
			if s.what == "late" {
				continue
			}
			if s.what != what {
				t.Fatalf("n%d says %s of %s", s.by, s.what, s.node)
			}
			out = append(out, s)
		case <-deadline:
			t.Fatalf("%d of %d told %s", len(out), n, what)
		}
	}
	return out
}

// slowest says how long after begun the last of the lines was.
func slowest(lines []told, begun time.Time) time.Duration {
	last := slices.MaxFunc(lines, func(a, b told) int { return a.at.Compare(b.at) })
	return last.at.Sub(begun).Round(time.Millisecond)
}

// about keeps the lines about one node.
func about(lines []told, node string) []told {
	return slices.DeleteFunc(slices.Clone(lines), func(s told) bool { return s.node != node })
}

// TestDetection does to one of five nodes what happens to nodes, and tells how
// long it takes until the last of the others knows. On an idle machine these are
// some 310 ms, for a killed process 110 ms.
func TestDetection(t *testing.T) { //nolint:paralleltest // it measures time
	const n = 5
	g := startGroup(t, n)
	cut := func() { g.net.Down(t, port(0)) }
	plug := func() { g.net.Up(t, port(0)) }
	// The links stay up: after link down and up it is the kernel that takes its
	// time, often more than a second, before a frame passes.
	part := func() {
		if err := g.net.Handle.LinkSetNoMaster(g.net.Link(t, port(0))); err != nil {
			t.Fatal(err)
		}
	}
	join := func() {
		if err := g.net.Handle.LinkSetMaster(g.net.Link(t, port(0)), g.net.Link(t, "switch")); err != nil {
			t.Fatal(err)
		}
	}
	send := func(s os.Signal) func() {
		return func() {
			if err := g.procs[0].Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name     string
		do, undo func()
		// both: the node believes the same of the others.
		both bool
	}{
		{"cable cut", cut, plug, true},
		{"partition", part, join, true},
		{"frozen", send(syscall.SIGSTOP), send(syscall.SIGCONT), false},
		{"killed", send(syscall.SIGKILL), nil, false},
	}
	for _, test := range tests {
		others := n - 1
		if test.both {
			others *= 2
		}
		time.Sleep(300 * time.Millisecond) // heartbeats are in step again
		begun := time.Now()
		test.do()
		d := slowest(about(g.await(t, others, "down"), "n0"), begun)
		t.Logf("%s: the last one knew after %v", test.name, d)
		if d > 2*time.Second {
			t.Errorf("%s: it took too long", test.name)
		}
		if test.undo != nil {
			begun = time.Now()
			test.undo()
			t.Logf("%s, no more: the last one knew after %v", test.name, slowest(g.await(t, others, "up"), begun))
		}
	}
}

// TestLoad keeps all cores busy, several times over: nobody may be taken for dead.
func TestLoad(t *testing.T) { //nolint:paralleltest // it keeps all cores busy
	g := startGroup(t, *members)
	for range *hogs * runtime.NumCPU() {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		runtime.LockOSThread() // Pdeathsig is sent when the starting thread ends
		if err := cmd.Start(); err != nil {
			t.Skip("no shell to keep a core busy:", err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	}
	end := time.After(*load)
	late := time.Duration(0)
	for {
		select {
		case <-end:
			t.Logf("timers were up to %v late", late)
			return
		case s := <-g.lines:
			if s.what != "late" {
				t.Errorf("n%d says %s of %s", s.by, s.what, s.node)
			} else if d, err := time.ParseDuration(s.node); err == nil {
				late = max(late, d)
			}
		}
	}
}
