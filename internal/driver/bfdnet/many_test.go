// SPDX-License-Identifier: Apache-2.0

package bfdnet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/bgp/bfd"
	"github.com/heraldlb/herald/internal/netnstest"
)

const envMany = "HERALD_TEST_BFD_MANY"

// manySpec is what both ends of TestMany do.
type manySpec struct {
	Sessions int
	Interval time.Duration
	Period   time.Duration
	Far      bool
}

// manyResult is what one end says when all sessions are up, and after the period.
type manyResult struct {
	Up, Failed     int
	Sent, Received uint64
	CPU            time.Duration
	Mallocs        uint64
	Failures       []string      // the first ones, with when they came
	Stall          time.Duration // the longest time for which the process did not get to run
}

// local is the address of one end of session i.
func (m manySpec) address(far bool, i int) netip.Addr {
	third := byte(i >> 8)
	if far {
		third += 128
	}
	return netip.AddrFrom4([4]byte{10, 5, third, byte(i)})
}

func (m manySpec) wanted() []bfd.Session {
	var list []bfd.Session
	for i := range m.Sessions {
		list = append(list, bfd.Session{
			Key:      bfd.Key{Peer: m.address(!m.Far, i), Source: m.address(m.Far, i)},
			Settings: settings(m.Interval),
		})
	}
	return list
}

// run holds the sessions until in ends, and prints a result at the beginning and at the end of the period.
func (m manySpec) run(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := New(Config{Logger: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	began := time.Now()
	failures := make(chan []string, 1)
	go func() {
		var list []string
		for e := range d.Events() {
			if e.Kind == bfd.Failed {
				list = append(list, fmt.Sprintf("%v: %v: %v", time.Since(began), e.Key, e))
			}
		}
		failures <- list
	}()
	stalls := make(chan time.Duration, 1)
	go func() { stalls <- longestStall(ctx) }()
	d.Set(m.wanted())
	for result(d).Up < m.Sessions {
		time.Sleep(50 * ms)
	}
	time.Sleep(2 * time.Second) // the other side, too, and the new intervals are agreed on
	first := result(d)
	time.Sleep(m.Period)
	last := result(d)
	last.Sent, last.Received, last.CPU, last.Mallocs = last.Sent-first.Sent, last.Received-first.Received, last.CPU-first.CPU, last.Mallocs-first.Mallocs
	if _, err := fmt.Fprintln(out, "measured"); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // the other side has measured, too
		return err
	}
	cancel()
	err := <-done
	last.Stall = <-stalls
	list := <-failures
	last.Failed, last.Failures = len(list), list[:min(3, len(list))]
	if err == nil {
		err = json.NewEncoder(out).Encode(last)
	}
	return err
}

// longestStall returns the longest time for which this process did not get to run.
func longestStall(ctx context.Context) (longest time.Duration) {
	for ctx.Err() == nil {
		began := time.Now()
		time.Sleep(20 * ms)
		longest = max(longest, time.Since(began)-20*ms)
	}
	return longest
}

func result(d *Driver) manyResult {
	var r manyResult
	for _, s := range d.State().Sessions {
		if s.State == bfd.Up {
			r.Up++
		}
		r.Sent += s.Sent
		r.Received += s.Received
	}
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		r.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r.Mallocs = memory.Mallocs
	return r
}

// end is one process of TestMany.
type end struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func newEnd(t *testing.T, ns *netnstest.NS, spec manySpec) *end {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	e := &end{cmd: exec.Command("/proc/self/exe", "-test.run=^TestMany$")}
	e.cmd.Env = append(os.Environ(), envMany+"="+string(text))
	e.cmd.Stderr = os.Stderr
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	e.out = bufio.NewScanner(out)
	ns.Do(t, func() error { return e.cmd.Start() })
	t.Cleanup(func() { _ = e.cmd.Process.Kill() })
	return e
}

func (e *end) line(t *testing.T) string {
	t.Helper()
	if !e.out.Scan() {
		t.Fatalf("no output: %v", e.out.Err())
	}
	return e.out.Text()
}

// TestMany holds 300 sessions at 100 ms between two processes for a while. None goes down.
//
//nolint:paralleltest // it measures
func TestMany(t *testing.T) {
	if text := os.Getenv(envMany); text != "" {
		var spec manySpec
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		if err := spec.run(t.Context(), os.Stdin, os.Stdout); err != nil {
			t.Fatal(err)
		}
		return
	}
	if testing.Short() {
		t.Skip("SKIPPED: takes 10 s")
	}
	left, right := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, left, "eth0", right, "eth0")
	spec := manySpec{Sessions: 300, Interval: 100 * ms, Period: 6 * time.Second}
	if text := os.Getenv("HERALD_TEST_BFD_SPEC"); text != "" { // for measurements by hand
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
	}
	var ends [2]*end
	for i, ns := range []*netnstest.NS{left, right} {
		spec.Far = i == 1
		var commands strings.Builder
		for n := range spec.Sessions {
			fmt.Fprintf(&commands, "addr add %v/16 dev eth0\n", spec.address(spec.Far, n))
		}
		batch(t, ns, commands.String())
		ends[i] = newEnd(t, ns, spec)
	}
	for _, e := range ends {
		if got := e.line(t); got != "measured" {
			t.Fatalf("said %q", got)
		}
	}
	for _, e := range ends {
		if err := e.in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var (
		stall  time.Duration
		failed []string
	)
	for i, e := range ends {
		var r manyResult
		if err := json.Unmarshal([]byte(e.line(t)), &r); err != nil {
			t.Fatal(err)
		}
		perSession := r.CPU.Seconds() / spec.Period.Seconds() / float64(spec.Sessions) * 100
		t.Logf("end %d: %+v; %.3f %% of a core per session, %v per packet", i, r, perSession, r.CPU/time.Duration(r.Sent+r.Received))
		stall = max(stall, r.Stall)
		if r.Up != spec.Sessions || r.Failed != 0 {
			failed = append(failed, fmt.Sprintf("end %d: %d of %d sessions are up, failures: %d, first %v",
				i, r.Up, spec.Sessions, r.Failed, r.Failures))
		}
		if least := uint64(spec.Sessions) * uint64(spec.Period/spec.Interval); r.Received < least*9/10 {
			t.Errorf("end %d: %d packets received, want at least %d", i, r.Received, least)
		}
		// The runtime allocates a little on its own.
		if packets := r.Sent + r.Received; r.Mallocs > packets/20 {
			t.Errorf("end %d: %d allocations for %d packets", i, r.Mallocs, packets)
		}
	}
	switch {
	case len(failed) == 0:
	case stall > spec.Interval:
		// A session cannot tell that from a peer that is gone. The machine is too busy for this test.
		t.Skipf("SKIPPED: a process did not get to run for %v, so: %v", stall, failed)
	default:
		t.Error(strings.Join(failed, "\n"))
	}
}

// batch runs commands of ip.
func batch(t *testing.T, ns *netnstest.NS, commands string) {
	t.Helper()
	file := t.TempDir() + "/ip"
	if err := os.WriteFile(file, []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, ns, "ip", "-batch", file)
}
