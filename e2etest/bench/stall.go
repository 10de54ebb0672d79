// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stallEvery = 5 * time.Millisecond
	// stallWorth is what is worth a line: a processor that stands still for that long can make a node look dead.
	stallWorth = 100 * time.Millisecond
)

// stalls watches whether the machine's processors run. On a virtual machine one of them may stand still for a while, with all that
// waits for it, and nothing in this machine is to blame or can help. For each processor a thread that goes before all others wakes up
// every 5 ms, and looks how late it is. The function returned ends it, and returns the longest time that a processor stood still.
func stalls(ctx context.Context, o Options) func() (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // guards the fields below
		longest time.Duration
		failed  error
	)
	for cpu := range runtime.NumCPU() {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			if err := goBeforeOthers(cpu); err != nil {
				mu.Lock()
				failed = fmt.Errorf("watch processor %d: %w", cpu, err)
				mu.Unlock()
				return
			}
			for ctx.Err() == nil {
				before := time.Now()
				pause := unix.NsecToTimespec(stallEvery.Nanoseconds())
				_ = unix.Nanosleep(&pause, nil) // too short a sleep does no harm
				late := time.Since(before) - stallEvery
				mu.Lock()
				longest = max(longest, late)
				mu.Unlock()
				if late >= stallWorth {
					o.say("%s: processor %d stood still for %v", time.Now().UTC().Format(time.TimeOnly), cpu, late.Round(time.Millisecond))
				}
			}
		})
	}
	return func() (time.Duration, error) {
		cancel()
		wg.Wait()
		return longest, failed
	}
}

// goBeforeOthers gives the calling thread to one processor, and a priority above all normal ones.
func goBeforeOthers(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}
