// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/internal/container"
)

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func ended(code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
}

func waiting() corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
}

func TestPhase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		state podState
		want  corev1.PodPhase
	}{
		{"nothing yet", podState{initDone: true}, corev1.PodPending},
		{"created", podState{initDone: true, containers: []containerState{{state: waiting()}}}, corev1.PodPending},
		{"init container runs", podState{containers: []containerState{
			{init: true, state: running()}, {state: waiting()},
		}}, corev1.PodPending},
		{"running", podState{initDone: true, containers: []containerState{
			{init: true, state: ended(0)}, {state: running()},
		}}, corev1.PodRunning},
		{"crashed, waits for its restart", podState{initDone: true, containers: []containerState{
			{state: waiting(), last: ended(1)},
		}}, corev1.PodRunning},
		{"all done", podState{initDone: true, finished: true, containers: []containerState{
			{state: ended(0)}, {state: ended(0)},
		}}, corev1.PodSucceeded},
		{"one failed", podState{initDone: true, finished: true, containers: []containerState{
			{state: ended(0)}, {state: ended(3)},
		}}, corev1.PodFailed},
		{"init container failed for good", podState{finished: true, containers: []containerState{
			{init: true, state: ended(1)}, {},
		}}, corev1.PodFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := phase(test.state); got != test.want {
				t.Errorf("phase %s, want %s", got, test.want)
			}
		})
	}
}

func TestPodStatusReady(t *testing.T) {
	t.Parallel()
	then, now := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: then},
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: then},
	}}}
	s := podState{
		initDone: true, now: now, ips: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		containers: []containerState{
			{name: "i", init: true, state: ended(0)}, // an init container that has ended is not ready, and does not count
			{name: "a", state: running(), ready: true},
			{name: "b", state: running()},
		},
	}
	condition := func(kind corev1.PodConditionType) corev1.PodCondition {
		for _, c := range podStatus(pod, s).Conditions {
			if c.Type == kind {
				return c
			}
		}
		t.Fatalf("no condition %s", kind)
		return corev1.PodCondition{}
	}
	want := corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", LastTransitionTime: then,
	}
	if diff := cmp.Diff(want, condition(corev1.PodReady)); diff != "" {
		t.Errorf("one container is not ready (-want +got):\n%s", diff)
	}
	s.containers[2].ready = true
	want = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}
	if diff := cmp.Diff(want, condition(corev1.PodReady)); diff != "" {
		t.Errorf("all are ready (-want +got):\n%s", diff)
	}
	if got := condition(corev1.PodInitialized).LastTransitionTime; got != then {
		t.Errorf("an unchanged condition changed at %s, want %s", got, then)
	}
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.org/gate"}}
	if got := condition(corev1.PodReady).Status; got != corev1.ConditionFalse {
		t.Errorf("with a closed readiness gate: ready %s, want False", got)
	}
}

func TestStatusPatchReplacesAddresses(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	data, err := statusPatch(pod, podState{ips: []netip.Addr{netip.MustParseAddr("10.0.0.2")}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata struct{ UID string }
		Status   struct{ PodIPs []map[string]string }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]map[string]string{{"$patch": "replace"}, {"ip": "10.0.0.2"}}, got.Status.PodIPs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Metadata.UID != "u" {
		t.Errorf("the patch is for any Pod of that name: UID %q, want u", got.Metadata.UID)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	v := verdict{successThreshold: 2, failureThreshold: 3}
	bad := errors.New("refused")
	for i, step := range []struct {
		result            error
		succeeded, failed bool
	}{
		{bad, false, false},
		{bad, false, false},
		{nil, false, false}, // starts the count again
		{bad, false, false},
		{bad, false, false},
		{bad, false, true},
		{bad, false, true},
		{nil, false, false},
		{nil, true, false},
		{nil, true, false},
	} {
		succeeded, failed := v.add(step.result)
		if succeeded != step.succeeded || failed != step.failed {
			t.Errorf("result %d: %v, %v, want %v, %v", i, succeeded, failed, step.succeeded, step.failed)
		}
	}
}

func TestSecure(t *testing.T) {
	t.Parallel()
	yes, no, pods, own := true, false, int64(1000), int64(2000)
	netRaw := &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW"}}
	for _, test := range []struct {
		name string
		pod  *corev1.PodSecurityContext
		own  *corev1.SecurityContext
		want container.Spec
	}{
		{
			name: "the container's user wins, only NET_RAW is left",
			pod:  &corev1.PodSecurityContext{RunAsUser: &pods, RunAsGroup: &pods, FSGroup: &pods, SupplementalGroups: []int64{7}},
			own: &corev1.SecurityContext{
				RunAsUser: &own, Capabilities: netRaw, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			},
			want: container.Spec{
				UID: 2000, GID: 1000, Groups: []int{7, 1000}, Capabilities: []string{"NET_RAW"}, NoNewPrivs: true, ReadOnlyRoot: true,
			},
		},
		{
			name: "not root, but nobody says who",
			pod:  &corev1.PodSecurityContext{RunAsNonRoot: &yes},
			own:  &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"all"}}},
			want: container.Spec{UID: nonRootUser, GID: nonRootUser},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got container.Spec
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: test.pod}}
			if err := secure(&got, pod, corev1.Container{SecurityContext: test.own}); err != nil {
				t.Fatal(err)
			}
			if len(got.Capabilities) == 0 {
				got.Capabilities = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
