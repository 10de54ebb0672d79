// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// component is a running program of the lab's own, with its log.
type component struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startComponent runs a program in a namespace, with its output in a log file named like the component.
func (s *Supervisor) startComponent(name, netns string, argv ...string) (*component, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The API server above all is short of processor time when it starts, never of memory.
	cmd.Env = append(os.Environ(), "GOGC=300")
	return s.startCommand(name, netns, cmd)
}

func (s *Supervisor) startCommand(name, netns string, cmd *exec.Cmd) (*component, error) {
	c := &component{name: name, log: filepath.Join(s.logs, name+".log"), cmd: cmd, done: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := wire.Do(netns, cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(c.done)
		s.log.Info("component ended", "component", name, "state", cmd.ProcessState.String())
	}()
	return c, nil
}

// ended reports whether the component has ended.
func (c *component) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// failure wraps err with what a person needs in order to look further: the last lines of the log, and where it is.
func (c *component) failure(err error) error {
	if c.ended() {
		err = fmt.Errorf("ended: %s", c.cmd.ProcessState)
	}
	return fmt.Errorf("%s: %w\n%s", c.name, err, tail(c.log, 15))
}

// tail returns the last lines of a log, indented, with its path.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("    (no log: %v)", err)
	}
	defer f.Close()
	const enough = 16 << 10
	if info, err := f.Stat(); err == nil && info.Size() > enough {
		_, _ = f.Seek(-enough, io.SeekEnd)
	}
	data, _ := io.ReadAll(f)
	all := strings.Split(string(bytes.TrimRight(data, "\n")), "\n")
	all = all[max(0, len(all)-lines):]
	return "    | " + strings.Join(all, "\n    | ") + "\n    log: " + path
}

// until calls ok every interval until it says true. It fails when one of the components has ended, when ok returns
// an error, or with ctx.
func until(ctx context.Context, every time.Duration, components []*component, ok func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		for _, c := range components {
			if c.ended() {
				return c.failure(nil)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
