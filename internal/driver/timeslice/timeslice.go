// SPDX-License-Identifier: Apache-2.0

// Package timeslice asks the kernel to run this process soon after it wakes up, also where others keep all processors busy.
//
// A normal thread that wakes up waits until those before it have had their time slices. Since Linux 6.12 a thread may ask for shorter slices
// of its own: it gets its turn sooner, and the next one later, so that its share of the processor stays what it was (kernel documentation,
// "EEVDF Scheduler"; sched(7)). That takes no privilege, and is what a program wants that has little to do, but soon. Older kernels ignore it.
package timeslice

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// shortest is the shortest slice that the kernel grants, in nanoseconds.
const shortest = 100_000

// Shorten asks for the shortest slices for all threads of this process, those to come included: a thread inherits them from the one that makes it.
// It reports whether the kernel knows such slices.
func Shorten() (bool, error) {
	granted := true
	done := map[int]bool{}
	for { // until no thread is new: one that is not done may just be making another
		fresh, err := threads(done)
		if err != nil || len(fresh) == 0 {
			return granted && len(done) > 0, err
		}
		for _, tid := range fresh {
			done[tid] = true
			switch ok, err := shorten(tid); {
			case errors.Is(err, unix.ESRCH): // it ended meanwhile
			case err != nil:
				return false, err
			case !ok:
				granted = false
			}
		}
	}
}

// threads lists the threads of this process that are not done.
func threads(done map[int]bool) ([]int, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list the threads of this process: %w", err)
	}
	var out []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil && !done[tid] {
			out = append(out, tid)
		}
	}
	return out, nil
}

// shorten asks for one thread and reports whether it was granted. Who runs this program with another policy, such as SCHED_FIFO, had a reason.
func shorten(tid int) (bool, error) {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return false, fmt.Errorf("sched_getattr of thread %d: %w", tid, err)
	}
	if attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return true, nil
	}
	attr.Runtime = shortest
	if err := unix.SchedSetAttr(tid, attr, 0); err != nil {
		return false, fmt.Errorf("sched_setattr of thread %d: %w", tid, err)
	}
	attr, err = unix.SchedGetAttr(tid, 0)
	if err != nil {
		return false, fmt.Errorf("sched_getattr of thread %d: %w", tid, err)
	}
	return attr.Runtime == shortest, nil
}
