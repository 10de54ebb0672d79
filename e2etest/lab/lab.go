// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Lab is a handle on a running lab. Its methods may be called from several goroutines.
type Lab struct {
	name   string
	dir    string
	pid    int // the supervisor's, as this process sees it
	client *http.Client

	mu    sync.Mutex     // guards stdin
	stdin io.WriteCloser // nil unless this process has started the lab and not detached
	cmd   *exec.Cmd      // nil unless this process has started the lab
	ended chan struct{}  // closed when cmd has ended
}

// ErrNotRunning says that there is no lab of that name.
var ErrNotRunning = errors.New("not running")

// Attach finds a running lab by name; "" means the default name, and also the default directory.
func Attach(ctx context.Context, dir, name string) (*Lab, error) {
	if name == "" {
		name = defaultName
	}
	l := newLab(filepath.Join(stateDir(dir), name), name)
	pid, err := l.peer(ctx)
	switch {
	case err == nil:
		l.pid = pid
		return l, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("lab %q: needs root: run it with sudo", name)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("lab %q: %w", name, err)
	case alive(l.dir):
		return nil, fmt.Errorf("lab %q is still starting", name)
	}
	names, err := List(dir)
	if err != nil {
		return nil, err
	}
	others := "no other is"
	if len(names) > 0 {
		others = "running: " + strings.Join(names, ", ") + " (choose with -n NAME)"
	}
	return nil, fmt.Errorf("lab %q is %w; %s", name, ErrNotRunning, others)
}

func newLab(dir, name string) *Lab {
	l := &Lab{name: name, dir: dir}
	l.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.dir, ControlSocket))
		},
	}}
	return l
}

// peer asks the kernel who listens on the control socket. The answer is in this process's own PID namespace.
func (l *Lab) peer(ctx context.Context) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.dir, ControlSocket))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// Name returns the lab's name.
func (l *Lab) Name() string { return l.name }

// Dir returns the state directory, which is gone after Down.
func (l *Lab) Dir() string { return l.dir }

// LogDir returns the directory of all logs: components by name, Pods below pods/NAMESPACE_NAME_UID/CONTAINER/N.log.
func (l *Lab) LogDir() string { return filepath.Join(l.dir, LogsDir) }

// Detach lets the lab outlive this process.
func (l *Lab) Detach() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stdin == nil {
		return nil
	}
	_, err := fmt.Fprintln(l.stdin, DetachWord)
	if err = errors.Join(err, l.stdin.Close()); err != nil {
		return fmt.Errorf("detach from lab %s: %w", l.name, err)
	}
	l.stdin = nil
	return nil
}

// downTimeout is how long a supervisor may take to end by itself.
const downTimeout = 10 * time.Second

// Down ends the lab and removes its state directory. It is no error if the lab is gone already.
func (l *Lab) Down(ctx context.Context) error {
	machine := l.machinePID()
	// A supervisor that does not answer is ended anyway.
	_, _ = l.call(ctx, http.MethodPost, "/v1/down")
	if machine != 0 {
		if err := endProcess(ctx, machine); err != nil {
			return fmt.Errorf("end lab %s: %w", l.name, err)
		}
	}
	if l.cmd != nil {
		<-l.ended
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove state of lab %s: %w", l.name, err)
	}
	_ = os.Remove(filepath.Dir(l.dir)) // only if no other lab is there
	return nil
}

// machinePID is the first process of the lab; 0 if the lab is gone.
func (l *Lab) machinePID() int {
	if l.cmd != nil {
		return l.cmd.Process.Pid
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	if err != nil || !alive(l.dir) {
		return 0
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// endProcess waits for the end of a process, and after a while enforces it.
func endProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(downTimeout)
	killed := false
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 100)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
		if (ctx.Err() != nil || time.Now().After(deadline)) && !killed {
			killed = true
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
				return err
			}
		}
	}
}

// Wait returns when the lab has ended. Only the process that started a lab may wait for it.
func (l *Lab) Wait(ctx context.Context) error {
	if l.cmd == nil {
		return fmt.Errorf("lab %s was started by another process", l.name)
	}
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status asks the supervisor for the present state.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	var st Status
	data, err := l.call(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("status of lab %s: %w", l.name, err)
	}
	return st, nil
}

func (l *Lab) call(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.name, err)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.name, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("lab %s: %s", l.name, strings.TrimSpace(string(data)))
	}
	return data, nil
}

func (l *Lab) act(ctx context.Context, node, action string) error {
	_, err := l.call(ctx, http.MethodPost, "/v1/nodes/"+node+"/"+action)
	return err
}

// Cut pulls the node's cable: the node's link loses its carrier.
func (l *Lab) Cut(ctx context.Context, node string) error { return l.act(ctx, node, "cut") }

// Plug undoes Cut and Blackhole.
func (l *Lab) Plug(ctx context.Context, node string) error { return l.act(ctx, node, "plug") }

// Blackhole stops every frame from and to the node, while its link stays up: a switch that died silently.
func (l *Lab) Blackhole(ctx context.Context, node string) error { return l.act(ctx, node, "blackhole") }

// Unblackhole undoes Blackhole.
func (l *Lab) Unblackhole(ctx context.Context, node string) error {
	return l.act(ctx, node, "unblackhole")
}

// Freeze stops every process of the node. Its kernel still answers: ARP for the node's own address, forwarding.
func (l *Lab) Freeze(ctx context.Context, node string) error { return l.act(ctx, node, "freeze") }

// Thaw undoes Freeze.
func (l *Lab) Thaw(ctx context.Context, node string) error { return l.act(ctx, node, "thaw") }

// Kill is a power cut: all processes of the node and its network are gone at once, nobody says goodbye.
func (l *Lab) Kill(ctx context.Context, node string) error { return l.act(ctx, node, "kill") }

// Reboot is a power cut, if the node is on, and a fresh start of the node with the same name and addresses.
func (l *Lab) Reboot(ctx context.Context, node string) error { return l.act(ctx, node, "reboot") }
