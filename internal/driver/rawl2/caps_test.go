// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

const envCapsLink = "HERALD_TEST_CAPS_LINK"

// TestOnlyNetRaw runs the driver in a process that has no capability but CAP_NET_RAW, as the speaker's container has.
func TestOnlyNetRaw(t *testing.T) {
	t.Parallel()
	if name := os.Getenv(envCapsLink); name != "" {
		answerUntilStdinEnds(t, name)
		return
	}
	_, far := cable(t, "caps0")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOnlyNetRaw$")
	cmd.Env = append(os.Environ(), envCapsLink+"=caps0")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startWithOnlyNetRaw(cmd); err != nil {
		t.Fatal(err)
	}
	newWire(t, far, arp).ready(t, vip4)
	newWire(t, far, ip6).ready(t, vip6)
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// startWithOnlyNetRaw takes all other capabilities from the bounding set of a thread, which the new process inherits.
// The thread ends with the goroutine.
func startWithOnlyNetRaw(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if c == unix.CAP_NET_RAW {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				result <- fmt.Errorf("drop capability %d: %w", c, err)
				return
			}
		}
		result <- cmd.Start()
	}()
	return <-result
}

func answerUntilStdinEnds(t *testing.T, name string) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("CapEff:\t%016x\n", 1<<unix.CAP_NET_RAW); !strings.Contains(string(status), want) {
		t.Errorf("capabilities are not %q:\n%s", want, status)
	}
	d := running(t, l2.DefaultConfig())
	d.Set(own(link(t, name), vip4, vip6))
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Error(err)
	}
	s := d.State()
	if len(s.Errors) > 0 {
		t.Errorf("errors: %+v", s.Errors)
	}
	for _, a := range s.Addresses {
		if a.ResponsesSent == 0 || a.GratuitousSent == 0 {
			t.Errorf("address: %+v", a)
		}
	}
}
