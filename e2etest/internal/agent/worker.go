// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// retryDelay is between attempts at something that is not there yet: a Secret, say.
	retryDelay = time.Second
	// refreshInterval is how often volumes follow their objects; a kubelet takes about a minute.
	refreshInterval = 15 * time.Second
)

// worker runs one Pod, from the moment it is bound to the node until its object is gone.
type worker struct {
	agent *Agent
	log   *slog.Logger

	stop  chan struct{} // closed when the Pod has to end
	kill  chan struct{} // closed when it has to end without grace
	poked chan struct{} // the status may have changed

	mu         sync.Mutex // guards the following
	pod        *corev1.Pod
	runners    []*runner // init containers first
	net        *podNetwork
	message    string // why the Pod has not started yet
	started    metav1.Time
	finished   bool // every container has ended for good
	initDone   bool
	stopClosed bool
	killClosed bool
}

func newWorker(a *Agent, pod *corev1.Pod) *worker {
	return &worker{
		agent: a, log: a.log.With("pod", pod.Namespace+"/"+pod.Name), pod: pod, started: metav1.Now(),
		stop: make(chan struct{}), kill: make(chan struct{}), poked: make(chan struct{}, 1),
	}
}

// update tells the worker about a new version of the object.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	if pod.DeletionTimestamp != nil {
		w.end(pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0)
	}
}

// gone tells the worker that the object does not exist any more.
func (w *worker) gone() { w.end(true) }

func (w *worker) end(atOnce bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopClosed {
		w.stopClosed = true
		close(w.stop)
	}
	if atOnce && !w.killClosed {
		w.killClosed = true
		close(w.kill)
	}
}

func (w *worker) current() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// grace is how long the Pod may take to end.
func (w *worker) grace() time.Duration {
	pod := w.current()
	seconds := int64(30)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		seconds = *s
	}
	return time.Duration(seconds) * time.Second
}

// poke asks for the status to be written again.
func (w *worker) poke() {
	select {
	case w.poked <- struct{}{}:
	default: // asked for already
	}
}

// pause waits and returns false if the Pod has to end.
func (w *worker) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-w.stop:
		return false
	case <-t.C:
		return true
	}
}

func (w *worker) stopping() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func (w *worker) run(ctx context.Context) {
	pod := w.current()
	if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		statusCtx, stopStatus := context.WithCancel(ctx)
		var status sync.WaitGroup
		status.Go(func() { w.reportStatus(statusCtx) })
		w.runContainers(ctx)
		stopStatus()
		status.Wait()
		w.publishStatus(ctx)
	}
	<-w.stop
	w.remove(ctx)
}

// runContainers returns when the last container has ended for good.
func (w *worker) runContainers(ctx context.Context) {
	pod := w.current()
	dir := filepath.Join(base, "pods", string(pod.UID))
	defer os.RemoveAll(dir)
	net, ok := w.setUpNetwork(ctx)
	if !ok {
		return
	}
	defer w.agent.disconnect(net)
	vols := &volumes{agent: w.agent, dir: filepath.Join(dir, "volumes"), facts: podFacts{
		pod: pod, node: w.agent.cfg.Node, nodeIPs: w.agent.cfg.IPs, ips: net.ips, kubernetesIP: w.agent.cfg.ServiceIP,
		defaultMemory: 64 << 30,
	}}
	w.mu.Lock()
	w.net = net
	for _, c := range pod.Spec.InitContainers {
		w.runners = append(w.runners, newRunner(w, vols, c, true))
	}
	for _, c := range pod.Spec.Containers {
		w.runners = append(w.runners, newRunner(w, vols, c, false))
	}
	runners := w.runners
	w.mu.Unlock()
	w.poke()
	if !w.setUpVolumes(ctx, vols) {
		return
	}
	var running sync.WaitGroup
	if !w.runInit(ctx, runners[:len(pod.Spec.InitContainers)], &running) {
		running.Wait()
		return
	}
	refreshCtx, stopRefresh := context.WithCancel(ctx)
	defer stopRefresh()
	go w.refreshVolumes(refreshCtx, vols)
	for _, r := range runners[len(pod.Spec.InitContainers):] {
		running.Go(func() { r.run(ctx) })
	}
	running.Wait()
	w.mu.Lock()
	w.finished = true
	w.mu.Unlock()
}

