// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// release is the name of the Helm release.
const release = "herald"

// install puts the namespace and then the chart, or the manifests, into the cluster. It does not wait for Pods, so that
// it runs while the nodes are still coming up.
func (s *Supervisor) install(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.opts.Namespace}}
	_, err := s.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("namespace %s: %w", s.opts.Namespace, err)
	}
	switch {
	case s.opts.NoInstall:
		return nil
	case len(s.opts.Manifests) > 0:
		for _, path := range s.opts.Manifests {
			if err := s.apply(ctx, path); err != nil {
				return err
			}
		}
		return nil
	}
	return s.helm(ctx)
}

func (s *Supervisor) helm(ctx context.Context) error {
	s.say("installing %s into namespace %s", s.opts.Chart, s.opts.Namespace)
	args := []string{
		"install", release, s.opts.Chart, "--namespace=" + s.opts.Namespace,
		"--kubeconfig=" + s.creds.kubeconfig("admin"),
	}
	for _, file := range s.opts.ChartFiles {
		args = append(args, "--values="+file)
	}
	for _, value := range s.opts.ChartValues {
		args = append(args, "--set="+value)
	}
	return s.tool(ctx, "helm", filepath.Join(s.opts.Root, "bin", "helm"), args...)
}

// apply repeats a failed attempt: objects of a kind whose definition comes from the same manifests are refused until
// the API server serves that kind.
func (s *Supervisor) apply(ctx context.Context, path string) error {
	s.say("applying %s", path)
	source := "--filename=" + path
	if _, err := os.Stat(filepath.Join(path, "kustomization.yaml")); err == nil {
		source = "--kustomize=" + path
	}
	var err error
	for range 10 {
		err = s.tool(ctx, "manifests", s.kube, "kubectl", "--kubeconfig="+s.creds.kubeconfig("admin"),
			"apply", "--server-side", "--force-conflicts", source)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
	return err
}

// tool runs a program to its end in the control plane's namespace, with its output in a log.
func (s *Supervisor) tool(ctx context.Context, name, program string, args ...string) error {
	return s.runIn(ctx, name, s.plan.cp.name, program, args...)
}

// runIn is tool for any place.
func (s *Supervisor) runIn(ctx context.Context, name, where, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	home := filepath.Join(s.private, "home")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	c, err := s.startCommand(name, wire.Path(where), cmd)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-c.done
		return c.failure(ctx.Err())
	}
	if !cmd.ProcessState.Success() {
		return c.failure(nil)
	}
	return nil
}

// tooManyRestarts ends the wait for an installed program that keeps crashing.
const tooManyRestarts = 3

// waitInstalled waits until every Deployment and DaemonSet of the namespace has all its Pods ready.
func (s *Supervisor) waitInstalled(ctx context.Context) error {
	if s.opts.NoInstall {
		return nil
	}
	s.say("waiting for the Pods in %s", s.opts.Namespace)
	err := until(ctx, 100*time.Millisecond, nil, func() (bool, error) {
		deployments, err1 := s.client.AppsV1().Deployments(s.opts.Namespace).List(ctx, metav1.ListOptions{})
		sets, err2 := s.client.AppsV1().DaemonSets(s.opts.Namespace).List(ctx, metav1.ListOptions{})
		if err1 != nil || err2 != nil {
			return false, nil //nolint:nilerr // asked again in a moment
		}
		if len(deployments.Items)+len(sets.Items) == 0 {
			return false, fmt.Errorf("nothing runs in namespace %s: neither a Deployment nor a DaemonSet was installed",
				s.opts.Namespace)
		}
		if rolledOut(deployments.Items, sets.Items) {
			return true, nil
		}
		return false, s.crashing(ctx)
	})
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for the Pods in %s: not ready in time\n%s", s.opts.Namespace, s.explainPods(ctx))
	}
	return err
}

func rolledOut(deployments []appsv1.Deployment, sets []appsv1.DaemonSet) bool {
	for _, d := range deployments {
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		if d.Status.ObservedGeneration < d.Generation || d.Status.ReadyReplicas < want {
			return false
		}
	}
	for _, d := range sets {
		st := d.Status
		if st.ObservedGeneration < d.Generation || st.DesiredNumberScheduled == 0 || st.NumberReady < st.DesiredNumberScheduled {
			return false
		}
	}
	return true
}

func (s *Supervisor) crashing(ctx context.Context) error {
	pods, err := s.client.CoreV1().Pods(s.opts.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil //nolint:nilerr // asked again in a moment
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount >= tooManyRestarts && !c.Ready {
				return fmt.Errorf("a container in %s keeps crashing\n%s", s.opts.Namespace, s.explainPods(ctx))
			}
		}
	}
	return nil
}

// explainPods lists each Pod that is not ready with the end of its logs.
func (s *Supervisor) explainPods(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	pods, err := s.client.CoreV1().Pods(s.opts.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("    (cannot list Pods: %v)", err)
	}
	var b strings.Builder
	for _, p := range pods.Items {
		if len(p.Status.ContainerStatuses) == 0 {
			fmt.Fprintf(&b, "%s on %q: %s\n", p.Name, p.Spec.NodeName, conditions(p))
		}
		for _, c := range p.Status.ContainerStatuses {
			if c.Ready {
				continue
			}
			fmt.Fprintf(&b, "%s on %s, container %s: %s\n", p.Name, p.Spec.NodeName, c.Name, stateText(c))
			dir := filepath.Join(s.logs, "pods", p.Namespace+"_"+p.Name+"_"+string(p.UID), c.Name)
			if runs, err := filepath.Glob(filepath.Join(dir, "*.log")); err == nil && len(runs) > 0 {
				b.WriteString(tail(runs[len(runs)-1], 12) + "\n")
			}
		}
	}
	return b.String()
}

func conditions(p corev1.Pod) string {
	var bad []error
	for _, c := range p.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			bad = append(bad, fmt.Errorf("%s: %s %s", c.Type, c.Reason, c.Message))
		}
	}
	if len(bad) == 0 {
		return "not started by its node's agent"
	}
	return errors.Join(bad...).Error()
}

func stateText(c corev1.ContainerStatus) string {
	switch {
	case c.State.Waiting != nil:
		return c.State.Waiting.Reason + " " + c.State.Waiting.Message
	case c.State.Terminated != nil:
		return fmt.Sprintf("terminated, %s, exit code %d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
	case c.State.Running != nil:
		return "running, but not ready"
	}
	return "unknown"
}
