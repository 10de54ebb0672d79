// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

func (b *builder) nodes(objs []*corev1.Node) []lb.Node {
	out := make([]lb.Node, 0, len(objs))
	for _, obj := range objs {
		n := lb.Node{Name: lb.NodeName(obj.Name), Labels: obj.Labels}
		// Only the label's presence counts, as for the service controller of
		// a cloud.
		if _, ok := obj.Labels[api.LabelExcludeNode]; ok && !b.opt.IgnoreExcludeLB {
			n.Excluded = true
		}
		for _, c := range obj.Status.Conditions {
			if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
				n.NetworkUnavailable = true
			}
		}
		for _, a := range obj.Status.Addresses {
			if a.Type != corev1.NodeInternalIP {
				continue
			}
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				n.Addresses = append(n.Addresses, ip.Unmap())
			}
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b lb.Node) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}

func namespaces(objs []*corev1.Namespace) []lb.Namespace {
	out := make([]lb.Namespace, 0, len(objs))
	for _, obj := range objs {
		out = append(out, lb.Namespace{Name: obj.Name, Labels: obj.Labels})
	}
	slices.SortFunc(out, func(a, b lb.Namespace) int { return strings.Compare(a.Name, b.Name) })
	return out
}
