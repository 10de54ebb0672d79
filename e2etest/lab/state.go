// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What a lab's state directory holds. The supervisor uses the same names.
const (
	OptionsFile    = "options.json"
	LockFile       = "lock" // locked as long as the supervisor lives
	ControlSocket  = "control.sock"
	APISocket      = "apiserver.sock"
	KubeconfigFile = "kubeconfig"
	LogsDir        = "logs"
	BinDir         = "bin" // first in PATH of commands inside the lab
)

// RouterDir is where, inside the lab, each router has a directory: its configuration, and BIRD's control socket.
const RouterDir = "/run/lab/routers"

// DetachWord is written to the supervisor's standard input. It lets the lab outlive its parent.
const DetachWord = "detach"

// Report is one line of JSON from a starting supervisor.
type Report struct {
	Progress string `json:",omitempty"`
	Ready    bool   `json:",omitempty"`
	Error    string `json:",omitempty"`
}

func stateDir(dir string) string {
	if dir == "" {
		dir = os.Getenv("HERALD_LAB_DIR")
	}
	if dir == "" {
		dir = "/run/herald-lab"
	}
	return dir
}

// List returns the names of the running labs, sorted.
func List(dir string) ([]string, error) {
	dir = stateDir(dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries { // sorted by name
		if e.IsDir() && alive(filepath.Join(dir, e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// alive reports whether a supervisor holds the lock of that state directory. A lab that is not ours to look at counts
// as alive.
func alive(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR, 0)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// claim makes the state directory of a new lab and removes what dead labs have left. It returns the lab's lock, which
// the supervisor inherits, so that there is no moment in which a living lab looks dead.
func claim(o Options) (dir string, lock *os.File, err error) {
	if err := os.MkdirAll(o.StateDir, 0o755); err != nil {
		return "", nil, fmt.Errorf("state directory: %w", err)
	}
	// One start at a time looks at the directories of all labs.
	all, err := os.Open(o.StateDir)
	if err != nil {
		return "", nil, fmt.Errorf("state directory: %w", err)
	}
	defer all.Close()
	if err := unix.Flock(int(all.Fd()), unix.LOCK_EX); err != nil {
		return "", nil, fmt.Errorf("lock %s: %w", o.StateDir, err)
	}
	entries, err := os.ReadDir(o.StateDir)
	for _, e := range entries {
		old := filepath.Join(o.StateDir, e.Name())
		if e.IsDir() && !alive(old) {
			err = errors.Join(err, os.RemoveAll(old))
		}
	}
	dir = filepath.Join(o.StateDir, o.Name)
	if _, statErr := os.Stat(dir); statErr == nil {
		err = errors.Join(err, fmt.Errorf("lab %q is running already: end it with 'lab down -n %s', or start another with 'lab up -n NAME'",
			o.Name, o.Name))
	}
	if err != nil {
		return "", nil, err
	}
	err = errors.Join(os.MkdirAll(filepath.Join(dir, BinDir), 0o755), os.MkdirAll(filepath.Join(dir, LogsDir), 0o755))
	if err != nil {
		return "", nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err = os.OpenFile(filepath.Join(dir, LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return "", nil, fmt.Errorf("lock of lab %s: %w", o.Name, err)
	}
	return dir, lock, nil
}
