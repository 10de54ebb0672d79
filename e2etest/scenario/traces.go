// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// trace is what one can see of a lab from outside while it runs.
type trace struct {
	namespaces map[uint64]string // inode of a network namespace -> place
	// held keeps the namespaces, so that no other lab can get one with the same inode meanwhile.
	held       []*os.File
	dir        string
	interfaces []string // of this machine
}

// exitTime is how long the kernel may take to end all processes of a lab.
const exitTime = 5 * time.Second

func traces(r *running) (trace, error) {
	t := trace{namespaces: map[uint64]string{}, dir: r.lab.Dir()}
	places := []string{"lan", "cp"}
	for _, n := range r.status.Nodes {
		places = append(places, n.Name)
	}
	for _, h := range slices.Concat(r.status.Clients, r.status.Routers) {
		places = append(places, h.Name)
	}
	for _, place := range places {
		path, err := r.lab.NetnsPath(place)
		if err != nil {
			return trace{}, err
		}
		f, err := os.Open(path)
		if err != nil {
			t.release()
			return trace{}, fmt.Errorf("network namespace of %s: %w", place, err)
		}
		t.held = append(t.held, f)
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.release()
			return trace{}, fmt.Errorf("network namespace of %s: %w", place, err)
		}
		t.namespaces[st.Ino] = place
	}
	if len(t.processes()) == 0 {
		t.release()
		return trace{}, errors.New("no process of the lab can be seen: a check for leftovers would prove nothing")
	}
	t.interfaces = interfaceNames()
	return t, nil
}

// gone returns an error that names what is left of the lab.
func (t trace) gone(ctx context.Context) error {
	var left []string
	for deadline := time.Now().Add(exitTime); ; {
		if left = t.processes(); len(left) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := os.Lstat(t.dir); !errors.Is(err, os.ErrNotExist) {
		left = append(left, "directory "+t.dir)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), t.dir) {
		left = append(left, "a mount below "+t.dir)
	}
	for _, name := range interfaceNames() {
		if !slices.Contains(t.interfaces, name) {
			left = append(left, "interface "+name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}

func (t trace) release() {
	for _, f := range t.held {
		_ = f.Close()
	}
}

// processes lists the processes that live in one of the lab's network namespaces.
func (t trace) processes() []string {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	var found []string
	for _, link := range links {
		var st unix.Stat_t
		if unix.Stat(link, &st) != nil {
			continue // ended meanwhile
		}
		if place, ok := t.namespaces[st.Ino]; ok {
			pid := strings.Split(link, "/")[2]
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			found = append(found, fmt.Sprintf("process %s (%s) in %s", pid, strings.TrimSpace(string(comm)), place))
		}
	}
	return found
}

func interfaceNames() []string {
	ifs, err := net.Interfaces()
	if err != nil {
		return []string{"unreadable: " + err.Error()}
	}
	var names []string
	for _, i := range ifs {
		names = append(names, i.Name)
	}
	return names
}
