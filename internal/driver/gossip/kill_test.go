// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
)

// childEnv makes this test binary a single member, which can be killed and
// frozen as a process of its own. It holds the member's name, the group's label
// and the peers.
const childEnv = "HERALD_GOSSIP_TEST_MEMBER"

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(childEnv)); len(words) > 0 {
		if err := runChild(words[0], words[1], words[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// A probe under way ends by itself, up to an interval after its member.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

func runChild(name, label string, peers []string) error {
	d, err := gossip.New(gossip.Config{
		NodeName: lb.NodeName(name), BindAddr: netip.MustParseAddr("127.0.0.1"), Label: label,
		Secrets: [][]byte{[]byte("secret of the group")}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	w := gossip.Wanted{State: []byte("state of " + name)}
	for _, p := range peers {
		w.Peers = append(w.Peers, netip.MustParseAddrPort(p))
	}
	d.Set(w)
	go func() {
		// The parent holds the other end of stdin: a child never outlives it.
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	go func() {
		for range d.Events() {
			fmt.Println(d.State().Addr)
		}
	}()
	return d.Run(context.Background())
}

// child is a member in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr netip.AddrPort
}

// runProcess starts a child and waits until the members see it.
func runProcess(t *testing.T, name lb.NodeName, members ...*member) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := []string{string(name), t.Name()}
	for _, m := range members {
		words = append(words, m.State().Addr.String())
	}
	c := &child{cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(words, " "))
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // may be dead already
		_ = stdin.Close()
		_ = c.cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.addr = netip.MustParseAddrPort(strings.TrimSpace(line))
	for _, m := range members {
		m.until(t, "the process", m.has(func(e gossip.Event) bool {
			return e.Kind == gossip.MemberUp && e.Node == name && e.Addr == c.addr
		}))
	}
	return c
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// pair starts two members that know each other.
func pair(t *testing.T) (a, b *member) {
	t.Helper()
	a, b = run(t, "a"), run(t, "b")
	a.want(b)
	b.want(a)
	a.until(t, "b", a.sees(b))
	b.until(t, "a", b.sees(a))
	return a, b
}

// TestKill detects a member that dies without goodbye.
func TestKill(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := runProcess(t, "c", a, b)
	start := time.Now()
	c.signal(t, syscall.SIGKILL)
	a.until(t, "c dead", a.has(downC(false)))
	b.until(t, "c dead", b.has(downC(false)))
	t.Logf("both survivors know after %v", time.Since(start).Round(time.Millisecond))
}

// TestFreeze loses a process that stands still, and takes it back, with a fresh
// exchange of states, when it goes on.
func TestFreeze(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := runProcess(t, "c", a, b)
	c.signal(t, syscall.SIGSTOP)
	a.until(t, "c dead", a.has(downC(false)))
	b.until(t, "c dead", b.has(downC(false)))
	before := a.count(up("c"))
	c.signal(t, syscall.SIGCONT)
	a.until(t, "c again", func() bool { return a.count(up("c")) > before })
}

// TestQuickRestart lets a member in that died and came back, with another
// address, before anybody noticed.
func TestQuickRestart(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	old := runProcess(t, "c", a, b)
	old.signal(t, syscall.SIGKILL)
	again := run(t, "c")
	again.want(a, b)
	start := time.Now()
	again.until(t, "a and b", again.sees(a, b))
	a.until(t, "the new c", a.sees(b, again))
	b.until(t, "the new c", b.sees(a, again))
	t.Logf("the new member is in after %v", time.Since(start).Round(time.Millisecond))
	again.Send([]byte("back"))
	a.until(t, "back", a.has(message("back")))
}
