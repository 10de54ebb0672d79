// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/internal/container"
)

// As a kubelet has them.
const (
	firstBackOff = 10 * time.Second
	lastBackOff  = 5 * time.Minute
	goodRun      = 10 * time.Minute // after which a crash counts as the first one
)

// runner runs one container of a Pod, again and again if its restart policy says so.
type runner struct {
	w         *worker
	vols      *volumes
	spec      corev1.Container
	unhealthy chan string // a liveness or startup probe has given up

	mu sync.Mutex // guards st
	st containerState
}

func newRunner(w *worker, v *volumes, c corev1.Container, init bool) *runner {
	r := &runner{w: w, vols: v, spec: c, unhealthy: make(chan string, 1)}
	r.st = containerState{name: c.Name, image: c.Image, init: init}
	r.st.sidecar = r.sidecar()
	// A container that ran before the node's last boot is restarted now.
	pod := v.facts.pod
	for _, old := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if old.Name == c.Name && old.ContainerID != "" {
			r.st.restarts = old.RestartCount + 1
		}
	}
	return r
}

// sidecar says whether this is an init container that keeps running.
func (r *runner) sidecar() bool {
	return r.spec.RestartPolicy != nil && *r.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (r *runner) snapshot() containerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

func (r *runner) change(f func(*containerState)) {
	r.mu.Lock()
	f(&r.st)
	r.mu.Unlock()
	r.w.poke()
}

// run returns the last exit code when the container has ended for good.
func (r *runner) run(ctx context.Context) int {
	backOff := time.Duration(0)
	for {
		began := time.Now()
		code, err := r.once(ctx)
		if errors.Is(err, errConfig) {
			r.wait("CreateContainerConfigError", err.Error())
			if !r.w.pause(retryDelay) {
				return code
			}
			continue
		}
		if r.w.stopping() || !r.restarts(code) {
			return code
		}
		if time.Since(began) > goodRun {
			backOff = 0
		}
		if backOff > 0 {
			text := fmt.Sprintf("back-off %s restarting container %s", backOff, r.spec.Name)
			r.wait("CrashLoopBackOff", text)
			r.w.agent.warn(ctx, r.w.current(), "BackOff", text)
			if !r.w.pause(backOff) {
				return code
			}
		}
		backOff = min(max(2*backOff, firstBackOff), lastBackOff)
		r.change(func(st *containerState) { st.restarts++ })
	}
}

// wait shows a reason for not running; the present end becomes the last one.
func (r *runner) wait(reason, message string) {
	r.change(func(st *containerState) {
		if st.state.Terminated != nil {
			st.last = corev1.ContainerState{Terminated: st.state.Terminated}
		}
		st.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	})
}

func (r *runner) restarts(code int) bool {
	policy := r.vols.facts.pod.Spec.RestartPolicy
	if r.st.init && !r.sidecar() && policy == corev1.RestartPolicyAlways {
		policy = corev1.RestartPolicyOnFailure
	}
	return r.sidecar() || policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}

// errConfig marks what may get better by itself: an object that does not exist yet.
var errConfig = errors.New("container configuration")

// once starts the container and waits for its end.
func (r *runner) once(ctx context.Context) (int, error) {
	spec, err := r.resolve(ctx)
	if err != nil {
		return 1, fmt.Errorf("%w: %w", errConfig, err)
	}
	restarts := r.snapshot().restarts
	pod := r.vols.facts.pod
	dir := filepath.Join(r.w.agent.cfg.LogDir, "pods", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID), r.spec.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 1, fmt.Errorf("%w: %w", errConfig, err)
	}
	log, err := os.OpenFile(filepath.Join(dir, itoa(restarts)+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 1, fmt.Errorf("%w: %w", errConfig, err)
	}
	defer log.Close()
	began := metav1.Now()
	id := fmt.Sprintf("lab://%s/%s/%d", pod.UID, r.spec.Name, restarts)
	if len(spec.Argv) == 0 {
		r.ended(began, id, 0, 0, "Completed", "no program stands for this image; nothing to do")
		return 0, nil
	}
	p, err := container.Start(r.w.agent.cfg.Self, r.w.net.netns, spec, log)
	if err != nil {
		fmt.Fprintf(log, "lab: %v\n", err)
		r.w.agent.warn(ctx, pod, "Failed", err.Error())
		r.ended(began, id, 128, 0, "StartError", err.Error())
		return 128, nil
	}
	r.change(func(st *containerState) {
		if st.state.Terminated != nil {
			st.last = corev1.ContainerState{Terminated: st.state.Terminated}
		}
		st.id, st.started, st.ready = id, r.spec.StartupProbe == nil, false
		st.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}
	})
	code, signal, why := r.watch(ctx, p)
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	r.ended(began, id, code, signal, reason, why)
	return code, nil
}

