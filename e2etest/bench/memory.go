// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
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
	want, err := os.Stat(program)
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	largest := 0.0
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		exe, err := os.Stat(filepath.Join(p, "exe"))
		if err != nil || !os.SameFile(exe, want) {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(p, "ns", "pid")); err != nil || ns != strings.TrimSpace(string(space)) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(p, "status"))
		if err != nil {
			continue // ended meanwhile
		}
		mb, err := rss(string(status))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p, err)
		}
		largest = max(largest, mb)
	}
	if largest == 0 {
		return 0, fmt.Errorf("no process of the lab runs %s", program)
	}
	return largest, nil
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
