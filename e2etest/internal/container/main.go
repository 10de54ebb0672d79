// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main turns this process, started by Start, into the container's program. It returns only on failure.
func Main() int {
	// Capabilities belong to a thread. The thread that drops them must be the one that executes the program.
	runtime.LockOSThread()
	in, report := os.NewFile(3, "spec"), os.NewFile(4, "report")
	if in == nil || report == nil {
		fmt.Fprintln(os.Stderr, "container: this is started by the lab only")
		return 1
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	var spec Spec
	err := json.NewDecoder(in).Decode(&spec)
	if err == nil {
		err = become(spec)
	}
	fmt.Fprintf(report, "%v\n", err)
	return 1
}

func become(s Spec) error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := buildRoot(s); err != nil {
		return err
	}
	program, err := lookPath(s)
	if err != nil {
		return err
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if err := limit(s.Capabilities); err != nil {
		return err
	}
	if err := forgetInheritable(); err != nil {
		return err
	}
	if err := user(s); err != nil {
		return err
	}
	if s.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	if err := syscall.Exec(program, s.Argv, s.Env); err != nil {
		return fmt.Errorf("exec %s: %w", program, err)
	}
	return nil
}

// user gives up root, with raw system calls: the threads of the Go runtime are gone in a moment, and only this one
// counts.
func user(s Spec) error {
	if err := syscall.Setgroups(s.Groups); err != nil {
		return fmt.Errorf("supplementary groups: %w", err)
	}
	if err := syscall.Setresgid(s.GID, s.GID, s.GID); err != nil {
		return fmt.Errorf("group %d: %w", s.GID, err)
	}
	if err := syscall.Setresuid(s.UID, s.UID, s.UID); err != nil {
		return fmt.Errorf("user %d: %w", s.UID, err)
	}
	return nil
}

// lookPath finds the program with the container's PATH, not with ours.
func lookPath(s Spec) (string, error) {
	for _, e := range s.Env {
		if path, ok := strings.CutPrefix(e, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	program, err := exec.LookPath(s.Argv[0])
	if err != nil {
		return "", fmt.Errorf("program: %w", err)
	}
	return program, nil
}
