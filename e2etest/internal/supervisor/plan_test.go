// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/lab"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	p := newPlan(lab.Options{Families: "dual", Nodes: 2, Routers: []lab.Router{{Name: "tor"}}}.WithDefaults())
	got := map[string]string{
		"lan": join(p.lan), "services": join(p.services), "kubernetes": join(p.kubernetesService()), "gateways": join(p.gateways),
		"api": p.apiServer(), "cp": join(p.cp.ips), "node1": join(p.nodes[0].ips), "node2": join(p.nodes[1].ips),
		"pods1": join(p.nodes[0].pods), "pods2": join(p.nodes[1].pods), "mac2": p.nodes[1].mac.String(),
		"client1": join(p.clients[0].ips), "tor": join(p.routers[0].ips),
	}
	want := map[string]string{
		"lan": "192.168.2.0/24,fd00:2::/64", "services": "10.96.0.0/16,fd00:96::/112",
		"kubernetes": "10.96.0.1,fd00:96::1", "gateways": "192.168.2.1,fd00:2::1",
		"api": "192.168.2.10:6443", "cp": "192.168.2.10/24,fd00:2::a/64",
		"node1": "192.168.2.11/24,fd00:2::b/64", "node2": "192.168.2.12/24,fd00:2::c/64",
		"pods1": "10.244.1.0/24,fd00:244:0:1::/64", "pods2": "10.244.2.0/24,fd00:244:0:2::/64",
		"mac2": "02:4c:41:42:00:0c", "client1": "192.168.2.101/24,fd00:2::65/64", "tor": "192.168.2.200/24,fd00:2::c8/64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPlanKeepsOutOfThePool: the quickstart's pool must be free for Services in the biggest lab.
func TestPlanKeepsOutOfThePool(t *testing.T) {
	t.Parallel()
	p := newPlan(lab.Options{Nodes: 80, Clients: 20, Routers: make([]lab.Router, 10)}.WithDefaults())
	pool, seen := netip.MustParsePrefix("192.168.2.128/28"), map[netip.Addr]string{}
	for _, group := range [][]host{{p.cp}, p.nodes, p.clients, p.routers} {
		for _, h := range group {
			ip := h.ips[0].Addr()
			if other, taken := seen[ip]; taken || pool.Contains(ip) {
				t.Errorf("%s has %s, taken by %q or in the pool", h.name, ip, other)
			}
			seen[ip] = h.name
		}
	}
}

// TestPlanBehind: where hosts behind routers are, and who sends what is for them to whom.
func TestPlanBehind(t *testing.T) {
	t.Parallel()
	p := newPlan(lab.Options{
		Families: "dual", Nodes: 2, Clients: 2, Routers: []lab.Router{{Name: "far"}, {Name: "tor"}, {Name: "other"}},
		Behind: map[string]string{"client1": "far", "far": "tor"}, Links: []lab.Link{{Node: "node2", Router: "tor"}},
	}.WithDefaults())
	got := map[string]string{
		"client1": join(p.clients[0].ips), "client2": join(p.clients[1].ips), "far": join(p.routers[0].ips), "tor": join(p.routers[1].ips),
		"links": strings.Join(slices.Concat(p.nodes[0].links, []string{"|"}, p.nodes[1].links), ""),
	}
	for _, h := range p.outward() {
		got["order"] += h.name + " "
	}
	for _, at := range slices.Concat(p.nodes[:1], p.routers) {
		for _, to := range p.outward() {
			if next, ok := nextHop(at, p.path(to)); ok {
				got["from "+at.name] += to.name + " by " + next.name + " "
			}
		}
	}
	want := map[string]string{
		"client1": "10.99.101.2/24,fd00:99:0:65::2/64", "client2": "192.168.2.102/24,fd00:2::66/64",
		"far": "10.99.200.2/24,fd00:99:0:c8::2/64", "tor": "192.168.2.201/24,fd00:2::c9/64", "links": "|tor",
		"order": "client2 tor other far client1 ",
		// The way to a network behind a router that is on the way is that router's own.
		"from node1": "far by tor client1 by tor ", "from other": "far by tor client1 by tor ", "from tor": "client1 by far ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
