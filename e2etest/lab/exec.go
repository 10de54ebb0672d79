// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// Kubeconfig returns the path of an administrator's kubeconfig; it works for programs inside the lab, as with Exec at
// "cp", since the API server's address exists only there. Programs outside use RESTConfig.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.dir, KubeconfigFile) }

// RESTConfig returns the administrator's client configuration for this process. It has no rate limit.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of lab %s: %w", l.name, err)
	}
	config.QPS = -1
	config.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.dir, APISocket))
	}
	return config, nil
}

// Kubectl runs kubectl as administrator, in this process's working directory. stdin may be nil.
func (l *Lab) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr []byte, err error) {
	cmd, err := l.Command(ctx, "cp", append([]string{"kubectl"}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
		return out.Bytes(), errs.Bytes(), err
	}
	return out.Bytes(), errs.Bytes(), nil
}

// Exec runs a command inside the lab and returns its standard output. The error holds the exit status and what the
// command wrote to standard error.
func (l *Lab) Exec(ctx context.Context, where string, argv ...string) ([]byte, error) {
	cmd, err := l.Command(ctx, where, argv...)
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %s: %w: %s", where, strings.Join(argv, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// Command prepares a command inside the lab: at node1, client1, router1, cp, or lan (where the bridge is, named "lan",
// with one port per machine, named like it). It runs in that machine's network, process and mount namespaces, with
// kubectl and helm in its PATH and KUBECONFIG set. The caller sets Stdin, Stdout, Stderr and runs it. Cancelling ctx
// kills the command and its children.
func (l *Lab) Command(ctx context.Context, where string, argv ...string) (*exec.Cmd, error) {
	enter, err := l.enter(ctx, where)
	if err != nil {
		return nil, err
	}
	// A pipe that a child has inherited must not keep Wait waiting after the kill.
	cmd := exec.CommandContext(ctx, enter[0], append(enter[1:], argv...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig(),
		"PATH="+filepath.Join(l.dir, BinDir)+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	return cmd, nil
}

// enter is the command line in front of a command's own.
func (l *Lab) enter(ctx context.Context, where string) ([]string, error) {
	spaces := fmt.Sprintf("/proc/%d/ns", l.pid)
	st, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	if n, ok := st.Node(where); ok {
		if n.InnerPID == 0 {
			return nil, fmt.Errorf("%s is powered off", where)
		}
		spaces = fmt.Sprintf("/proc/%d/root/proc/%d/ns", l.pid, n.InnerPID)
	}
	net, err := l.NetnsPath(where)
	if err != nil {
		return nil, err
	}
	argv := []string{
		"nsenter", "--net=" + net, "--mount=" + spaces + "/mnt", "--pid=" + spaces + "/pid",
		"--uts=" + spaces + "/uts", "--ipc=" + spaces + "/ipc",
	}
	if dir, err := os.Getwd(); err == nil {
		argv = append(argv, "--wdns="+dir)
	}
	return append(argv, "--"), nil
}

// NetnsPath returns the file of the network namespace of that place, valid in this process.
func (l *Lab) NetnsPath(where string) (string, error) {
	dir := fmt.Sprintf("/proc/%d/root%s", l.pid, wire.Dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("lab %s: %w", l.name, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries { // sorted by name
		names[i] = e.Name()
	}
	if !slices.Contains(names, where) {
		return "", fmt.Errorf("lab %s: no place %q (or it is powered off); there are: %s", l.name, where, strings.Join(names, ", "))
	}
	return filepath.Join(dir, where), nil
}

// Do runs fn on a thread that has joined the network namespace of that place. Sockets made by fn itself belong to that
// namespace and may be used outside of fn; goroutines that fn starts do not.
func (l *Lab) Do(where string, fn func() error) error {
	path, err := l.NetnsPath(where)
	if err != nil {
		return err
	}
	return wire.Do(path, fn)
}

// Dialer returns a dial function, for http.Transport and the like, that dials from that place. The address must be an
// IP address.
func (l *Lab) Dialer(where string) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	path, err := l.NetnsPath(where)
	if err != nil {
		return nil, err
	}
	return wire.Dialer(path), nil
}

// Logs returns what a container has written so far, of all its runs if several. container may be empty if the Pod has
// only one.
func (l *Lab) Logs(ns, pod, container string) ([]byte, error) {
	if container == "" {
		container = "*"
	}
	files, err := filepath.Glob(filepath.Join(l.LogDir(), "pods", ns+"_"+pod+"_*", container, "*.log"))
	if err != nil {
		return nil, fmt.Errorf("logs of %s/%s: %w", ns, pod, err)
	}
	containers := map[string]bool{}
	for _, f := range files {
		containers[filepath.Base(filepath.Dir(f))] = true
	}
	switch {
	case len(files) == 0:
		return nil, fmt.Errorf("no logs of %s/%s, container %s; there are: %s", ns, pod, container, l.logNames())
	case len(containers) > 1:
		return nil, fmt.Errorf("pod %s/%s has several containers: name one", ns, pod)
	}
	slices.SortFunc(files, func(a, b string) int { return run(a) - run(b) })
	var out bytes.Buffer
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("logs of %s/%s: %w", ns, pod, err)
		}
		out.Write(data)
	}
	return out.Bytes(), nil
}

// run is the number of a log file.
func run(path string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".log"))
	return n
}

// logNames lists what there are logs of, for messages: components, and Pods as NAMESPACE/POD.
func (l *Lab) logNames() string {
	components, _ := filepath.Glob(filepath.Join(l.LogDir(), "*.log"))
	pods, _ := filepath.Glob(filepath.Join(l.LogDir(), "pods", "*_*_*"))
	var names []string
	for _, path := range components {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".log"))
	}
	for _, path := range pods {
		parts := strings.Split(filepath.Base(path), "_")
		names = append(names, parts[0]+"/"+parts[1])
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(slices.Compact(names), ", ") // Glob has sorted them
}

// ComponentLog returns the log of one of the lab's own programs: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, kube-proxy-NODE, helm, lab, or a node's name for its agent.
func (l *Lab) ComponentLog(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(l.LogDir(), filepath.Base(name)+".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no log of %s; there are: %s", name, l.logNames())
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	return data, nil
}
