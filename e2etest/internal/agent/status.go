// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// containerState is what is known about one container.
type containerState struct {
	name, image, id string
	init, sidecar   bool
	state, last     corev1.ContainerState
	restarts        int32
	ready, started  bool
}

// podState is what is known about a Pod on this node.
type podState struct {
	containers   []containerState // init containers first
	nodeIPs, ips []netip.Addr
	started      metav1.Time
	now          metav1.Time
	message      string
	initDone     bool
	finished     bool
}

func (w *worker) status() podState {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := podState{
		nodeIPs: w.agent.cfg.IPs, started: w.started, now: metav1.Now(), message: w.message,
		initDone: w.initDone || len(w.pod.Spec.InitContainers) == 0, finished: w.finished,
	}
	if w.net != nil {
		s.ips = w.net.ips
	}
	for _, r := range w.runners {
		c := r.snapshot()
		if c.state == (corev1.ContainerState{}) {
			c.state.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: w.message}
			if !c.init && !s.initDone {
				c.state.Waiting.Reason = "PodInitializing"
			}
		}
		s.containers = append(s.containers, c)
	}
	return s
}

// podStatus computes the status a kubelet would report. old is the status so far, for the times of unchanged
// conditions and for the readiness gates of others.
func podStatus(pod *corev1.Pod, s podState) corev1.PodStatus {
	out := corev1.PodStatus{StartTime: &s.started, Phase: phase(s)}
	if len(s.nodeIPs) > 0 {
		out.HostIP = s.nodeIPs[0].String()
	}
	for _, ip := range s.nodeIPs {
		out.HostIPs = append(out.HostIPs, corev1.HostIP{IP: ip.String()})
	}
	for i, ip := range s.ips {
		if i == 0 {
			out.PodIP = ip.String()
		}
		out.PodIPs = append(out.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	allReady := len(s.containers) > 0 && !s.finished
	for _, c := range s.containers {
		started := c.started
		status := corev1.ContainerStatus{
			Name: c.name, Image: c.image, ImageID: "lab://" + imageName(c.image), ContainerID: c.id, Ready: c.ready,
			Started: &started, RestartCount: c.restarts, State: c.state, LastTerminationState: c.last,
		}
		if c.init {
			out.InitContainerStatuses = append(out.InitContainerStatuses, status)
			continue
		}
		out.ContainerStatuses = append(out.ContainerStatuses, status)
		allReady = allReady && c.ready
	}
	reason := ""
	if !allReady {
		reason = "ContainersNotReady"
	}
	condition := func(kind corev1.PodConditionType, ok bool, reason string) {
		out.Conditions = append(out.Conditions, conditionSince(pod, kind, ok, reason, s.now))
	}
	condition(corev1.PodReadyToStartContainers, len(s.ips) > 0, "")
	condition(corev1.PodInitialized, s.initDone, "")
	condition(corev1.ContainersReady, allReady, reason)
	condition(corev1.PodReady, allReady && gatesOpen(pod), reason)
	return out
}

// phase follows the rules of the Pod lifecycle.
func phase(s podState) corev1.PodPhase {
	running, failed := false, false
	for _, c := range s.containers {
		if c.init && !c.sidecar {
			failed = failed || s.finished && c.state.Terminated != nil && c.state.Terminated.ExitCode != 0
			continue
		}
		if c.state.Running != nil || c.last.Terminated != nil || c.state.Terminated != nil {
			running = true
		}
		failed = failed || !c.sidecar && c.state.Terminated != nil && c.state.Terminated.ExitCode != 0
	}
	switch {
	case s.finished && failed:
		return corev1.PodFailed
	case s.finished:
		return corev1.PodSucceeded
	case running && s.initDone:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func conditionSince(pod *corev1.Pod, kind corev1.PodConditionType, ok bool, reason string, now metav1.Time) corev1.PodCondition {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, LastTransitionTime: now}
	if ok {
		c.Status = corev1.ConditionTrue
	}
	for _, old := range pod.Status.Conditions {
		if old.Type == kind && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}

func gatesOpen(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		open := false
		for _, c := range pod.Status.Conditions {
			open = open || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		if !open {
			return false
		}
	}
	return true
}

// statusPatch makes a patch that leaves the conditions of others alone. Addresses are replaced as a whole, since after a
// reboot the Pod may have others. The UID makes sure that it is still the same Pod.
func statusPatch(pod *corev1.Pod, s podState) ([]byte, error) {
	data, err := json.Marshal(podStatus(pod, s))
	if err != nil {
		return nil, fmt.Errorf("pod status: %w", err)
	}
	var status map[string]any
	if err := json.Unmarshal(data, &status); err != nil {
		return nil, fmt.Errorf("pod status: %w", err)
	}
	for _, key := range []string{"podIPs", "hostIPs"} {
		if list, ok := status[key].([]any); ok {
			status[key] = append([]any{map[string]any{"$patch": "replace"}}, list...)
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
}
