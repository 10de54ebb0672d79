// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/driver/links"
	"github.com/heraldlb/herald/internal/kube/status"
)

// TestReport: what the owner of a Service says, depending on what became of its addresses on the network.
func TestReport(t *testing.T) {
	t.Parallel()
	var (
		ip       = netip.MustParseAddr("192.0.2.1")
		stranger = l2.MAC{2, 0, 0, 0, 0, 9}
		peer     = l2.MAC{2, 0, 0, 0, 0, 2}
	)
	address := func(phase l2.Phase) []l2.AddressState {
		a := l2.AddressState{IP: ip, Phase: phase}
		if phase == l2.PhaseAnnouncing {
			a.Interfaces = []string{"eth0"}
		}
		return []l2.AddressState{a}
	}
	conflict := func(mac l2.MAC) []l2.Conflict { return []l2.Conflict{{Address: ip, Interface: "eth0", MAC: mac}} }
	tests := []struct {
		name       string
		state      l2.State
		links      []links.Link
		write      bool
		interfaces int
		code       string
		text       []string
	}{
		{"announced", l2.State{Addresses: address(l2.PhaseAnnouncing)}, nil, true, 1, "Announcing", []string{`from node "a"`}},
		{"not started yet", l2.State{}, nil, false, 0, "Announcing", nil},
		{"being probed", l2.State{Addresses: address(l2.PhaseProbing)}, nil, false, 0, "Announcing", nil},
		{"lost to a peer for a moment", l2.State{Addresses: address(l2.PhaseContested)}, nil, false, 0, "Announcing", nil},
		{"somebody else's", l2.State{Addresses: address(l2.PhaseContested), Conflicts: conflict(stranger)}, nil, true, 0, "AddressConflict",
			[]string{`node "a" does not announce 192.0.2.1`, "02:00:00:00:00:09 (seen on eth0)", "find the machine"}},
		{"somebody else answers too", l2.State{Addresses: address(l2.PhaseAnnouncing), Conflicts: conflict(stranger)}, nil, true, 1, "AddressConflict",
			[]string{`node "a" announces 192.0.2.1, but`, "02:00:00:00:00:09"}},
		{"a node of the cluster", l2.State{Addresses: address(l2.PhaseContested), Conflicts: conflict(peer)}, nil, true, 0, "AddressConflict",
			[]string{`node "b" of this cluster, 02:00:00:00:00:02 (seen on eth0)`, "IPVS mode set strictARP: true"}},
		{"no socket", l2.State{Addresses: address(l2.PhaseAnnouncing), Errors: []l2.InterfaceError{{Interface: "eth0", Message: "ARP: not permitted", NoIPv4: true}}},
			nil, true, 0, "InterfaceError", []string{`node "a" should answer for 192.0.2.1, and cannot: eth0: ARP: not permitted`}},
		{"on an interface of this node", l2.State{Addresses: address(l2.PhaseAnnouncing), Conflicts: conflict(stranger)},
			[]links.Link{{Name: "kube-ipvs0", Addrs: []netip.Prefix{netip.PrefixFrom(ip, 32)}}}, true, 1, "AddressConflict",
			[]string{"configured on interface kube-ipvs0", "strictARP: true"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, plan, svc := owner(t, ip, peer)
			r := &reporter{who: status.Speaker{Node: "a"}, links: newFakeLinks(tt.links...)}
			got := r.report(m, plan, svc, see(tt.state))
			want := status.ServiceReport{Key: svc.Key, Reason: got.Reason, Write: tt.write}
			if tt.interfaces > 0 {
				want.Addresses, want.Interfaces = []netip.Addr{ip}, []string{"eth0"}
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if string(got.Reason.Code) != tt.code {
				t.Errorf("reason %v, want %s", got.Reason, tt.code)
			}
			for _, part := range tt.text {
				if !strings.Contains(got.Reason.Text, part) {
					t.Errorf("%q does not say %q", got.Reason.Text, part)
				}
			}
		})
	}
}

// owner returns the machine of node "a", which owns the address of a Service and knows the MAC of node "b".
func owner(t *testing.T, ip netip.Addr, peer ownership.MAC) (*ownership.Machine, *announce.Result, *lb.Service) {
	t.Helper()
	snap := &lb.Snapshot{
		Nodes:            []lb.Node{{Name: "a"}},
		Pools:            []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: ip, To: ip}}}},
		L2Advertisements: []lb.L2Advertisement{{Name: "l2", Scope: lb.Scope{AllPools: true}}},
		Services: []lb.Service{{
			Key: lb.ServiceKey{Namespace: "default", Name: "my-lb"}, Assigned: []netip.Addr{ip}, Endpoints: []lb.NodeEndpoints{{Node: "a", Count: 1}},
		}},
	}
	plan := announce.Plan(snap, "a")
	now := time.Unix(1000, 0)
	a, b := ownership.New(ownership.Config{Self: "a"}), ownership.New(ownership.Config{Self: "b"})
	b.Tick(now)
	b.SetHardware([]ownership.MAC{peer})
	b.SetInterfaces([]string{"eth1"})
	b.Ready()
	a.Tick(now)
	a.SetInterfaces([]string{"eth0"})
	a.SetGroups(plan.Groups)
	a.SetPeers(nil)
	if err := a.Receive(b.State()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		now = now.Add(ownership.TickInterval)
		a.Tick(now)
		a.Ready()
	}
	if node, ok := a.Owner(ip); !ok || node != "a" {
		t.Fatalf("the owner is %q, %v; groups %+v", node, ok, plan.Groups)
	}
	return a, &plan, &snap.Services[0]
}

// TestWait: bad news wait for patience, on deputies longer; those of a burst do not
// become due one by one.
func TestWait(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	report := func(deputy int, names ...string) []status.ServiceReport {
		var out []status.ServiceReport
		for _, n := range names {
			out = append(out, status.ServiceReport{Key: lb.ServiceKey{Name: n}, Reason: reason.New(reason.NoEndpoints, "none"), Write: true, Deputy: deputy})
		}
		return out
	}
	var first, deputy reporter
	for _, tt := range []struct {
		after time.Duration
		names []string
		// what each writes, and when it looks again
		first, deputy   int
		lookFirst, look time.Duration
	}{
		{0, []string{"a"}, 0, 0, patience, patience + deputyWait},
		{patience, []string{"a", "b"}, 1, 0, patience, deputyWait},
		{patience + deputyWait, []string{"a", "b"}, 2, 1, 0, deputyLook},
		{2*patience + deputyWait - time.Millisecond, []string{"a", "b"}, 2, 1, 0, deputyLook},
		{2*patience + deputyWait, []string{"a", "b"}, 2, 2, 0, 0},
	} {
		check := func(who string, r *reporter, reports []status.ServiceReport, want int, look time.Duration) {
			again := r.wait(reports, start.Add(tt.after))
			got := 0
			for i := range reports {
				if reports[i].Write {
					got++
				}
			}
			if got != want || again != look {
				t.Errorf("after %v, %s: %d writes, again after %v; want %d, %v", tt.after, who, got, again, want, look)
			}
		}
		check("the first", &first, report(0, tt.names...), tt.first, tt.lookFirst)
		check("its deputy", &deputy, report(1, tt.names...), tt.deputy, tt.look)
	}
}
