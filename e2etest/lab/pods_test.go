// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

const pods = `
apiVersion: v1
kind: Pod
metadata: {name: rights}
spec:
  containers:
  - name: root
    image: busybox
    command: [bash, -c, "grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /x || echo read-only; sleep 1000"]
    securityContext:
      capabilities: {drop: [ALL], add: [NET_RAW]}
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
  - name: user
    image: busybox
    command: [bash, -c, "id; grep CapEff /proc/self/status; sleep 1000"]
    securityContext: {runAsUser: 1234, runAsGroup: 55, capabilities: {add: [NET_RAW]}}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  initContainers:
  - {name: first, image: busybox, command: [bash, -c, "echo from-init > /shared/f"], volumeMounts: [{name: e, mountPath: /shared}]}
  containers:
  - name: reader
    image: busybox
    command: [bash, -c, "cat /shared/f /etc/late/key; echo $(WORD) $PWD; sleep 1000"]
    workingDir: /tmp
    env: [{name: WORD, valueFrom: {secretKeyRef: {name: late, key: word}}}]
    volumeMounts: [{name: e, mountPath: /shared}, {name: s, mountPath: /etc/late}]
  volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: late}}]
---
apiVersion: v1
kind: Pod
metadata: {name: account}
spec:
  containers:
  - name: client
    image: busybox
    command: [bash, -c]
    args:
    - >-
      D=/var/run/secrets/kubernetes.io/serviceaccount;
      curl -sS --retry 9 --retry-connrefused --cacert $D/ca.crt -H "Authorization: Bearer $(cat $D/token)"
      https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat $D/namespace)/pods; sleep 1000
---
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: sick
    image: busybox
    command: [bash, -c, "trap 'echo asked to end; exit 0' TERM; while true; do sleep 0.1; done"]
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 2}
    readinessProbe: {exec: {command: ["true"]}}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: stubborn, image: busybox, command: [bash, -c, "trap 'echo no' TERM; echo up; while true; do sleep 0.1; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers: [{name: crash, image: busybox, command: [bash, -c, "exit 3"]}]
`

// TestPods runs Pods that each need something a kubelet does.
func TestPods(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Name: "test-pods", Nodes: 1, NoInstall: true})
	kubectl := func(args ...string) string {
		t.Helper()
		out, _, err := l.Kubectl(ctx, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if _, _, err := l.Kubectl(ctx, strings.NewReader(pods), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	log := func(pod, container, want string) {
		t.Helper()
		eventually(t, 20*time.Second, func() (bool, string) {
			data, err := l.Logs("default", pod, container)
			if err != nil {
				return false, err.Error()
			}
			return strings.Contains(string(data), want), string(data)
		})
	}
	status := func(pod, path, want string) {
		t.Helper()
		eventually(t, 30*time.Second, func() (bool, string) {
			out := kubectl("get", "pod", pod, "-o", "jsonpath="+path)
			return strings.Contains(out, want), out
		})
	}

	// Root has NET_RAW (bit 13) and no more; another user has nothing, as under container runtimes.
	log("rights", "root", "CapEff:\t0000000000002000\nNoNewPrivs:\t1\n")
	log("rights", "root", "read-only")
	log("rights", "user", "uid=1234 gid=55 groups=55\nCapEff:\t0000000000000000\n")

	// The Secret is missing, then it appears.
	eventually(t, 20*time.Second, func() (bool, string) {
		out := kubectl("get", "events", "--field-selector=involvedObject.name=late")
		return strings.Contains(out, `secrets "late" not found`), out
	})
	kubectl("create", "secret", "generic", "late", "--from-literal=key=from-secret", "--from-literal=word=expanded")
	log("late", "reader", "from-init\nfrom-secretexpanded /tmp\n")

	// The token is the Pod's own and is worth exactly what RBAC says.
	log("account", "client", `User \"system:serviceaccount:default:default\" cannot list resource \"pods\"`)

	status("sick", "{.status.containerStatuses[0].restartCount}", "1")
	log("sick", "sick", "asked to end")
	status("crash", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff")
	status("crash", "{.status.containerStatuses[0].lastState.terminated.exitCode}", "3")

	log("stubborn", "stubborn", "up")
	began := time.Now()
	kubectl("delete", "pod", "stubborn")
	if took := time.Since(began); took < 2*time.Second || took > 8*time.Second {
		t.Errorf("a Pod that ignores SIGTERM was gone after %s, want about its grace period of 2 s", took)
	}
	log("stubborn", "stubborn", "no")
	if out := kubectl("logs", "late", "--tail=1"); out != "from-secretexpanded /tmp\n" {
		t.Errorf("kubectl logs --tail=1: %q", out)
	}
}
