// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	herald     = "metallb-system"
	allocation = "metallb.io/ip-allocated-from-pool"
)

var pools = schema.GroupVersionResource{Group: "metallb.io", Version: "v1beta1", Resource: "ipaddresspools"}

// replica is one running controller.
type replica struct {
	cmd           *exec.Cmd
	done          chan error
	metrics, live int
}

// controllers is a cluster with the controller in it.
type controllers struct {
	config  *rest.Config
	kube    kubernetes.Interface
	objects dynamic.Interface
	program string
	dir     string
}

// TestController runs the controller as a program against a real API server.
func TestController(t *testing.T) {
	program, err := filepath.Abs(filepath.Join(root, "bin", "controller"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make build builds it", program)
		}
		t.Skipf("SKIPPED: %s is missing: make build builds it", program)
	}
	c := &controllers{config: startServer(t), program: program, dir: t.TempDir()}
	if c.kube, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: herald}}
	eventually(t, "make the namespace", func(ctx context.Context) error {
		_, err := c.kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		return err
	})
	// Started before its kinds exist: it has to wait for them.
	first := c.start(t)
	install(t, c.objects, "test", readCRDs(t))
	c.pool(t, "main", "192.0.2.0/30")
	first.ready(t)

	// In this order, in one cluster: each begins as the one before ends.
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a Service gets an address in one request", c.assigns},
		{"a changed type gives the address to the one that waits", c.changesType},
		{"nothing is written in a settled cluster", func(t *testing.T) { c.settled(t, first) }},
		{"the next replica leads at once after a stop", func(t *testing.T) { c.hands(t, first) }},
		{"pools that go with their definition keep their Services", c.definitionGoes},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// start starts a replica, with the rights of an administrator: rights are the chart's matter.
