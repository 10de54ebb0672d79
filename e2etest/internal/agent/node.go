// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Both as a kubelet has them.
	leaseSeconds  = 40
	leaseInterval = 10 * time.Second
	// restartDelay is between two attempts at something that ought to work at once.
	restartDelay = time.Second
)

// sleep waits and reports whether the time has passed, rather than ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// register creates the Node, or takes it over after a reboot, and reports it ready.
func (a *Agent) register(ctx context.Context) error {
	want := a.nodeObject()
	for {
		err := a.tryRegister(ctx, want)
		if err == nil {
			a.log.Info("registered", "node", a.cfg.Node)
			return nil
		}
		a.log.Warn("register node", "err", err)
		if !sleep(ctx, restartDelay/4) {
			return ctx.Err()
		}
	}
}

func (a *Agent) tryRegister(ctx context.Context, want *corev1.Node) error {
	nodes := a.client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		node, err = nodes.Get(ctx, want.Name, metav1.GetOptions{})
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	node.Status = want.Status
	if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

func (a *Agent) nodeObject() *corev1.Node {
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now,
		}
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/uuid")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Node, Labels: map[string]string{
			corev1.LabelHostname: a.cfg.Node, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
		}},
		Spec: corev1.NodeSpec{Taints: a.cfg.Taints},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeReady, corev1.ConditionTrue, "AgentReady"),
				condition(corev1.NodeNetworkUnavailable, corev1.ConditionFalse, "RoutesInstalled"),
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "AgentHasSufficientMemory"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "AgentHasNoDiskPressure"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "AgentHasSufficientPID"),
			},
			NodeInfo: corev1.NodeSystemInfo{
				// A new one each time: whoever looks can tell a reboot from a restart.
				BootID:    strings.TrimSpace(string(boot)),
				MachineID: a.cfg.Node, OSImage: "Herald lab", OperatingSystem: "linux", Architecture: runtime.GOARCH,
				KernelVersion: strings.TrimSpace(string(kernel)), ContainerRuntimeVersion: "lab://1", KubeletVersion: "v1.37.0-lab",
			},
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: a.cfg.Node}},
		},
	}
	for _, ip := range a.cfg.IPs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	for _, pods := range a.cfg.PodCIDRs {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, pods.String())
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	return node
}

// keepLease renews the node's lease. While that works the node lifecycle controller believes the conditions that
// register has set; when it has given up on the node meanwhile, they are set again.
func (a *Agent) keepLease(ctx context.Context) error {
	for {
		if err := a.renewLease(ctx); err != nil {
			a.log.Warn("renew lease", "err", err)
			if !sleep(ctx, restartDelay) {
				return ctx.Err()
			}
			continue
		}
		if err := a.assertReady(ctx); err != nil {
			a.log.Warn("report node ready", "err", err)
		}
		if !sleep(ctx, leaseInterval) {
			return ctx.Err()
		}
	}
}

func (a *Agent) renewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseInterval)
	defer cancel()
	leases := a.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NowMicro(), int32(leaseSeconds)
	spec := coordinationv1.LeaseSpec{HolderIdentity: &a.cfg.Node, LeaseDurationSeconds: &seconds, RenewTime: &now}
	lease, err := leases.Get(ctx, a.cfg.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Node}, Spec: spec}
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec = spec
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// assertReady writes the status only if somebody has changed a condition.
func (a *Agent) assertReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseInterval)
	defer cancel()
	node, err := a.client.CoreV1().Nodes().Get(ctx, a.cfg.Node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := a.nodeObject().Status.Conditions
	current := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range node.Status.Conditions {
		current[c.Type] = c.Status
	}
	for _, c := range want {
		// Taking NetworkUnavailable back would undo what a test has set on purpose.
		if c.Type != corev1.NodeNetworkUnavailable && current[c.Type] != c.Status {
			node.Status.Conditions = mergeConditions(node.Status.Conditions, want)
			_, err = a.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
			return err
		}
	}
	return nil
}

// mergeConditions puts the agent's own conditions into the list, all but NetworkUnavailable.
func mergeConditions(have, want []corev1.NodeCondition) []corev1.NodeCondition {
	out := append([]corev1.NodeCondition(nil), have...)
	for _, w := range want {
		if w.Type == corev1.NodeNetworkUnavailable {
			continue
		}
		found := false
		for i := range out {
			if out[i].Type == w.Type {
				out[i], found = w, true
			}
		}
		if !found {
			out = append(out, w)
		}
	}
	return out
}
