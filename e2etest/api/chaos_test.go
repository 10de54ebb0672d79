// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

var (
	chaosFor     = flag.Duration("chaos", 35*time.Second, "how long TestControllerChaos makes trouble")
	chaosProgram = flag.String("chaos-controller", filepath.Join(root, "bin", "controller"), "the program that TestControllerChaos runs")
	chaosSeed    = flag.Uint64("chaos-seed", uint64(time.Now().UnixNano()), "what TestControllerChaos does")
)

// chaos is a cluster in which users, and two controllers, have a hard time.
type chaos struct {
	*controllers
	*rand.Rand
	watcher  *watcher
	replicas [2]*replica
	asleep   [2]time.Time // until then
	counts   map[string]int
}

// TestControllerChaos runs two controllers against a real API server while
// users change things, controllers are killed at any moment, leaders are
// paused, replaced, and woken up again, and requests and answers are lost or
// late. Somebody else watches all Services in the order in which they change.
func TestControllerChaos(t *testing.T) {
	program, err := filepath.Abs(*chaosProgram)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make build builds it", program)
		}
		t.Skipf("SKIPPED: %s is missing: make build builds it", program)
	}
	c := &chaos{
		controllers: &controllers{config: startServer(t), program: program, dir: t.TempDir()},
		Rand:        rand.New(rand.NewPCG(*chaosSeed, 0)), counts: map[string]int{},
	}
	t.Logf("repeat with -chaos-seed %d, as far as time allows", *chaosSeed)
	if c.kube, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{herald}, chaosNamespaces()...) {
		eventually(t, "make namespace "+name, func(ctx context.Context) error {
			_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			return err
		})
	}
	install(t, c.objects, "test", readCRDs(t))
	c.watcher = watchServices(t, c.kube)
	for _, p := range chaosPools() {
		c.pool(t, p.name, p.variants[0])
		if p.only != "" {
			c.patchPool(t, p.name, fmt.Sprintf(`{"spec":{"serviceAllocation":{"namespaces":[%q]}}}`, p.only))
		}
		c.watcher.pool(p, 0)
	}
	var bad *network
	c.config, bad = badNetwork(t, c.config, *chaosSeed)
	for i := range c.replicas {
		c.replicas[i] = c.start(t)
	}
	c.replicas[0].ready(t)
	for end := time.Now().Add(*chaosFor); time.Now().Before(end) && !c.watcher.failed(); time.Sleep(time.Duration(c.IntN(60)) * time.Millisecond) {
		c.trouble(t)
		c.user(t)
	}
	for i, r := range c.replicas {
		if !c.asleep[i].IsZero() {
			_ = r.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	bad.mu.Lock()
	t.Logf("%v; %v; %d changes of addresses seen", c.counts, bad.counts, c.watcher.changes())
	bad.mu.Unlock()
	eventually(t, "all is as it should be", func(ctx context.Context) error {
		c.keepRunning(t)
		if c.watcher.failed() {
			return nil
		}
		list, err := c.kube.CoreV1().Services("").List(ctx, metav1.ListOptions{FieldSelector: "spec.type=LoadBalancer"})
		if err != nil {
			return err
		}
		return c.watcher.settled(list.Items)
	})
	for _, problem := range c.watcher.problems() {
		t.Error(problem)
	}
	if c.counts["kill"] == 0 || c.counts["pause"] == 0 || c.watcher.changes() < 20 {
		t.Errorf("too little has happened: %v", c.counts)
	}
}

func chaosNamespaces() []string { return []string{"blue", "green"} }

// chaosPool is a pool whose addresses change.
type chaosPool struct {
	name, only string // only: for this namespace
	variants   []string
}

func chaosPools() []chaosPool {
	return []chaosPool{
		{name: "main", variants: []string{"192.0.2.0-192.0.2.9", "192.0.2.0-192.0.2.13", "192.0.2.4-192.0.2.13", "192.0.2.0-192.0.2.11"}},
		{name: "pinned", only: "blue", variants: []string{"198.51.100.0-198.51.100.3", "198.51.100.2-198.51.100.5"}},
	}
}

func (c *chaos) patchPool(t *testing.T, name, patch string) {
	t.Helper()
	eventually(t, "edit pool "+name, func(ctx context.Context) error {
		_, err := c.objects.Resource(pools).Namespace(herald).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	})
}

// keepRunning does what a kubelet does: a program that ended is started again.
func (c *chaos) keepRunning(t *testing.T) {
	for i, r := range c.replicas {
		select {
		case err := <-r.done:
			c.counts["ended by itself"]++
			t.Logf("%s replica %d ended by itself: %v", time.Now().Format("15:04:05.000"), i, err)
			c.replicas[i] = c.start(t)
		default:
		}
	}
}

// trouble is what happens to controllers. A Lease that is deleted is one that
// has run out: both may believe that they lead.
func (c *chaos) trouble(t *testing.T) {
	c.keepRunning(t)
	for i, r := range c.replicas {
		if until := c.asleep[i]; !until.IsZero() && time.Now().After(until) {
			_ = r.cmd.Process.Signal(syscall.SIGCONT)
			c.asleep[i] = time.Time{}
		}
	}
	i := c.IntN(2)
	r := c.replicas[i]
	switch x := c.IntN(80); {
	case x == 0:
		c.counts["kill"]++
		_ = r.cmd.Process.Kill()
		if err := <-r.done; err == nil {
			t.Error("a killed controller ended well")
		}
		c.asleep[i] = time.Time{}
		c.replicas[i] = c.start(t)
		c.loseLease(t)
	case x <= 2 && c.asleep[i].IsZero() && c.asleep[1-i].IsZero():
		c.counts["pause"]++
		_ = r.cmd.Process.Signal(syscall.SIGSTOP)
		c.asleep[i] = time.Now().Add(time.Duration(500+c.IntN(4000)) * time.Millisecond)
		c.loseLease(t)
	case x == 3:
		c.counts["lose the Lease"]++
		c.loseLease(t)
	}
}

// user does one thing that users do.
func (c *chaos) user(t *testing.T) {
	ns := chaosNamespaces()[c.IntN(2)]
	name := fmt.Sprintf("s%d", c.IntN(12))
	services := c.kube.CoreV1().Services(ns)
	var err error
	switch x := c.IntN(40); {
	case x < 1:
		p := chaosPools()[c.IntN(2)]
		n := c.IntN(len(p.variants))
		c.watcher.pool(p, n)
		c.patchPool(t, p.name, fmt.Sprintf(`{"spec":{"addresses":[%q]}}`, p.variants[n]))
		c.watcher.pool(p, n) // until now the old one may have counted
	case x < 8:
		c.watcher.touch(ns, name)
		err = services.Delete(t.Context(), name, metav1.DeleteOptions{})
	case x < 11:
		c.watcher.touch(ns, name)
		ask := []string{"null", `"192.0.2.5"`, `"192.0.2.12"`, `"198.51.100.2"`}[c.IntN(4)]
		_, err = services.Patch(t.Context(), name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"metallb.io/loadBalancerIPs":%s}}}`, ask), metav1.PatchOptions{})
		c.watcher.touch(ns, name)
	case x < 13:
		c.watcher.touch(ns, name)
		kind := []string{"ClusterIP", "LoadBalancer"}[c.IntN(2)]
		_, err = services.Patch(t.Context(), name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"type":%q}}`, kind), metav1.PatchOptions{})
		c.watcher.touch(ns, name)
	default:
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: int32(8000 + c.IntN(4))}}},
		}
		if c.IntN(3) == 0 {
			s.Annotations["metallb.io/allow-shared-ip"] = "together"
		}
		_, err = services.Create(t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !strings.Contains(err.Error(), "is invalid") {
		t.Fatal(err)
	}
}

// addressesOf returns what a Service shows.
func addressesOf(s *corev1.Service) []string {
	var out []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	slices.Sort(out)
	return out
}