func (c *controllers) start(t *testing.T) *replica {
	t.Helper()
	r := &replica{metrics: freePort(t), live: freePort(t), done: make(chan error, 1)}
	kubeconfig := filepath.Join(c.dir, "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
"clusters":[{"name":"x","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"x","user":{"token":%q}}]}`, c.config.Host, c.config.BearerToken)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("controller-%d.log", r.live)))
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(c.program, "--kubeconfig", kubeconfig, "--namespace", herald, "--ml-secret-name", "memberlist",
		"--port", fmt.Sprint(r.metrics), "--health-probe-port", fmt.Sprint(r.live))
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = log.Close()
		if t.Failed() {
			t.Logf("controller, last lines:\n%s", tail(log.Name(), 20))
		}
	})
	return r
}

func (r *replica) ready(t *testing.T) {
	t.Helper()
	eventually(t, "the controller is ready", func(ctx context.Context) error {
		_, err := get(ctx, r.live, "/readyz")
		return err
	})
}

func get(ctx context.Context, port int, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func (c *controllers) pool(t *testing.T, name, addresses string) {
	t.Helper()
	u := object(t, fmt.Sprintf(`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: %s, namespace: %s}, spec: {addresses: [%s]}}`, name, herald, addresses))
	u.SetNamespace(herald)
	eventually(t, "make pool "+name, func(ctx context.Context) error {
		_, err := c.objects.Resource(pools).Namespace(herald).Create(ctx, u, metav1.CreateOptions{})
		return err
	})
}

func (c *controllers) service(t *testing.T, name string) {
	t.Helper()
	_, err := c.kube.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"mine": "kept"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// has waits until a Service shows the address and returns it.
func (c *controllers) has(t *testing.T, name, address string) *corev1.Service {
	t.Helper()
	var s *corev1.Service
	eventually(t, fmt.Sprintf("%s has %q", name, address), func(ctx context.Context) (err error) {
		if s, err = c.kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if got := address0(s); got != address {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
	return s
}

func address0(s *corev1.Service) string {
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		return ""
	}
	return s.Status.LoadBalancer.Ingress[0].IP
}

func (c *controllers) assigns(t *testing.T) {
	w, err := c.kube.CoreV1().Services("default").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=one"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	c.service(t, "one")
	c.has(t, "one", "192.0.2.0")
	<-w.ResultChan() // as created
	s := (<-w.ResultChan()).Object.(*corev1.Service)
	if address0(s) != "192.0.2.0" || s.Annotations[allocation] != "main" || s.Annotations["mine"] != "kept" {
		t.Errorf("after the first change: address %q, annotations %v", address0(s), s.Annotations)
	}
	var found []string
	for _, cond := range s.Status.Conditions {
		found = append(found, fmt.Sprintf("%s %s %s %s", cond.Type, cond.Status, cond.Reason, cond.Message))
	}
	if diff := cmp.Diff([]string{`heraldlb.io/Allocated True AddressAssigned 192.0.2.0 from pool "main"`}, found); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	eventually(t, "the event IPAllocated", func(ctx context.Context) error {
		l, err := c.kube.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=one"})
		if err != nil {
			return err
		}
		if len(l.Items) != 1 || l.Items[0].Reason != "IPAllocated" || l.Items[0].Message != `Assigned IP ["192.0.2.0"]` || l.Items[0].Source.Component != "metallb-controller" {
			return fmt.Errorf("events are %v", l.Items)
		}
		return nil
	})
	if _, err := c.kube.CoreV1().Secrets(herald).Get(t.Context(), "memberlist", metav1.GetOptions{}); err != nil {
		t.Errorf("the key of gossip: %v", err)
	}
}

func (c *controllers) changesType(t *testing.T) {
	for i, name := range []string{"two", "three", "four", "waiting"} {
		c.service(t, name)
		if i < 3 {
			c.has(t, name, fmt.Sprintf("192.0.2.%d", i+1))
		}
	}
	if _, err := c.kube.CoreV1().Services("default").Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.has(t, "waiting", "192.0.2.0")
	eventually(t, "nothing is left on the Service that changed", func(ctx context.Context) error {
		s, err := c.kube.CoreV1().Services("default").Get(ctx, "one", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if diff := cmp.Diff(map[string]string{"mine": "kept"}, s.Annotations); diff != "" || len(s.Status.Conditions) > 0 || address0(s) != "" {
			return fmt.Errorf("address %q, annotations %v, conditions %v", address0(s), s.Annotations, s.Status.Conditions)
		}
		return nil
	})
}

// writes returns the counters of requests that change something.
func (r *replica) writes(t *testing.T) []string {
	t.Helper()
	body, err := get(t.Context(), r.metrics, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "herald_api_writes_total{") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func (c *controllers) settled(t *testing.T, r *replica) {
	before := r.writes(t)
	eventually(t, "the writes come to an end", func(context.Context) error {
		time.Sleep(2 * time.Second) // longer than counters wait
		now := r.writes(t)
		defer func() { before = now }()
		if diff := cmp.Diff(before, now); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	// A label wakes the loop; it changes nothing that Herald writes.
	_, err := c.kube.CoreV1().Services("default").Patch(t.Context(), "two", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if diff := cmp.Diff(before, r.writes(t)); diff != "" {
		t.Errorf("writes without a need (-before +after):\n%s", diff)
	}
}

func (c *controllers) hands(t *testing.T, first *replica) {
	second := c.start(t)
	second.ready(t)
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-first.done:
		if err != nil {
			t.Errorf("the first replica ended with %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the first replica does not end")
	}
	stopped := time.Now()
	if err := c.kube.CoreV1().Services("default").Delete(t.Context(), "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.service(t, "five")
	c.has(t, "five", "192.0.2.1")
	if d := time.Since(stopped); d > 10*time.Second {
		t.Errorf("the next replica took %v: the Lease was not released", d)
	}
	if got := second.writes(t); len(got) == 0 {
		t.Error("the second replica wrote nothing")
	}
}

func (c *controllers) definitionGoes(t *testing.T) {
	last := c.start(t)
	last.ready(t)
	c.pool(t, "other", "198.51.100.0/24")
	eventually(t, "the new pool has been seen", func(ctx context.Context) error {
		body, err := get(ctx, last.metrics, "/metrics")
		if err == nil && !strings.Contains(body, `addresses_total{pool="other"}`) {
			err = errors.New("no metric of it")
		}
		return err
	})
	if err := c.objects.Resource(crdResource).Delete(t.Context(), "ipaddresspools.metallb.io", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the definition is gone", func(ctx context.Context) error {
		_, err := c.objects.Resource(crdResource).Get(ctx, "ipaddresspools.metallb.io", metav1.GetOptions{})
		if err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	install(t, c.objects, "test", readCRDs(t))
	c.pool(t, "other", "198.51.100.0/24")
	eventually(t, "the controller is ready again", func(ctx context.Context) error {
		body, err := get(ctx, last.metrics, "/debug/plan")
		if err == nil && !strings.Contains(body, `"198.51.100.0"`) {
			err = errors.New("the pool is not in the plan")
		}
		return err
	})
	for name, address := range map[string]string{"three": "192.0.2.2", "four": "192.0.2.3", "waiting": "192.0.2.0", "five": "192.0.2.1"} {
		s, err := c.kube.CoreV1().Services("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := address0(s); got != address {
			t.Errorf("%s moved from %s to %q", name, address, got)
		}
	}
	c.pool(t, "main", "192.0.2.0/30")
	c.has(t, "three", "192.0.2.2")
}
