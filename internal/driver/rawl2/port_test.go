// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/internal/netnstest"
)

// polled lists the file descriptors that an epoll of this process watches, as that of the Go runtime does for those that
// package net has opened.
func polled(tb testing.TB) (fds []int) {
	tb.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		tb.Fatal(err)
	}
	for _, link := range links {
		if what, err := os.Readlink(link); err != nil || what != "anon_inode:[eventpoll]" {
			continue // closed meanwhile, or something else
		}
		info, err := os.ReadFile(filepath.Join("/proc/self/fdinfo", filepath.Base(link)))
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			var fd int
			if n, _ := fmt.Sscanf(line, "tfd: %d", &fd); n == 1 {
				fds = append(fds, fd)
			}
		}
	}
	return fds
}

// TestPortUnpolled: a question wakes up the thread that answers it, and not that of Go's network poller as well.
func TestPortUnpolled(t *testing.T) {
	t.Parallel()
	cable(t, "unpolled0")
	p, err := openPort(link(t, "unpolled0"), arp, everything())
	if err != nil {
		t.Fatal(err)
	}
	go p.serve(func(_, _ []byte) []byte { return nil }, func() {})
	defer p.close()
	if fds := polled(t); slices.Contains(fds, p.fd) {
		t.Errorf("the poller watches socket %d (and all of %v)", p.fd, fds)
	}

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		netnstest.Skip(t, fmt.Sprintf("no socket to compare with: %v", err))
	}
	defer udp.Close()
	raw, err := udp.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if fds := polled(t); !slices.Contains(fds, int(fd)) {
				t.Errorf("the poller is said to watch %v, and not socket %d of package net, which it does", fds, fd)
			}
		})
	}
	if err != nil {
		t.Error(err)
	}
}
