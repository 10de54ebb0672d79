// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/driver/rawl2/arpoffload"
	"github.com/heraldlb/herald/internal/netnstest"
)

const envOffload = "HERALD_TEST_OFFLOAD"

func newOffload(tb testing.TB) *arpoffload.Table {
	tb.Helper()
	table, err := arpoffload.New()
	if errors.Is(err, os.ErrPermission) {
		netnstest.Skip(tb, "no eBPF: "+err.Error())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { table.Close() })
	return table
}

// TestOffloaded runs all tests of this package once more, with the kernel answering: to the network it makes no difference.
func TestOffloaded(t *testing.T) {
	t.Parallel()
	if os.Getenv(envOffload) != "" {
		return
	}
	netnstest.Host(t)
	newOffload(t) // or skip
	cmd := exec.Command("/proc/self/exe", "-test.timeout=5m", "-test.skip=^TestOnlyNetRaw$")
	// A network namespace of its own: the tests name their interfaces.
	cmd.Env = append(os.Environ(), envOffload+"=1", "HERALD_NETNSTEST_OUTSIDE=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestKernelAnswers: it is the kernel that answers, and what it has answered is counted.
func TestKernelAnswers(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "offload0")
	table := newOffload(t)
	d, l := New(Config{Logger: slog.New(slog.DiscardHandler), L2: silent(), Offload: table}), link(t, "offload0")
	ended := make(chan struct{})
	t.Run("run", func(t *testing.T) {
		defer close(ended)
		run(t, d)
		w := newWire(t, far, arp)
		d.Set(own(l, vip4))
		w.ready(t, vip4)
		netnstest.Eventually(t, func() error {
			w.ready(t, vip4)
			if n := table.Answered(l.Index, vip4); n < 3 {
				return errors.New("the kernel does not answer")
			}
			return nil
		})
		func() {
			d.mu.Lock() // nobody else can answer
			defer d.mu.Unlock()
			w.ready(t, vip4)
		}()
		if a := d.State().Addresses[0]; a.ResponsesSent < 4 || a.RequestsReceived != a.ResponsesSent {
			t.Errorf("counted: %+v", a)
		}
		d.Lease(time.Now().Add(time.Hour)) // which holds for the driver, but not for the kernel
		before := table.Answered(l.Index, vip4)
		time.Sleep(offloadLimit)
		w.ready(t, vip4)
		if n := table.Answered(l.Index, vip4); n != before {
			t.Errorf("%v after the lease was renewed last the kernel still answers", offloadLimit)
		}
		d.Lease(time.Now().Add(time.Hour))
		w.ready(t, vip4)
		if n := table.Answered(l.Index, vip4); n == before {
			t.Error("the lease is renewed, and the kernel does not answer")
		}
		d.Lease(time.Time{})
	})
	<-ended
	w := newWire(t, far, arp)
	w.send(t, w.request(vip4))
	if err := w.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := w.conn.ReadFrom(w.buf); err == nil {
		t.Errorf("after Run somebody answers: % x", w.buf[:n])
	}
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// TestKernelCannot: then the driver answers, and says in the log what does not work.
func TestKernelCannot(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "cannot0")
	table := newOffload(t)
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	var log logged
	d := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), L2: l2.DefaultConfig(), Offload: table})
	run(t, d)
	d.Set(own(link(t, "cannot0"), vip4, vip4.Next()))
	newWire(t, far, arp).ready(t, vip4, vip4.Next())
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, want := range []string{
		`msg="the kernel cannot answer ARP requests on an interface, so the speaker does" interface=cannot0`,
		`msg="the kernel does not answer ARP requests for all addresses, the speaker answers for the rest"`,
	} {
		if n := strings.Count(log.text.String(), want); n != 1 {
			t.Errorf("%d times instead of once in the log: %s\n%s", n, want, &log.text)
		}
	}
}
