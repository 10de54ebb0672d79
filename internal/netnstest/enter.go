// SPDX-License-Identifier: Apache-2.0

// Package netnstest lets tests use real network interfaces without touching those of the machine.
//
// A network namespace belongs to a thread, and Go moves goroutines between threads. So the whole test binary moves:
// Enter, called first in TestMain, runs the binary once more in a fresh network namespace. The code under test may
// start as many goroutines as it likes and finds itself there (Host). The other end of a cable is a second namespace
// (New), used through netlink handles and short calls on a thread of its own (NS.Do).
//
//	func TestMain(m *testing.M) {
//		netnstest.Enter()
//		goleak.VerifyTestMain(m)
//	}
//
// Root is not needed where the kernel lets everybody make user namespaces. Where neither works, the tests that ask
// for a namespace are skipped with the reason, or fail if the environment says CI=true.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
)

// The environment carries the outcome of Enter to the tests, and into processes they start.
const (
	envOutside = "HERALD_NETNSTEST_OUTSIDE" // the namespace that Enter started from
	envReason  = "HERALD_NETNSTEST_REASON"  // why there is no namespace
)

// Enter runs this test binary again in a network namespace of its own and exits with its result. It returns in that
// second run, and where no namespace can be made.
func Enter() {
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		impossible(err)
		return
	}
	if came := os.Getenv(envOutside); came != "" && came != outside {
		return // already inside
	}
	err = rerun(outside, syscall.CLONE_NEWNET, nil)
	if errors.Is(err, syscall.EPERM) {
		err = rerun(outside, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET, func(attr *syscall.SysProcAttr) {
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		})
	}
	impossible(fmt.Errorf("make a network namespace: %w", err))
}

func impossible(err error) {
	if err := os.Setenv(envReason, err.Error()); err != nil {
		panic("netnstest: " + err.Error())
	}
}

// rerun returns only if the second run could not be started.
func rerun(outside string, flags uintptr, adjust func(*syscall.SysProcAttr)) error {
	// Pdeathsig is sent when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envOutside+"="+outside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if adjust != nil {
		adjust(cmd.SysProcAttr)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// "go test" asks for a stack dump with SIGQUIT when time is up: the second run must get it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended already
		}
	}()
	err := cmd.Wait()
	if err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "netnstest: wait for the second run:", err)
		os.Exit(1)
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		os.Exit(code)
	}
	fmt.Fprintln(os.Stderr, "netnstest: second run:", cmd.ProcessState)
	os.Exit(2)
	return nil
}

// require skips the test, or fails it on CI, if there is no namespace to run in.
func require(t testing.TB) {
	t.Helper()
	reason := os.Getenv(envReason)
	if reason == "" && os.Getenv(envOutside) == "" {
		t.Fatal("netnstest.Enter was not called in TestMain")
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatalf("no network namespace: %s", reason)
	default:
		t.Skipf("SKIPPED, no network namespace: %s", reason)
	}
}
