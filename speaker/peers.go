// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// findPeers returns the other speakers, sorted. A Pod that has failed, ended
// or is being deleted does not count; one that has no address yet does, but
// cannot be reached.
func findPeers(pods []*corev1.Pod, self lb.NodeName, port int) peers {
	var p peers
	for _, pod := range pods {
		node := lb.NodeName(pod.Spec.NodeName)
		if node == "" || node == self || pod.DeletionTimestamp != nil ||
			pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
			continue
		}
		p.nodes = append(p.nodes, node)
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
			p.addresses = append(p.addresses, netip.AddrPortFrom(ip, uint16(port)))
		}
	}
	slices.Sort(p.nodes)
	p.nodes = slices.Compact(p.nodes)
	slices.SortFunc(p.addresses, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return p
}
