// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// stage is where the new root grows. It is covered in this mount namespace only.
const stage = "/run"

// buildRoot makes the container's root directory and changes into it.
func buildRoot(s Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The sources of the Pod's mounts are opened first: the stage may cover them.
	held := make([]*os.File, len(s.Mounts))
	for i, m := range s.Mounts {
		f, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		held[i] = f
	}
	if err := unix.Mount("tmpfs", stage, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, step := range []func() error{system, devices, func() error { return etc(s) }, kernel} {
		if err := step(); err != nil {
			return err
		}
	}
	// Outer targets first, so that a mount inside another mount ends up on top.
	order := make([]int, len(s.Mounts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(s.Mounts[a].Target) - len(s.Mounts[b].Target) })
	for _, i := range order {
		m := s.Mounts[i]
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", held[i].Fd()), filepath.Join(stage, m.Target), m.ReadOnly); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	if err := enterRoot(); err != nil {
		return err
	}
	if s.ReadOnlyRoot {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	return nil
}

// system shows the machine's programs and libraries, read-only.
func system() error {
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		source, target := "/"+name, filepath.Join(stage, name)
		info, err := os.Lstat(source)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 { // /bin -> usr/bin
			link, err := os.Readlink(source)
			if err == nil {
				err = os.Symlink(link, target)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := bind(source, target, true); err != nil {
			return fmt.Errorf("show %s: %w", source, err)
		}
	}
	for _, name := range []string{"root", "home", "run", "var", "var/lib", "var/log", "var/cache", "tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(stage, name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(stage, name), 0o1777|fs.ModeSticky); err != nil {
			return err
		}
	}
	// Relative: an absolute link would still lead out of the root that is being built.
	return os.Symlink("../run", filepath.Join(stage, "var/run"))
}

func devices() error {
	dev := filepath.Join(stage, "dev")
	if err := os.MkdirAll(filepath.Join(dev, "shm"), 0o1777); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+name, filepath.Join(dev, name), false); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
	}
	for link, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	return nil
}

// etc holds what programs need to run at all, and the files that a kubelet writes.
func etc(s Spec) error {
	dir := filepath.Join(stage, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{
		"alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
		"nsswitch.conf", "passwd", "protocols", "services", "ssl",
	} {
		source := filepath.Join("/etc", name)
		if _, err := os.Stat(source); err != nil {
			continue
		}
		if err := bind(source, filepath.Join(dir, name), true); err != nil {
			return fmt.Errorf("show %s: %w", source, err)
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "hostname"), []byte(s.Hostname+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(s.Hosts), 0o644),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(s.ResolvConf), 0o644),
	)
}

// kernel mounts /proc and /sys as this PID and network namespace see them.
func kernel() error {
	proc, sys := filepath.Join(stage, "proc"), filepath.Join(stage, "sys")
	if err := errors.Join(os.Mkdir(proc, 0o555), os.Mkdir(sys, 0o555)); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", proc, "proc", flags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sysfs", sys, "sysfs", flags|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

// bind shows source, a file or a directory, at target, which is made if it does not exist.
func bind(source, target string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		var f *os.File
		if f, err = os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if readOnly {
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

func enterRoot() error {
	old := filepath.Join(stage, ".old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(stage, old); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave old root: %w", err)
	}
	return os.Remove("/.old")
}
