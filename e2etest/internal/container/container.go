// SPDX-License-Identifier: Apache-2.0

// Package container runs one program the way a container runtime would: in its own PID, mount, UTS and IPC namespaces,
// in a given network namespace, with a root directory of its own, as a given user, with a few capabilities.
//
// There are no images. The root directory holds the machine's /usr, /bin, /lib and the like, read-only, the mapped program,
// and what the Pod mounts; everything else in it is empty and private.
package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// Role is the hidden first argument that makes the lab program a Main.
const Role = "container"

// Mount makes a file or directory of the node visible in a container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Spec is one container, completely resolved: no name is looked up any more.
type Spec struct {
	Hostname     string
	Argv         []string
	Env          []string
	Dir          string
	UID, GID     int
	Groups       []int
	Capabilities []string
	NoNewPrivs   bool
	ReadOnlyRoot bool
	Mounts       []Mount
	// Hosts and ResolvConf are the contents of these files in /etc.
	Hosts, ResolvConf string
}

// Process is a running container.
type Process struct {
	cmd *exec.Cmd
}

// Start runs a container in the network namespace netns and returns when its program runs. self is the lab program.
func Start(self, netns string, spec Spec, output *os.File) (*Process, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode container: %w", err)
	}
	failed, report, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer failed.Close()
	defer report.Close()
	cmd := exec.Command(self, Role)
	// Not Stdin: a container that does not ask for it has /dev/null there.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer read.Close()
	defer write.Close()
	cmd.ExtraFiles = []*os.File{read, report}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := wire.Do(netns, cmd.Start); err != nil {
		return nil, fmt.Errorf("start container: %w", err)
	}
	read.Close()
	report.Close()
	_, err = write.Write(data)
	write.Close()
	// The other end closes when the program is executed; until then it may carry one error message.
	message, readErr := io.ReadAll(failed)
	if err = errors.Join(err, readErr); err != nil || len(message) > 0 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if len(message) > 0 {
			return nil, errors.New(strings.TrimSpace(string(message)))
		}
		return nil, fmt.Errorf("start container: %w", err)
	}
	return &Process{cmd: cmd}, nil
}

// PID is the process id on the node.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the container's program.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal container: %w", err)
	}
	return nil
}

// Wait returns when the program has ended and, by the kernel, everything it left in its PID namespace: its exit
// code, and the signal that ended it or 0. As shells do, a signal n counts as exit code 128+n.
func (p *Process) Wait() (code, signal int) {
	_ = p.cmd.Wait() // the state says it all
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return 255, 0
	case status.Signaled():
		return 128 + int(status.Signal()), int(status.Signal())
	}
	return status.ExitStatus(), 0
}

// Inside prepares a command in the namespaces of a running container, for exec probes.
func (p *Process) Inside(argv ...string) []string {
	enter := []string{"nsenter", fmt.Sprintf("--target=%d", p.PID()), "--mount", "--pid", "--net", "--uts", "--ipc", "--"}
	return append(enter, argv...)
}
