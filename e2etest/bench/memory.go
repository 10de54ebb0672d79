// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/e2etest/lab"
)

// programs returns which programs play the two parts: those of Images whose names say so, else Herald's own.
func programs(o Options) map[string]string {
	out := map[string]string{
		"controller": filepath.Join(o.Root, "bin", "controller"),
		"speaker":    filepath.Join(o.Root, "bin", "speaker"),
	}
	for _, name := range sortedKeys(o.Images) {
		for _, part := range sortedKeys(out) {
			if strings.Contains(filepath.Base(name), part) {
				out[part] = o.Images[name]
			}
		}
	}
	return out
}

// resident returns the resident memory, in MB, of the largest process of that program in the lab: the controller that
// leads, not the one that stands by; the busiest speaker.
func resident(ctx context.Context, l *lab.Lab, program string) (float64, error) {
	space, err := l.Exec(ctx, "cp", "readlink", "/proc/self/ns/pid")
	if err != nil {
		return 0, fmt.Errorf("find the lab's processes: %w", err)
	}
	procs, err := processes()
	if err != nil {
		return 0, err
	}
	largest := 0.0
	for pid, p := range procs {
		if filepath.Base(p.program) != filepath.Base(program) || !below(procs, pid, strings.TrimSpace(string(space))) {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // ended meanwhile
		}
		mb, err := rss(string(status))
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		largest = max(largest, mb)
	}
	if largest == 0 {
		return 0, fmt.Errorf("no process of the lab runs %s", program)
	}
	return largest, nil
}

// process is what finds out which lab a process belongs to.
type process struct {
	parent  int
	program string
	space   string // its PID namespace
}

func processes() (map[int]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := map[int]process{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err1 := os.ReadFile(filepath.Join(dir, "stat"))
		exe, err2 := os.Readlink(filepath.Join(dir, "exe"))
		space, err3 := os.Readlink(filepath.Join(dir, "ns", "pid"))
		if errors.Join(err1, err2, err3) != nil {
			continue // ended meanwhile, or of the kernel
		}
		// "PID (NAME) STATE PPID ...", and the name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		// A program that was built anew meanwhile is still the same program.
		out[pid] = process{parent, strings.TrimSuffix(exe, " (deleted)"), space}
	}
	return out, nil
}

// below says whether the process or one of its ancestors is in that PID namespace: each container of a lab has a PID
// namespace of its own, below the lab's.
func below(procs map[int]process, pid int, space string) bool {
	for range len(procs) {
		p, ok := procs[pid]
		if !ok {
			return false
		}
		if p.space == space {
			return true
		}
		pid = p.parent
	}
	return false
}

var rssLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// rss reads VmRSS from /proc/PID/status, in MB of 10^6 bytes.
func rss(status string) (float64, error) {
	m := rssLine.FindStringSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("no VmRSS in %q", status)
	}
	kib, err := strconv.ParseFloat(m[1], 64)
	return kib * 1024 / 1e6, err
}