func (r *runner) ended(began metav1.Time, id string, code, signal int, reason, message string) {
	r.change(func(st *containerState) {
		if st.state.Terminated != nil {
			st.last = corev1.ContainerState{Terminated: st.state.Terminated}
		}
		st.ready, st.started, st.id = false, false, id
		st.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Signal: int32(signal), Reason: reason, Message: message,
			StartedAt: began, FinishedAt: metav1.Now(), ContainerID: id,
		}}
	})
}

// watch runs the probes beside the container until it ends by itself, or has to end.
func (r *runner) watch(ctx context.Context, p *container.Process) (code, signal int, why string) {
	select {
	case <-r.unhealthy: // a verdict about the run before
	default:
	}
	probes, stopProbes := context.WithCancel(ctx)
	var probing sync.WaitGroup
	probing.Go(func() { r.probeAll(probes, p) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, signal = p.Wait()
	}()
	grace := time.Duration(-1)
	select {
	case <-done:
	case why = <-r.unhealthy:
		grace = r.w.grace()
		r.w.agent.warn(ctx, r.vols.facts.pod, "Killing", why)
	case <-r.w.stop:
		grace = r.w.grace()
	}
	if grace >= 0 {
		r.terminate(ctx, p, grace, done)
	}
	<-done
	stopProbes()
	probing.Wait()
	return code, signal, why
}

// terminate asks the container to end, and ends it when its time is over. The hook's time counts.
func (r *runner) terminate(ctx context.Context, p *container.Process, grace time.Duration, done <-chan struct{}) {
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	if hook := r.spec.Lifecycle; hook != nil && hook.PreStop != nil {
		hookCtx, cancel := context.WithTimeout(ctx, grace)
		if err := r.preStop(hookCtx, p, hook.PreStop); err != nil {
			r.w.agent.warn(ctx, r.vols.facts.pod, "FailedPreStopHook", err.Error())
		}
		cancel()
	}
	_ = p.Signal(unix.SIGTERM) // it may have ended
	select {
	case <-done:
		return
	case <-deadline.C:
	case <-r.w.kill:
	}
	_ = p.Signal(unix.SIGKILL)
}

// resolve turns the Pod's words into a container specification.
func (r *runner) resolve(ctx context.Context) (container.Spec, error) {
	facts := r.vols.facts
	env, err := environment(ctx, r.w.agent, facts, r.spec)
	if err != nil {
		return container.Spec{}, err
	}
	mounts, err := r.vols.mounts(r.spec, env)
	if err != nil {
		return container.Spec{}, err
	}
	command, args := expandAll(r.spec.Command, env), expandAll(r.spec.Args, env)
	prog := resolve(r.w.agent.cfg.Images, r.w.agent.cfg.Self, r.spec, command, args, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	})
	if prog.echo && r.st.init && !r.sidecar() {
		prog = program{} // a server would never end, and the Pod never start
	}
	if prog.file != "" {
		mounts = append(mounts, container.Mount{Source: prog.file, Target: prog.target, ReadOnly: true})
	}
	if prog.echo {
		env["LAB_POD"], env["LAB_NAMESPACE"], env["LAB_NODE"] = facts.pod.Name, facts.pod.Namespace, facts.node
	}
	spec := container.Spec{
		Hostname: hostname(facts.pod, facts.node), Argv: prog.argv, Env: envList(env), Dir: r.spec.WorkingDir,
		Mounts: mounts, Hosts: hostsFile(facts),
	}
	return spec, secure(&spec, facts.pod, r.spec)
}

func hostsFile(f podFacts) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, ip := range f.ips {
		fmt.Fprintf(&b, "%s %s\n", ip, hostname(f.pod, f.node))
	}
	for _, alias := range f.pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s %s\n", alias.IP, strings.Join(alias.Hostnames, " "))
	}
	return b.String()
}
