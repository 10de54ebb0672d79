// SPDX-License-Identifier: Apache-2.0

package timeslice

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/netnstest"
)

// TestShorten: threads that are there and threads that are made afterwards get short slices.
//
//nolint:paralleltest // it is about all threads of the process
func TestShorten(t *testing.T) {
	granted, err := Shorten()
	if err != nil {
		t.Fatal(err)
	}
	if !granted {
		netnstest.Skip(t, "this kernel knows no time slices of a thread of its own (Linux 6.12)")
	}
	const others = 20
	var all, looked sync.WaitGroup
	all.Add(others)
	for range others {
		looked.Go(func() {
			runtime.LockOSThread() // never unlocked: a thread each
			all.Done()
			all.Wait() // so that none of them is used twice
			attr, err := unix.SchedGetAttr(0, 0)
			if err != nil || attr.Runtime != shortest {
				t.Errorf("a new thread has slices of %v ns, want %d; %v", attr, shortest, err)
			}
		})
	}
	looked.Wait()
	fresh, err := threads(map[int]bool{})
	if err != nil || len(fresh) == 0 {
		t.Fatalf("threads %v, %v", fresh, err)
	}
	for _, tid := range fresh {
		if attr, err := unix.SchedGetAttr(tid, 0); err == nil && attr.Runtime != shortest {
			t.Errorf("thread %d has slices of %d ns, want %d", tid, attr.Runtime, shortest)
		}
	}
}
