// SPDX-License-Identifier: Apache-2.0

// Package supervisor is the process that a lab consists of: it builds the LAN, starts the control plane and the nodes'
// agents, installs what was asked for, and then obeys its control socket until it is told to end or until
// whoever started it is gone.
//
// It runs as the only program of a "machine" (package boot) in namespaces of its own, so ending it ends the lab.
package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/e2etest/internal/boot"
	"github.com/heraldlb/herald/e2etest/lab"
)

// Role is the hidden first argument that makes the lab program a Main.
const Role = "serve"

// startTimeout bounds everything up to "ready": a cluster takes seconds, a first pull of nothing takes none.
const startTimeout = 3 * time.Minute

// Supervisor is one running lab.
type Supervisor struct {
	opts    lab.Options
	dir     string // the lab's state directory, visible to the host
	logs    string
	private string // on a tmpfs, visible inside only
	self    string // the lab program
	kube    string // the Kubernetes program
	plan    plan
	creds   *credentials
	client  kubernetes.Interface
	log     *slog.Logger
	report  *json.Encoder // to whoever started us

	mu      sync.Mutex       // guards the following
	nodes   map[string]*node // by name
	ready   bool
	version string // of Kubernetes
}

// Main runs a lab; the one argument is its state directory.
func Main(ctx context.Context, args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "serve: this is started by the lab only")
		return 1
	}
	report := json.NewEncoder(os.Stdout)
	s, err := newSupervisor(args[0], report)
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil {
		_ = report.Encode(lab.Report{Error: err.Error()})
		return 1
	}
	return 0
}

func newSupervisor(dir string, report *json.Encoder) (*Supervisor, error) {
	data, err := os.ReadFile(filepath.Join(dir, lab.OptionsFile))
	if err != nil {
		return nil, fmt.Errorf("lab options: %w", err)
	}
	s := &Supervisor{
		dir: dir, logs: filepath.Join(dir, lab.LogsDir), private: "/run/lab", report: report, nodes: map[string]*node{},
	}
	if err := json.Unmarshal(data, &s.opts); err != nil {
		return nil, fmt.Errorf("lab options: %w", err)
	}
	if s.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	s.kube = filepath.Join(s.opts.Root, "bin", "kube")
	s.plan = newPlan(s.opts)
	if err := os.MkdirAll(s.logs, 0o755); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(s.logs, "lab.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	s.log = slog.New(slog.NewTextHandler(logFile, nil))
	return s, nil
}

// run starts everything and waits for the end.
func (s *Supervisor) run(ctx context.Context) error {
	// Our children must not inherit the lock: whoever holds it says "this lab lives".
	unix.CloseOnExec(boot.LockFD)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go s.watchParent(os.Stdin, stop)
	if err := s.start(ctx, stop); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errDown) {
			return s.cleanUp()
		}
		return err // the logs stay for reading
	}
	<-ctx.Done()
	return s.cleanUp()
}

var errDown = errors.New("asked to end")

// watchParent ends the lab when the pipe from whoever started it closes, unless it has said "detach".
func (s *Supervisor) watchParent(r io.Reader, stop context.CancelCauseFunc) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == lab.DetachWord {
			return
		}
	}
	s.log.Info("whoever started the lab is gone")
	stop(errDown)
}

// cleanUp removes the state directory, the only trace outside; the kernel does the rest when we are gone.
func (s *Supervisor) cleanUp() error {
	s.log.Info("lab ends")
	// Running programs may still write logs: try until nothing is left.
	var err error
	for range 5 {
		if err = os.RemoveAll(s.dir); err == nil {
			return nil
		}
	}
	return fmt.Errorf("remove state: %w", err)
}

func (s *Supervisor) start(ctx context.Context, stop context.CancelCauseFunc) error {
	serving := ctx // the sockets outlive the start
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.say("building the network: %d nodes, %d clients, %s", len(s.plan.nodes), len(s.plan.clients), join(s.plan.lan))
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.listen(serving, stop); err != nil {
		return err
	}
	s.say("starting etcd and kube-apiserver")
	if err := s.startControlPlane(ctx); err != nil {
		return err
	}
	s.say("starting %d nodes (kube-proxy in %s mode)", len(s.plan.nodes), s.opts.ProxyMode)
	for _, n := range s.plan.nodes {
		if err := s.powerOn(n); err != nil {
			return err
		}
	}
	if err := s.startRouters(ctx); err != nil {
		return err
	}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return s.waitNodes(both) })
	group.Go(func() error { return s.install(both) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.waitInstalled(ctx); err != nil {
		return err
	}
	version, err := s.client.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("version of kube-apiserver: %w", err)
	}
	s.mu.Lock()
	s.ready, s.version = true, version.GitVersion
	s.mu.Unlock()
	s.log.Info("ready")
	return s.report.Encode(lab.Report{Ready: true})
}

// prepare builds what needs no running program.
func (s *Supervisor) prepare() error {
	if err := os.MkdirAll(s.private, 0o755); err != nil {
		return err
	}
	if err := buildLAN(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := buildControlPlane(s.plan); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := buildOthers(s.plan); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	var err error
	s.creds, err = makeCredentials(filepath.Join(s.private, "credentials"), s.plan, time.Now())
	if err != nil {
		return err
	}
	return s.publish()
}

// publish puts what people and tests need into the state directory.
func (s *Supervisor) publish() error {
	admin, err := os.ReadFile(s.creds.kubeconfig("admin"))
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, lab.KubeconfigFile), admin, 0o600); err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	bin := filepath.Join(s.dir, lab.BinDir)
	errs := []error{os.MkdirAll(bin, 0o755), os.Symlink(s.kube, filepath.Join(bin, "kubectl"))}
	for _, name := range []string{"helm", "heraldctl"} {
		errs = append(errs, os.Symlink(filepath.Join(s.opts.Root, "bin", name), filepath.Join(bin, name)))
	}
	return errors.Join(errs...)
}

// say reports progress to whoever started the lab.
func (s *Supervisor) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Info("progress", "step", text)
	_ = s.report.Encode(lab.Report{Progress: text}) // a reader that is gone has ended us anyway
}
