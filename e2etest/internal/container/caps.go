// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityNames are in the order of their numbers, see capabilities(7).
func capabilityNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
}

// defaultCapabilities is what container runtimes leave to a container that asks for nothing.
func defaultCapabilities() []string {
	return []string{
		"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
		"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
	}
}

// Capabilities returns the sorted names of the capabilities that a container keeps: the runtime's default, less drop,
// plus add. "ALL" in either list, and a "CAP_" in front of a name, mean what they mean in a Pod.
func Capabilities(add, drop []string, privileged bool) ([]string, error) {
	all := capabilityNames()
	if privileged {
		return slices.Sorted(slices.Values(all)), nil
	}
	clean := func(list []string) ([]string, error) {
		var out []string
		for _, name := range list {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			switch {
			case name == "ALL":
				out = append(out, all...)
			case slices.Contains(all, name):
				out = append(out, name)
			default:
				return nil, fmt.Errorf("capability %q: no such capability", name)
			}
		}
		return out, nil
	}
	adds, err := clean(add)
	if err != nil {
		return nil, err
	}
	drops, err := clean(drop)
	if err != nil {
		return nil, err
	}
	keep := slices.DeleteFunc(defaultCapabilities(), func(c string) bool { return slices.Contains(drops, c) })
	keep = append(keep, adds...)
	slices.Sort(keep)
	return slices.Compact(keep), nil
}

// limit takes every other capability away from this thread and from all that it will execute. What a root process has
// after execve is its bounding set; any other user's process has nothing, since ambient and inheritable sets are
// empty: exactly as under a container runtime.
func limit(keep []string) error {
	for number, name := range capabilityNames() {
		if slices.Contains(keep, name) {
			continue
		}
		if held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0); err != nil || held == 0 {
			continue // unknown to this kernel, or taken away before us
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %s: %w", name, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return nil
}

// forgetInheritable empties the thread's inheritable set; the others stay.
func forgetInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	return nil
}
