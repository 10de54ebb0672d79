// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/internal/boot"
)

// Up starts a lab and waits until the cluster, and what Options install into it, is ready. The lab ends with Down, or when
// this process ends, unless Options.Keep or Detach say otherwise. An error names the component and its log, and
// leaves nothing running; the logs stay until the next lab starts.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o = o.WithDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: it makes network namespaces")
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := checkTools(o); err != nil {
		return nil, err
	}
	program, err := buildProgram(ctx, o.Root)
	if err != nil {
		return nil, err
	}
	dir, lock, err := claim(o)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the supervisor has its own copy by then
	l := newLab(dir, o.Name)
	if err := l.launch(ctx, o, program, lock); err != nil {
		return nil, err
	}
	if o.Keep {
		if err := l.Detach(); err != nil {
			return nil, errors.Join(err, l.Down(ctx))
		}
	}
	return l, nil
}

// launch starts the supervisor and follows its reports until it is ready.
func (l *Lab) launch(ctx context.Context, o Options, program string, lock *os.File) error {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("lab options: %w", err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, OptionsFile), data, 0o600); err != nil {
		return fmt.Errorf("lab options: %w", err)
	}
	// Its own copy: somebody may build a newer one while the lab runs.
	self := filepath.Join(l.dir, BinDir, "lab")
	if err := copyFile(program, self); err != nil {
		return fmt.Errorf("lab program: %w", err)
	}
	output, err := os.Create(filepath.Join(l.LogDir(), "supervisor.log"))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer output.Close()
	cmd := boot.Command(self, "lab", []string{o.StateDir}, self, "serve", l.dir)
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	cmd.ExtraFiles = []*os.File{lock}
	cmd.Stderr = output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	reports, childReports, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer reports.Close()
	cmd.Stdout = childReports
	err = cmd.Start()
	childReports.Close()
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	l.cmd, l.stdin, l.ended = cmd, stdin, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(l.ended)
	}()
	err = l.follow(ctx, reports, o.Progress)
	if err == nil {
		l.pid, err = l.peer(ctx)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-l.ended
		if ctx.Err() != nil { // nobody is going to read the logs of what was not wanted any more
			err = errors.Join(err, os.RemoveAll(l.dir))
		}
		return err
	}
	return nil
}

// follow reads reports until the supervisor is ready or has failed.
func (l *Lab) follow(ctx context.Context, reports *os.File, progress io.Writer) error {
	stop := context.AfterFunc(ctx, func() { _ = reports.SetReadDeadline(time.Now()) })
	defer stop()
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		switch {
		case r.Ready:
			return nil
		case r.Error != "":
			return fmt.Errorf("start lab %s: %s", l.name, r.Error)
		case progress != nil:
			fmt.Fprintf(progress, "lab: %s\n", r.Progress)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start lab %s: %w", l.name, ctx.Err())
	}
	log := filepath.Join(l.LogDir(), "supervisor.log")
	text, _ := os.ReadFile(log)
	return fmt.Errorf("start lab %s: the supervisor ended without a word: %s\nlog: %s", l.name, bytes.TrimSpace(text), log)
}

// complete finds the source tree and makes every path absolute: the supervisor runs elsewhere.
func (o *Options) complete() error {
	dir, err := filepath.Abs(stateDir(o.StateDir))
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	o.StateDir = dir
	if o.Root == "" {
		if o.Root, err = FindRoot(); err != nil {
			return err
		}
	}
	if o.Chart == "" {
		o.Chart = filepath.Join(o.Root, "charts", "herald")
	}
	images := map[string]string{}
	for _, name := range []string{"controller", "speaker"} {
		program := filepath.Join(o.Root, "bin", name)
		_, err := os.Stat(program)
		// Only the chart is sure to need them.
		if installsChart := !o.NoInstall && len(o.Manifests) == 0; err == nil || installsChart {
			images["heraldlb/"+name] = program
		}
	}
	maps.Copy(images, o.Images)
	o.Images = images
	paths := []*string{&o.Chart}
	for _, list := range []*[]string{&o.Manifests, &o.ChartFiles} {
		*list = slices.Clone(*list)
		for i := range *list {
			paths = append(paths, &(*list)[i])
		}
	}
	for _, path := range paths {
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("path: %w", err)
		}
	}
	for name, path := range o.Images {
		if o.Images[name], err = filepath.Abs(path); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return o.checkFiles()
}

// checkFiles says what is missing, and how to get it.
func (o *Options) checkFiles() error {
	var errs []error
	need := func(path, how string) {
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing: %s", path, how))
		}
	}
	need(filepath.Join(o.Root, "bin", "kube"), "make bin/kube (the Kubernetes components; takes some minutes, once)")
	for _, name := range slices.Sorted(maps.Keys(o.Images)) {
		how := "it stands for image " + name
		if filepath.Dir(o.Images[name]) == filepath.Join(o.Root, "bin") {
			how = "make build"
		}
		need(o.Images[name], how)
	}
	switch {
	case o.NoInstall:
	case len(o.Manifests) > 0:
		for _, path := range o.Manifests {
			need(path, "it was named as manifests")
		}
	default:
		need(filepath.Join(o.Root, "bin", "helm"), "make bin/helm")
		need(filepath.Join(o.Chart, "Chart.yaml"), "the chart to install")
	}
	return errors.Join(errs...)
}

// FindRoot finds the top of the source tree from the working directory, or from where this program lies.
func FindRoot() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(data, []byte("module github.com/heraldlb/herald\n")) {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("no source tree of Herald above %s", strings.Join(starts, " or "))
}

// tools are the programs a lab runs, with their Debian packages.
func checkTools(o Options) error {
	want := map[string]string{
		"nsenter": "util-linux", "ip": "iproute2", "nft": "nftables", "conntrack": "conntrack", "curl": "curl",
		"arping": "iputils-arping", "ndisc6": "ndisc6", "tcpdump": "tcpdump", "ping": "iputils-ping",
	}
	if o.ProxyMode == "iptables" {
		want["iptables"], want["ip6tables"] = "iptables", "iptables"
	}
	for _, r := range o.Routers {
		switch r.Daemon {
		case "bird":
			want["bird"] = "bird2"
		case "frr":
			want["vtysh"] = "frr"
		}
	}
	missing, packages := []string{}, map[string]bool{}
	for _, tool := range slices.Sorted(maps.Keys(want)) {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
			packages[want[tool]] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("programs are missing: %s. On Debian:\n    apt-get install -y %s\nor: make deps",
		strings.Join(missing, ", "), strings.Join(slices.Sorted(maps.Keys(packages)), " "))
}

// buildProgram returns the lab program, built from this source tree unless this process is it already. Every other
// program, a test say, cannot be re-executed as supervisor, agent and container.
func buildProgram(ctx context.Context, root string) (string, error) {
	program := filepath.Join(root, "bin", "lab")
	if exe, err := os.Executable(); err == nil && exe == program {
		return program, nil
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", fmt.Errorf("bin: %w", err)
	}
	// Two tests that start at once must not write the same file.
	lock, err := os.OpenFile(program+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("bin: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("bin: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/lab")
	cmd.Dir = filepath.Join(root, "e2etest")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return program, nil
	}
	if _, statErr := os.Stat(program); errors.Is(err, exec.ErrNotFound) && statErr == nil {
		return program, nil // no Go here, but somebody has built it
	}
	return "", fmt.Errorf("build the lab program: %w: %s", err, bytes.TrimSpace(out))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
