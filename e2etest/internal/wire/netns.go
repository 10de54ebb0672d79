// SPDX-License-Identifier: Apache-2.0

// Package wire is the lab's cabling: network namespaces, veth pairs, bridge ports, addresses and routes.
package wire

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// Dir is where named namespaces are mounted, the place where ip(8) looks for them too.
const Dir = "/run/netns"

// Path returns the file of a named namespace.
func Path(name string) string { return filepath.Join(Dir, name) }

// Create makes a named network namespace with its loopback interface up.
func Create(name string) error {
	runtime.LockOSThread()
	orig, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace of this thread: %w", err)
	}
	defer orig.Close()
	made, err := netns.NewNamed(name)
	if err == nil {
		made.Close()
	}
	restore(orig)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return Up(Path(name), "lo")
}

// Delete removes the name. The namespace itself ends with its last process, and with it its end of each cable.
func Delete(name string) error {
	if err := netns.DeleteNamed(name); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return nil
}

// Do runs fn on a thread inside the network namespace of that file.
func Do(path string, fn func() error) error {
	runtime.LockOSThread()
	orig, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace of this thread: %w", err)
	}
	defer orig.Close()
	target, err := netns.GetFromPath(path)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer target.Close()
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer restore(orig)
	return fn()
}

// restore leaves the thread locked if it cannot return to its namespace: Go then ends the thread together with its
// goroutine, and nothing else ever runs in the wrong namespace.
func restore(orig netns.NsHandle) {
	if netns.Set(orig) == nil {
		runtime.UnlockOSThread()
	}
}

// Dialer returns a dial function whose connections belong to the namespace. The address must be an IP address.
func Dialer(path string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var conn net.Conn
		err := Do(path, func() error {
			var d net.Dialer
			var err error
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
}

// Sysctl sets kernel parameters below net. in a namespace, each given as "ipv4.ip_forward=1". A parameter that this
// kernel does not have is an error, unless its name starts with "-".
func Sysctl(path string, settings ...string) error {
	return Do(path, func() error {
		for _, s := range settings {
			key, value, _ := strings.Cut(s, "=")
			key, optional := strings.CutPrefix(key, "-")
			// Interface names may hold no dot, so that every dot separates.
			file := filepath.Join("/proc/sys/net", strings.ReplaceAll(key, ".", "/"))
			err := os.WriteFile(file, []byte(value), 0)
			if err != nil && !(optional && os.IsNotExist(err)) {
				return fmt.Errorf("sysctl net.%s=%s: %w", key, value, err)
			}
		}
		return nil
	})
}
