// SPDX-License-Identifier: Apache-2.0

// Package boot is the first process of a machine of the lab: of the lab itself and of each node. It is PID 1 of its PID
// namespace, so everything in the machine dies with it. It prepares the mounts, starts the one program that matters,
// and buries orphans, which Go programs that start children themselves cannot do without disturbing os/exec.
package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Role is the hidden first argument that makes the lab program a Main.
const Role = "machine"

// LockFD is the descriptor of a lock that the machine's program inherits, if the command's ExtraFiles say so.
const LockFD = 3

// Command prepares a machine: self is the lab program, hostname the machine's name, keep the directories below /run
// that stay visible in it, program and args what runs in it. The machine inherits the network namespace of the thread
// that starts the command.
func Command(self, hostname string, keep []string, program string, args ...string) *exec.Cmd {
	argv := []string{Role, hostname}
	for _, dir := range keep {
		argv = append(argv, "--keep="+dir)
	}
	cmd := exec.Command(self, append(append(argv, "--", program), args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true, // a Ctrl-C meant for whoever started it must not stop half of the machine
	}
	return cmd
}

// Main runs the machine and returns its exit code. The arguments are those that Command makes.
func Main(args []string) int {
	code, err := run(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "machine: %v\n", err)
		return 1
	}
	return code
}

func run(args []string) (int, error) {
	if os.Getpid() != 1 || len(args) < 3 {
		return 0, errors.New("this is started by the lab only, as the first process of a PID namespace")
	}
	hostname, args := args[0], args[1:]
	var keep []string
	for len(args) > 0 && args[0] != "--" {
		keep = append(keep, args[0][len("--keep="):])
		args = args[1:]
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return 0, fmt.Errorf("host name: %w", err)
	}
	if err := mounts(keep); err != nil {
		return 0, err
	}
	return supervise(args[1:])
}

// mounts gives the machine a /proc, a /sys and a /run of its own. Nothing that is mounted here reaches the host.
func mounts(keep []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// /sys/class/net shows the network namespace of whoever mounted it.
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	// A directory that is about to be covered stays reachable through an open descriptor.
	held := make([]*os.File, len(keep))
	for i, dir := range keep {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		defer f.Close()
		held[i] = f
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for i, dir := range keep {
		if rel, err := filepath.Rel("/run", dir); err != nil || !filepath.IsLocal(rel) {
			continue // not below /run: nothing covers it
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		source := fmt.Sprintf("/proc/self/fd/%d", held[i].Fd())
		if err := unix.Mount(source, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
	}
	return nil
}

// supervise runs the program, passes termination on to it, and reaps until it ends.
func supervise(argv []string) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: files()})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	pid := p.Pid
	go func() {
		for s := range signals {
			// Not by p: the process is reaped below, behind its back.
			_ = unix.Kill(pid, s.(syscall.Signal))
		}
	}()
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid && status.Exited():
			return status.ExitStatus(), nil
		case got == pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		}
	}
}

// files are the program's first descriptors: ours, and if there is one, the lock file at 3 (see Command's caller), which
// lives as long as any process that holds it. Only the program may: the machine's other processes must not keep it.
func files() []*os.File {
	list := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if _, err := unix.FcntlInt(LockFD, unix.F_GETFD, 0); err == nil {
		unix.CloseOnExec(LockFD)
		list = append(list, os.NewFile(LockFD, "lock"))
	}
	return list
}
