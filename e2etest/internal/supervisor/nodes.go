// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/e2etest/internal/agent"
	"github.com/heraldlb/herald/e2etest/internal/boot"
	"github.com/heraldlb/herald/e2etest/internal/wire"
	"github.com/heraldlb/herald/e2etest/lab"
)

// node is one machine of the cluster. Its fields are guarded by Supervisor.mu.
type node struct {
	host    host
	machine *component // nil when the power is off
	power   lab.Power
	cable   lab.Cable
}

// powerOn makes a node's machine and starts its agent.
func (s *Supervisor) powerOn(h host) error {
	if err := buildNode(h, s.plan); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	config := filepath.Join(s.dir, "nodes", h.name+".json")
	if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	agentConfig, err := s.agentConfig(h)
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	data, err := json.Marshal(agentConfig)
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	cmd := boot.Command(s.self, h.name, []string{filepath.Dir(s.dir)}, s.self, agent.Role, config)
	machine, err := s.startCommand(h.name, wire.Path(h.name), cmd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[h.name] = &node{host: h, machine: machine, power: lab.PowerOn, cable: lab.CablePlugged}
	return nil
}

func (s *Supervisor) agentConfig(h host) (agent.Config, error) {
	cert, key, err := s.creds.authority.Serving(h.name, []string{h.name}, addrs(h.ips), time.Now())
	if err != nil {
		return agent.Config{}, err
	}
	c := agent.Config{
		ServingCert: cert, ServingKey: key,
		Node: h.name, IPs: addrs(h.ips), PodCIDRs: h.pods, ServiceIP: s.plan.kubernetesService()[0],
		APIServer: "https://" + s.plan.apiServer(), CA: s.creds.authority.PEM, Token: s.creds.identities[h.name].token,
		Self: s.self, Kube: s.kube, ProxyMode: s.opts.ProxyMode, ClusterCIDR: join(s.plan.pods),
		ProxyToken: s.creds.identities["kube-proxy"].token, Images: s.opts.Images, LogDir: s.logs,
	}
	if s.opts.ControlPlaneNode && h.name == s.plan.nodes[0].name {
		c.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
	}
	return c, nil
}

// nodeNames are all nodes, also those that are off.
func (s *Supervisor) nodeNames() []string {
	names := make([]string, len(s.plan.nodes))
	for i, n := range s.plan.nodes {
		names[i] = n.name
	}
	return names
}

// act does to a node what the control socket asks for.
func (s *Supervisor) act(name, action string) error {
	s.mu.Lock()
	n, ok := s.nodes[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("no node %q; there are: %s", name, strings.Join(s.nodeNames(), ", "))
	}
	s.log.Info("node", "node", name, "action", action)
	if action == "reboot" {
		if n.power != lab.PowerOff {
			if err := s.powerOff(n); err != nil {
				return err
			}
		}
		return s.powerOn(n.host)
	}
	s.mu.Lock()
	power := n.power
	s.mu.Unlock()
	if power == lab.PowerOff {
		return fmt.Errorf("%s is powered off; reboot it first", name)
	}
	switch action {
	case "cut":
		return s.setCable(n, lab.CableCut, wire.Down(wire.Here, name))
	case "blackhole":
		return s.setCable(n, lab.CableBlackholed, wire.Attach(wire.Here, name, ""))
	case "plug", "unblackhole":
		err := wire.Attach(wire.Here, name, lanName)
		return s.setCable(n, lab.CablePlugged, errors.Join(err, wire.Up(wire.Here, name)))
	case "freeze":
		return s.signalAll(n, unix.SIGSTOP, lab.PowerFrozen)
	case "thaw":
		return s.signalAll(n, unix.SIGCONT, lab.PowerOn)
	case "kill":
		return s.powerOff(n)
	}
	return fmt.Errorf("unknown action %q", action)
}

func (s *Supervisor) setCable(n *node, state lab.Cable, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.cable = state
	return nil
}

// powerOff takes the port away first: whatever the dying processes still send goes nowhere.
func (s *Supervisor) powerOff(n *node) error {
	if err := wire.Remove(wire.Here, n.host.name); err != nil {
		return err
	}
	if err := n.machine.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", n.host.name, err)
	}
	<-n.machine.done
	s.mu.Lock()
	defer s.mu.Unlock()
	n.power, n.cable, n.machine = lab.PowerOff, lab.CableCut, nil
	return wire.Delete(n.host.name)
}

// signalAll reaches every process of the node, from the first one down. Stopping is repeated until no process shows
// up that was not there before: one may have been forking.
func (s *Supervisor) signalAll(n *node, signal unix.Signal, power lab.Power) error {
	seen := map[int]bool{}
	for {
		fresh := 0
		for _, pid := range descendants(n.machine.cmd.Process.Pid) {
			if seen[pid] {
				continue
			}
			seen[pid] = true
			fresh++
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("signal %s: %w", n.host.name, err)
			}
		}
		if fresh == 0 {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.power = power
	return nil
}

// descendants returns root and all processes below it, parents first.
func descendants(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		// "pid (comm) state ppid ...", where comm may hold anything.
		text := string(data)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	out := []int{root}
	for i := 0; i < len(out); i++ {
		slices.Sort(children[out[i]])
		out = append(out, children[out[i]]...)
	}
	return out
}

// waitNodes waits until each Node is Ready, its kube-proxy has programmed the rules, and Pods can be created.
func (s *Supervisor) waitNodes(ctx context.Context) error {
	var machines []*component
	for _, n := range s.plan.nodes {
		machines = append(machines, s.nodes[n.name].machine)
	}
	waiting := "nodes"
	err := until(ctx, 100*time.Millisecond, machines, func() (bool, error) {
		list, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // asked again in a moment
		}
		for _, h := range s.plan.nodes {
			i := slices.IndexFunc(list.Items, func(n corev1.Node) bool { return n.Name == h.name })
			if i < 0 || !nodeReady(list.Items[i]) {
				waiting = h.name + " to be Ready"
				return false, nil
			}
			if !proxyReady(ctx, h) {
				waiting = "kube-proxy on " + h.name
				return false, nil
			}
		}
		waiting = "the default ServiceAccount"
		_, err = s.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if ctx.Err() != nil {
		return s.explainNodes(waiting)
	}
	if err != nil {
		return err
	}
	s.say("%d nodes are Ready", len(s.plan.nodes))
	return s.markControlPlane(ctx)
}

func (s *Supervisor) explainNodes(waiting string) error {
	text := "waiting for " + waiting
	for _, name := range []string{"kube-controller-manager", "kube-proxy-node1", "node1"} {
		text += "\n" + name + ":\n" + tail(filepath.Join(s.logs, name+".log"), 8)
	}
	return errors.New(text)
}

// markControlPlane sets the label that a node must not give itself.
func (s *Supervisor) markControlPlane(ctx context.Context) error {
	if !s.opts.ControlPlaneNode {
		return nil
	}
	patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)
	_, err := s.client.CoreV1().Nodes().Patch(ctx, s.plan.nodes[0].name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label control-plane node: %w", err)
	}
	return nil
}

func nodeReady(n corev1.Node) bool {
	for _, taint := range n.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady {
			return false
		}
	}
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// proxyReady asks kube-proxy's own health check, on the node.
func proxyReady(ctx context.Context, h host) bool {
	client := http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{DialContext: wire.Dialer(wire.Path(h.name)), DisableKeepAlives: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.ips[0].Addr().String()+":10256/healthz", nil)
	if h.ips[0].Addr().Is6() {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, "http://["+h.ips[0].Addr().String()+"]:10256/healthz", nil)
	}
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
