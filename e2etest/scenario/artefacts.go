// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const metricsPort = "9120"

// keptKinds are the objects that a reader of a failed scenario may want.
const keptKinds = "nodes,services,endpointslices,pods,deployments,replicasets,daemonsets,configmaps,leases," +
	"ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles,communities,servicel2statuses," +
	"servicebgpstatuses,configurationstates,bgpsessions,ipreservations"

// collect keeps what tells why the scenario failed. What cannot be had is written down instead.
func (s *session) collect(ctx context.Context, r *running) {
	dir := filepath.Join(s.dir, r.key)
	keep := func(name string, data []byte, err error) {
		if err != nil {
			data = append(data, []byte(fmt.Sprintf("\ncould not be had: %v\n", err))...)
		}
		path := filepath.Join(dir, name)
		if os.MkdirAll(filepath.Dir(path), 0o755) == nil {
			_ = os.WriteFile(path, data, 0o600)
		}
	}
	kubectl := func(name string, args ...string) {
		out, errOut, err := r.lab.Kubectl(ctx, nil, args...)
		keep(name, append(out, errOut...), err)
	}
	kubectl("objects.yaml", "get", keptKinds, "-A", "-o", "yaml", "--ignore-not-found")
	kubectl("objects.txt", "get", keptKinds, "-A", "-o", "wide", "--ignore-not-found")
	kubectl("events.txt", "get", "events", "-A", "--sort-by=.lastTimestamp")
	if r.watcher != nil {
		if os, err := r.watcher.Overlaps(); len(os) > 0 || err != nil {
			var b strings.Builder
			for _, o := range os {
				b.WriteString(r.watcher.Explain(o))
			}
			keep("two-owners.txt", []byte(b.String()), err)
		}
	}
	s.collectPlans(ctx, r, keep)
	if err := os.CopyFS(filepath.Join(dir, "logs"), os.DirFS(r.lab.LogDir())); err != nil {
		keep("logs-incomplete.txt", nil, err)
	}
}

// collectPlans asks every Pod of Herald for its last plan, from the node it runs on: that works without the LAN too.
func (s *session) collectPlans(ctx context.Context, r *running, keep func(string, []byte, error)) {
	pods, err := r.kube.CoreV1().Pods(r.status.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		keep("plans-incomplete.txt", nil, err)
		return
	}
	for _, pod := range pods.Items {
		url := "http://" + net.JoinHostPort(pod.Status.PodIP, metricsPort) + "/debug/plan"
		out, err := r.lab.Exec(ctx, pod.Spec.NodeName, "curl", "-sS", "-f", "-m", "5", url)
		keep(filepath.Join("plans", pod.Name+".json"), out, err)
	}
}
