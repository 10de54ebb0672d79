// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/e2etest/lab"
)

const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 3
      containers: [{name: web, image: "nginx:alpine"}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.96.10.10, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
`

// TestLabSmoke shows that a lab is a cluster: Pods run and are replaced, Services lead to them, nodes can be broken and
// repaired, and after Down nothing is left.
func TestLabSmoke(t *testing.T) {
	ctx := t.Context()
	l := up(t, lab.Options{Name: "test-smoke", Nodes: 2, NoInstall: true})
	if _, _, err := l.Kubectl(ctx, strings.NewReader(workload), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Kubectl(ctx, nil, "rollout", "status", "deployment/web", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	answers(t, l, "client1", "http://192.168.2.11:30080/")
	answers(t, l, "node2", "http://10.96.10.10/")

	pods := podNames(t, l)
	if len(pods) != 2 {
		t.Fatalf("Pods: %v, want 2", pods)
	}
	if _, _, err := l.Kubectl(ctx, nil, "delete", "pod", pods[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Kubectl(ctx, nil, "rollout", "status", "deployment/web", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	after := podNames(t, l)
	if len(after) != 2 || strings.Contains(strings.Join(after, " "), pods[0]) {
		t.Errorf("Pods after the deletion of %s: %v, want 2 without it", pods[0], after)
	}
	if log, err := l.Logs("default", after[0], ""); err != nil || !strings.Contains(string(log), "HTTP on") {
		t.Errorf("log of %s: %q, %v", after[0], log, err)
	}
	breakNodes(t, l)

	dir, machine := l.Dir(), machines(t, l.Name())
	if machine == "" {
		t.Error("no process of the lab is found while it runs: the search below would prove nothing")
	}
	if err := l.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := machines(t, l.Name()); left != "" {
		t.Errorf("processes left after Down:\n%s", left)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("state directory after Down: %v, want that it does not exist", err)
	}
}

// breakNodes cuts, silences, freezes, kills and reboots, and looks at each from a client's side.
func breakNodes(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx := t.Context()
	reachable := func(want bool, when string) {
		t.Helper()
		args := []string{"ping", "-c1", "-W1", "192.168.2.12"}
		if want { // the client's kernel asks for the MAC address once a second, and the last time may be just over
			args = []string{"ping", "-c1", "-w4", "192.168.2.12"}
		}
		_, err := l.Exec(ctx, "client1", args...)
		if (err == nil) != want {
			t.Errorf("%s: node2 answers: %v, want %v", when, err == nil, want)
		}
	}
	carrier := func(want string) {
		t.Helper()
		out, err := l.Exec(ctx, "node2", "cat", "/sys/class/net/eth0/carrier")
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("carrier of node2: %q, %v, want %s", out, err, want)
		}
	}
	for _, step := range []struct {
		name      string
		do        func(context.Context, string) error
		reachable bool
	}{
		{"cut", l.Cut, false}, {"plug", l.Plug, true}, {"blackhole", l.Blackhole, false}, {"unblackhole", l.Unblackhole, true},
		{"freeze", l.Freeze, true}, {"thaw", l.Thaw, true}, {"kill", l.Kill, false}, {"reboot", l.Reboot, true},
	} {
		if err := step.do(ctx, "node2"); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		reachable(step.reachable, "after "+step.name)
		switch step.name {
		case "cut":
			carrier("0")
		case "blackhole":
			carrier("1")
		case "freeze":
			frozen(t, l)
		}
	}
	eventually(t, 20*time.Second, func() (bool, string) {
		out, _, err := l.Kubectl(ctx, nil, "get", "pods", "-o", "wide", "--field-selector=spec.nodeName=node2")
		return err == nil && strings.Contains(string(out), "1/1"), string(out)
	})
}

// frozen looks for a process of the node that still runs.
func frozen(t *testing.T, l *lab.Lab) {
	t.Helper()
	out, err := l.Exec(t.Context(), "lan", "ps", "-eo", "stat,args")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "node2") {
			if seen++; !strings.HasPrefix(line, "T") {
				t.Errorf("a process of the frozen node runs: %s", line)
			}
		}
	}
	if seen < 3 { // machine, agent, kube-proxy
		t.Errorf("found %d processes of node2, want at least 3:\n%s", seen, out)
	}
}

// TestParentDies starts a lab from a process that is then killed, as a crashed test would be.
func TestParentDies(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperStartsLab$")
	cmd.Env = append(os.Environ(), "LAB_TEST_HELPER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1)
	if _, err := out.Read(buffer); err != nil {
		t.Fatalf("the helper has not started a lab: %v", err)
	}
	if machines(t, "test-orphan") == "" {
		t.Error("no process of the lab is found while it runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, 10*time.Second, func() (bool, string) {
		left := machines(t, "test-orphan")
		return left == "", "still running:\n" + left
	})
	if _, err := os.Stat(filepath.Join(dir, "test-orphan")); !os.IsNotExist(err) {
		t.Errorf("state directory: %v, want that it does not exist", err)
	}
}

// TestHelperStartsLab is the process that TestParentDies kills.
func TestHelperStartsLab(t *testing.T) {
	dir := os.Getenv("LAB_TEST_HELPER")
	if dir == "" {
		t.Skip("only a helper of TestParentDies")
	}
	_, err := lab.Up(t.Context(), lab.Options{Name: "test-orphan", Nodes: 1, NoInstall: true, StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		t.Fatal(err)
	}
	select {} // until killed
}

// up starts a lab for a test, and makes sure that it ends with it.
func up(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	needRoot(t)
	o.StateDir = t.TempDir()
	o.Progress = t.Output()
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return l
}

func needRoot(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a lab takes seconds; not with -short")
	}
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("a lab needs root, and in CI nothing may be skipped")
	}
	t.Skip("NOT TESTED: a lab needs root; run as root")
}

// answers waits until a server in the lab says which Pod it is: kube-proxy follows the endpoints with a delay.
func answers(t *testing.T, l *lab.Lab, from, url string) {
	t.Helper()
	eventually(t, 10*time.Second, func() (bool, string) {
		out, err := l.Exec(t.Context(), from, "curl", "-sS", "-m", "2", url)
		if err != nil {
			return false, err.Error()
		}
		return strings.Contains(string(out), "pod=web-"), string(out)
	})
}

func podNames(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	config, err := l.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names
}

// machines lists the processes on this machine that belong to a lab of that name.
func machines(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("ps", "-eo", "pid,args").Output()
	if err != nil {
		t.Fatal(err)
	}
	var found strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "/"+name+"/bin/lab") {
			found.WriteString(line)
		}
	}
	return found.String()
}

func eventually(t *testing.T, within time.Duration, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		done, last := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s; last: %s", within, last)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
