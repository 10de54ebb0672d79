// SPDX-License-Identifier: Apache-2.0

// Package netnstest lets tests use real network interfaces without touching those of the machine.
//
// A network namespace belongs to a thread, and Go moves goroutines between threads. So the whole test binary moves:
// Enter, called first in TestMain, runs the binary once more in a fresh network namespace. The code under test may
// start as many goroutines as it likes and finds itself there (Host). The other end of a cable is a second namespace
// (New), used through netlink handles and short calls on a thread of its own (NS.Do).
//
//	func TestMain(m *testing.M) {
//		if code, done := netnstest.Enter(); done {
//			os.Exit(code)
//		}
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

// Enter runs this test binary again in a network namespace of its own. When that second run has ended, done is true and
// code is what to exit with. Inside the second run, and where no namespace can be made, done is false: go on.
func Enter() (code int, done bool) {
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		impossible(err)
		return 0, false
	}
	if came := os.Getenv(envOutside); came != "" && came != outside {
		return 0, false // already inside
	}
	code, err = rerun(outside, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if errors.Is(err, syscall.EPERM) {
		code, err = rerun(outside, &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	if err != nil {
		impossible(fmt.Errorf("make a network namespace: %w", err))
		return 0, false
	}
	return code, true
}

func impossible(err error) {
	if err := os.Setenv(envReason, err.Error()); err != nil {
		panic("netnstest: " + err.Error())
	}
}

// rerun returns an error if the second run could not be started.
func rerun(outside string, attr *syscall.SysProcAttr) (code int, err error) {
	// Pdeathsig is sent when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr.Pdeathsig = syscall.SIGKILL

	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), envOutside+"="+outside),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr,
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// "go test" asks for a stack dump with SIGQUIT when time is up: the second run must get it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended already
		}
	}()
	err = cmd.Wait()
	if exited := (*exec.ExitError)(nil); err == nil || errors.As(err, &exited) && exited.Exited() {
		return cmd.ProcessState.ExitCode(), nil
	}
	fmt.Fprintln(os.Stderr, "netnstest: second run:", err)
	return 2, nil
}

// require skips the test, or fails it on CI, if there is no namespace to run in.
func require(tb testing.TB) {
	tb.Helper()
	reason := os.Getenv(envReason)
	if reason == "" && os.Getenv(envOutside) == "" {
		tb.Fatal("netnstest.Enter was not called in TestMain")
	}
	if reason != "" {
		Skip(tb, "no network namespace: "+reason)
	}
}

// Skip skips a test that cannot run here, and says why. On CI it fails.
func Skip(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(why)
	}
	tb.Skip("SKIPPED, " + why)
}
