// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/lab"
)

// process is what finds out which lab a process belongs to.
type process struct {
	parent  int
	program string
	space   string // its PID namespace
}

// instance is a process of a lab that runs a certain program.
type instance struct {
	pid  int
	host string // the Pod's name, or the node's if it shares the node's network
}

// signal does not reach another process that has got the same number meanwhile only because the caller has just looked.
func (i instance) signal(s unix.Signal) error {
	if err := unix.Kill(i.pid, s); err != nil {
		return fmt.Errorf("signal %v to process %d (%s): %w", s, i.pid, i.host, err)
	}
	return nil
}

// instances returns the processes of the lab that run the program with these first arguments, oldest first.
func instances(ctx context.Context, l *lab.Lab, program string, args ...string) ([]instance, error) {
	space, err := l.Exec(ctx, "cp", "readlink", "/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("find the lab's processes: %w", err)
	}
	procs, err := processes()
	if err != nil {
		return nil, err
	}
	var out []instance
	for pid, p := range procs {
		if filepath.Base(p.program) != filepath.Base(program) || !below(procs, pid, strings.TrimSpace(string(space))) {
			continue
		}
		if have := strings.Split(readProc(pid, "cmdline"), "\x00"); len(have) <= len(args) || !slices.Equal(have[1:len(args)+1], args) {
			continue
		}
		out = append(out, instance{pid, variable(readProc(pid, "environ"), "HOSTNAME")})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no process of the lab runs %s %s", program, strings.Join(args, " "))
	}
	slices.SortFunc(out, func(a, b instance) int { return a.pid - b.pid })
	return out, nil
}

// on returns the only process of the program on that host.
func on(ctx context.Context, l *lab.Lab, program, host string) (instance, error) {
	all, err := instances(ctx, l, program)
	if err != nil {
		return instance{}, err
	}
	i := slices.IndexFunc(all, func(p instance) bool { return p.host == host })
	if i < 0 {
		return instance{}, fmt.Errorf("no %s on %s", filepath.Base(program), host)
	}
	return all[i], nil
}

// readProc is empty if the process has ended meanwhile.
func readProc(pid int, file string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	return string(text)
}

// variable returns the value of a variable in an environment, as /proc shows it.
func variable(environ, name string) string {
	for v := range strings.SplitSeq(environ, "\x00") {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

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
		fields := statFields(stat)
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		// A program that was built anew meanwhile is still the same program.
		out[pid] = process{parent, strings.TrimSuffix(exe, " (deleted)"), space}
	}
	return out, nil
}

// statFields are the fields of /proc/PID/stat from the third on: "PID (NAME) STATE PPID ...", and the name may hold anything.
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
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

// resident returns the resident memory, in MB, of the largest process of that program in the lab: the controller that
// leads, not the one that stands by; the busiest speaker.
func resident(ctx context.Context, l *lab.Lab, program string) (float64, error) {
	all, err := instances(ctx, l, program)
	if err != nil {
		return 0, err
	}
	largest := 0.0
	for _, p := range all {
		mb, err := rss(readProc(p.pid, "status"))
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", p.pid, err)
		}
		largest = max(largest, mb)
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

// Positions in statFields, and the unit of what is there: USER_HZ is 100 on every Linux that Go runs on.
const (
	statUser   = 11
	statSystem = 12
	clockTick  = 10 * time.Millisecond
)

// cpuTime returns how long the process has been on a core so far, in user and kernel mode.
func cpuTime(stat string) (time.Duration, error) {
	fields := statFields([]byte(stat))
	if len(fields) <= statSystem {
		return 0, fmt.Errorf("no processor time in %q", stat)
	}
	user, err1 := strconv.Atoi(fields[statUser])
	system, err2 := strconv.Atoi(fields[statSystem])
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// cpuPercent returns the share of one core that a process uses while work runs.
func cpuPercent(p instance, work func() error) (float64, error) {
	before, err := cpuTime(readProc(p.pid, "stat"))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := work(); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	after, err := cpuTime(readProc(p.pid, "stat"))
	return 100 * float64(after-before) / float64(took), err
}

// spent says what the programs of the lab used of the processors while work ran: it tells a slow machine from a slow program.
func (c *cluster) spent(ctx context.Context, o Options, work func() error) error {
	before, begun := c.usage(ctx, o), time.Now()
	if err := work(); err != nil {
		return err
	}
	took, after := time.Since(begun), c.usage(ctx, o)
	var parts []string
	for _, name := range sortedKeys(after) {
		parts = append(parts, fmt.Sprintf("%s %.0f %%", name, 100*float64(after[name]-before[name])/float64(took)))
	}
	o.say("used of one core of %d: %s", runtime.NumCPU(), strings.Join(parts, ", "))
	return nil
}

// usage returns the processor time of the programs that the measurements are about; what has ended meanwhile is left out.
func (c *cluster) usage(ctx context.Context, o Options) map[string]time.Duration {
	kube := filepath.Join(o.Root, "bin", "kube")
	out := map[string]time.Duration{}
	add := func(name, program string, args ...string) {
		found, err := instances(ctx, c.Lab, program, args...)
		if err != nil {
			return
		}
		for _, p := range found {
			if t, err := cpuTime(readProc(p.pid, "stat")); err == nil {
				out[name] += t
			}
		}
	}
	add("etcd", kube, "etcd")
	add("API server", kube, "kube-apiserver")
	add("controller manager", kube, "kube-controller-manager")
	for name, program := range programs(o) {
		add(name+"s", program)
	}
	out["whole machine"] = machineTime()
	return out
}

// machineTime returns how long all cores together have been busy.
func machineTime() (busy time.Duration) {
	text, _ := os.ReadFile("/proc/stat")
	if f := strings.Fields(string(text)); len(f) > 8 {
		for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
			n, _ := strconv.Atoi(f[i])
			busy += time.Duration(n) * clockTick
		}
	}
	return busy
}

// quietMachine is how many cores may be busy with something else while the bench has not begun.
const quietMachine = 0.2

// machineBusy returns how many cores are busy, before the bench itself does anything.
func machineBusy(ctx context.Context) float64 {
	begun, before := time.Now(), machineTime()
	if sleep(ctx, 2*time.Second) != nil {
		return 0
	}
	return float64(machineTime()-before) / float64(time.Since(begun))
}