// runInit runs the init containers one after the other. Those that restart always are sidecars: they keep running.
func (w *worker) runInit(ctx context.Context, inits []*runner, running *sync.WaitGroup) bool {
	for _, r := range inits {
		if r.sidecar() {
			running.Go(func() { r.run(ctx) })
			for !r.snapshot().started {
				if !w.pause(100 * time.Millisecond) {
					return false
				}
			}
			continue
		}
		if code := r.run(ctx); code != 0 || w.stopping() {
			w.mu.Lock()
			w.finished = true
			w.mu.Unlock()
			return false
		}
	}
	w.mu.Lock()
	w.initDone = true
	w.mu.Unlock()
	w.poke()
	return true
}

func (w *worker) setUpNetwork(ctx context.Context) (*podNetwork, bool) {
	for {
		net, err := w.agent.connect(w.current())
		if err == nil {
			return net, true
		}
		w.waiting(ctx, "FailedCreatePodSandBox", err)
		if !w.pause(retryDelay) {
			return nil, false
		}
	}
}

func (w *worker) setUpVolumes(ctx context.Context, v *volumes) bool {
	// The API server learns a moment after the binding that this node may read what the Pod names. So the first
	// refusals come back soon, and silently.
	for delay := retryDelay / 16; ; delay = min(2*delay, retryDelay) {
		err := v.fill(ctx)
		if err == nil {
			w.mu.Lock()
			w.message = ""
			w.mu.Unlock()
			return true
		}
		if delay == retryDelay {
			w.waiting(ctx, "FailedMount", err)
		}
		if !w.pause(delay) {
			return false
		}
	}
}

// waiting makes the reason visible: in the status, and once as an event.
func (w *worker) waiting(ctx context.Context, reason string, err error) {
	w.mu.Lock()
	fresh := w.message != err.Error()
	w.message = err.Error()
	w.mu.Unlock()
	if fresh {
		w.agent.warn(ctx, w.current(), reason, err.Error())
		w.poke()
	}
}

func (w *worker) refreshVolumes(ctx context.Context, v *volumes) {
	followed := slices.ContainsFunc(v.facts.pod.Spec.Volumes, func(vol corev1.Volume) bool {
		return vol.ConfigMap != nil || vol.Secret != nil || vol.Projected != nil
	})
	for followed && sleep(ctx, refreshInterval) {
		fresh := *v
		if err := fresh.refill(ctx, v.renew); err != nil && ctx.Err() == nil {
			w.log.Warn("refresh volumes", "err", err)
			continue
		}
		v.renew = fresh.renew
	}
}

// remove deletes the object for good: every container has ended.
func (w *worker) remove(ctx context.Context) {
	pod := w.current()
	zero := int64(0)
	options := metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
	for {
		select {
		case <-w.kill:
			return // it is gone already, or will be without us
		default:
		}
		err := w.agent.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, options)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || ctx.Err() != nil {
			return
		}
		w.log.Warn("delete pod", "err", err)
		if !sleep(ctx, retryDelay) {
			return
		}
	}
}

// reportStatus writes the status after each change. Changes while one write is on its way make one more write.
func (w *worker) reportStatus(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.poked:
		}
		for !w.publishStatus(ctx) {
			if !sleep(ctx, retryDelay) {
				return
			}
		}
	}
}

// publishStatus returns false if it has to be tried again.
func (w *worker) publishStatus(ctx context.Context) bool {
	pod := w.current()
	patch, err := statusPatch(pod, w.status())
	if err != nil {
		w.log.Warn("encode status", "err", err)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = w.agent.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		w.log.Warn("write status", "err", err)
		return false
	}
	return true
}
