// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// replaced has another speaker started on a node whose speaker was killed, and waits until that is ready. The killed one is started
// again at once the first time, but a container that ends again and again waits longer each time, and the next run needs both nodes.
func replaced(ctx context.Context, o Options, f *failing, node string) error {
	pods, err := f.daemonPods(ctx, o, node)
	if err != nil {
		return err
	}
	var old []types.UID
	now := int64(0)
	for i := range pods {
		old = append(old, pods[i].UID)
		err := f.kube.CoreV1().Pods(o.Namespace).Delete(ctx, pods[i].Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil {
			return fmt.Errorf("delete the speaker of %s: %w", node, err)
		}
	}
	return wait(ctx, readyLimit, func(ctx context.Context) error {
		pods, err := f.daemonPods(ctx, o, node)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !slices.Contains(old, p.UID) && ready(&p) }) {
			return fmt.Errorf("no new speaker on %s is ready", node)
		}
		return nil
	})
}

// daemonPods lists the Pods of DaemonSets on a node.
func (c *cluster) daemonPods(ctx context.Context, o Options, node string) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, fmt.Errorf("list the Pods of %s: %w", node, err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return !slices.ContainsFunc(p.OwnerReferences, func(r metav1.OwnerReference) bool { return r.Kind == "DaemonSet" })
	}), nil
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
