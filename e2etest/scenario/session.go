// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/e2etest/checker"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/probe"
	"github.com/heraldlb/herald/e2etest/wire"
)

const defaultOverlap = checker.Limit

// session is the state of one scenario. It belongs to the scenario's goroutine.
type session struct {
	name   string
	opts   Options
	ctx    context.Context
	cancel func()
	timer  *time.Timer // cancels ctx
	dir    string
	begun  time.Time
	script *testscript.TestScript

	labs    map[string]*running
	current *running

	measured *probe.Session
	held     map[string]*probe.Held // by name
	creating chan error

	// limit is the longest overlap of two owners that is allowed; expected means that there must be a longer one.
	limit    time.Duration
	expected bool
	why      string
	// announced means that somebody announced an address: then the checker must have heard it.
	announced bool
}

// running is a lab with everything that watches it.
type running struct {
	key     string
	lab     *lab.Lab
	status  lab.Status
	watcher *checker.Watcher
	// stop ends the watcher and the capture, and returns the watcher's error.
	stop    func() error
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

// here returns the lab the commands work on.
func (s *session) here() (*running, error) {
	if s.current == nil {
		return nil, errors.New("there is no lab yet: begin the scenario with the command lab")
	}
	return s.current, nil
}

// up starts a lab and makes it the current one.
func (s *session) up(ctx context.Context, key string, o lab.Options) error {
	if s.labs[key] != nil {
		return fmt.Errorf("there is a lab %q already", key)
	}
	o.Name = labName(s.name, key)
	o.Root = s.opts.Root
	o.Progress = s.opts.Trace
	o.StateDir = cmp.Or(os.Getenv("HERALD_LAB_DIR"), "/run/herald-lab")
	l, err := lab.Up(ctx, o)
	if err != nil {
		// What was started is gone, but its logs stay for a while.
		kept := os.CopyFS(filepath.Join(s.dir, key, "logs"), os.DirFS(filepath.Join(o.StateDir, o.Name, lab.LogsDir)))
		return errors.Join(err, kept)
	}
	r := &running{key: key, lab: l, stop: func() error { return nil }}
	s.labs[key], s.current = r, r
	if r.status, err = l.Status(ctx); err != nil {
		return err
	}
	cfg, err := l.RESTConfig()
	if err != nil {
		return err
	}
	if r.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if r.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return s.watch(r)
}

// labName makes a name that is short enough, and differs between scenarios and between runs that meet on one machine.
func labName(scenario, key string) string {
	if len(scenario) > 16 {
		scenario = scenario[:16]
	}
	return fmt.Sprintf("%s-%s-%d", scenario, key, os.Getpid())
}

// watch starts the two-owners checker and the capture.
func (s *session) watch(r *running) error {
	machines := machinesOf(r.status)
	cfg := checker.Config{
		Interface: "lan",
		// Addresses of machines are not Herald's business, nor are link-local ones.
		Watch:   func(a netip.Addr) bool { return !machines.own[a] && !a.IsLinkLocalUnicast() },
		AskFrom: askFrom(r.status),
		Name:    machines.name,
	}
	err := r.lab.Do("lan", func() (err error) {
		r.watcher, err = checker.Listen(cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("two-owners checker: %w", err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.watcher.Run(ctx) }()
	captured, err := s.capture(ctx, r)
	r.stop = func() error {
		cancel()
		captured()
		return <-ended
	}
	return err
}

// capture keeps what passes the LAN in a ring of files, without the load of the API server's own traffic.
func (s *session) capture(ctx context.Context, r *running) (wait func(), err error) {
	cmd, err := r.lab.Command(ctx, "lan", "tcpdump", "-i", "lan", "-w", filepath.Join(s.dir, r.key+".pcap"),
		"-s", "256", "-C", "20", "-W", "3", "-U", "-Z", "root", "not", "port", "6443")
	if err != nil {
		return func() {}, fmt.Errorf("capture the LAN: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return func() {}, fmt.Errorf("capture the LAN: %w", err)
	}
	return func() { _ = cmd.Wait() }, nil // ended by ctx
}

// machines are the addresses and MACs that belong to the lab itself.
type machines struct {
	own   map[netip.Addr]bool
	names map[string]string
}

func machinesOf(st lab.Status) machines {
	m := machines{own: map[netip.Addr]bool{}, names: map[string]string{}}
	add := func(h lab.HostStatus) {
		for _, ip := range h.IPs {
			m.own[ip] = true
		}
		m.names[h.MAC] = h.Name
	}
	for _, n := range st.Nodes {
		add(n.HostStatus)
	}
	for _, h := range slices.Concat(st.Clients, st.Routers) {
		add(h)
	}
	for _, p := range st.LAN {
		m.own[cpAddr(p)] = true
	}
	return m
}

// name keeps the MAC beside the name: it is what packet captures show.
func (m machines) name(mac wire.MAC) string {
	if n := m.names[mac.String()]; n != "" {
		return n + " (" + mac.String() + ")"
	}
	return mac.String()
}

// The lab gives .10 to the control plane, and nothing to .9.
func cpAddr(p netip.Prefix) netip.Addr { return nth(p.Masked().Addr(), 10) }

func askFrom(st lab.Status) netip.Addr {
	for _, p := range st.LAN {
		if p.Addr().Is4() {
			return nth(p.Masked().Addr(), 9)
		}
	}
	return netip.Addr{}
}

func nth(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// finish ends the scenario: the checker's verdict, the break prompt, artefacts if it failed, and the end of all labs.
func (s *session) finish(t testscript.T) {
	defer s.cancel()
	s.timer.Stop()
	if s.measured != nil {
		_ = s.measured.Stop()
	}
	for _, h := range s.held {
		h.Close()
	}
	verdicts := s.verdict()
	failed := failedSoFar(t) || len(verdicts) > 0
	for _, err := range verdicts {
		t.Log(err.Error())
	}
	if s.opts.Break || failed && s.opts.BreakOnFailure {
		if err := s.prompt("end of the scenario"); err != nil {
			t.Log(err.Error())
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), finishLimit)
	defer cancel()
	for _, key := range slices.Sorted(maps.Keys(s.labs)) {
		r := s.labs[key]
		if err := r.stop(); err != nil {
			t.Log(fmt.Sprintf("lab %s: two-owners checker: %v", key, err))
			failed = true
		}
		if failed {
			s.collect(ctx, r)
		}
		if err := r.lab.Down(ctx); err != nil {
			t.Log(fmt.Sprintf("lab %s: down: %v", key, err))
			failed = true
		}
	}
	if !failed {
		_ = os.RemoveAll(s.dir)
		return
	}
	t.Log(fmt.Sprintf("kept: %s (captures, logs, plans, objects)\nrun it again: cd %s && go test ./scenario -run 'TestScenarios/^%s$' -count=1 -v",
		s.dir, filepath.Join(s.opts.Root, "e2etest"), s.name))
	t.FailNow()
}

func failedSoFar(t testscript.T) bool {
	f, ok := t.(interface{ Failed() bool })
	return ok && f.Failed()
}

// verdict says what the two-owners checkers found, if it is not what the scenario expects.
func (s *session) verdict() []error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s.labs)) {
		r := s.labs[key]
		if r.watcher == nil {
			continue
		}
		if err := s.judge(r.watcher); err != nil {
			errs = append(errs, fmt.Errorf("lab %s: %w", key, err))
		}
	}
	return errs
}

// overlaps is what judge needs of a checker.
type overlaps interface {
	Overlaps() ([]checker.Overlap, error)
	Explain(checker.Overlap) string
	Heard() int
}

func (s *session) judge(w overlaps) error {
	os, err := w.Overlaps()
	if err != nil {
		return fmt.Errorf("two-owners checker: %w", err)
	}
	longest, _ := checker.Longest(os)
	fmt.Fprintf(s.opts.Trace, "%7.1fs %s: the two-owners checker heard %d answers; longest overlap %v\n",
		time.Since(s.begun).Seconds(), s.name, w.Heard(), longest.Duration().Round(time.Millisecond))
	if longest.Duration() > 0 {
		fmt.Fprint(s.opts.Trace, w.Explain(longest))
	}
	switch {
	case s.announced && w.Heard() == 0:
		return errors.New("the two-owners checker has heard nobody, though an address was announced: its verdict means nothing")
	case s.expected && longest.Duration() <= s.limit:
		return fmt.Errorf("two owners were expected (%s), but the checker, which heard %d answers, saw none for longer than %v",
			s.why, w.Heard(), s.limit)
	case !s.expected && longest.Duration() > s.limit:
		return fmt.Errorf("two owners of one address for longer than %v:\n%s", s.limit, w.Explain(longest))
	}
	return nil
}
