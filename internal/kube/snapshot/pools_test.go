// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

type snapshotResult struct {
	lb.Snapshot
	problems []snapshot.Problem
}

func TestParseRange(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want, err string }{
		{in: "192.0.2.0/24", want: "192.0.2.0-192.0.2.255"},
		{in: "192.168.2.130/28", want: "192.168.2.128-192.168.2.143"},
		{in: " 192.0.2.1/32 ", want: "192.0.2.1-192.0.2.1"},
		{in: "2001:db8::5/64", want: "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"},
		{in: "192.0.2.10-192.0.2.20", want: "192.0.2.10-192.0.2.20"},
		{in: " 192.0.2.10 - 192.0.2.20 ", want: "192.0.2.10-192.0.2.20"},
		{in: "2001:db8::1-2001:db8::9", want: "2001:db8::1-2001:db8::9"},
		{in: "192.0.2.1-192.0.2.1", want: "192.0.2.1-192.0.2.1"},
		{in: "192.0.2.20-192.0.2.10", err: "the first address is higher than the last: swap them"},
		{in: "192.0.2.1-2001:db8::1", err: "the first address is IPv4 and the last is IPv6: use one family for a range"},
		{in: "192.0.2.1", err: "it is neither a CIDR nor a range: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20"},
		{in: "192.0.2.0/33", err: "it is neither a CIDR nor a range: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20"},
		{in: "a-b", err: "both sides of the dash must be IP addresses: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20"},
		{in: "fe80::1%eth0-fe80::2%eth0", err: "both sides of the dash must be IP addresses: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20"},
		{in: "::ffff:192.0.2.1-::ffff:192.0.2.9", err: "IPv4 addresses inside IPv6 are not supported: write them as IPv4"},
		{in: "::ffff:192.0.2.0/120", err: "IPv4 addresses inside IPv6 are not supported: write them as IPv4"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			r, err := snapshot.ParseRange(tt.in)
			got, gotErr := "", ""
			if err != nil {
				gotErr = err.Error()
			} else {
				got = r.From.String() + "-" + r.To.String()
			}
			if got != tt.want || gotErr != tt.err {
				t.Errorf("got %q, error %q; want %q, error %q", got, gotErr, tt.want, tt.err)
			}
		})
	}
}

// short describes pools in one line each.
func short(pools []lb.Pool) []string {
	var out []string
	for _, p := range pools {
		s := p.Name
		for _, r := range p.Ranges {
			s += " " + r.From.String() + "-" + r.To.String()
		}
		if !p.AutoAssign {
			s += " manual"
		}
		if p.AvoidBuggyIPs {
			s += " avoid-buggy"
		}
		if p.Frozen {
			s += " FROZEN"
		}
		out = append(out, s)
	}
	return out
}

func TestPools(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		pools    func(t *testing.T) []*v1beta1.IPAddressPool
		want     []string
		problems []string
	}{
		{"defaults, ranges sorted", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{pool(t, "a", 1, `addresses: ["2001:db8::/126", 192.0.2.16/30, 192.0.2.1-192.0.2.2]`)}
		}, []string{"a 192.0.2.1-192.0.2.2 192.0.2.16-192.0.2.19 2001:db8::-2001:db8::3"}, nil},

		{"flags", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{pool(t, "a", 1, `{addresses: [192.0.2.0/24], autoAssign: false, avoidBuggyIPs: true}`)}
		}, []string{"a 192.0.2.0-192.0.2.255 manual avoid-buggy"}, nil},

		{"a bad entry freezes the pool and nothing else", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{
				pool(t, "bad", 2, `addresses: [192.0.2.0/24, 198.51.100.0/240]`),
				pool(t, "good", 1, `addresses: [203.0.113.0/24]`),
			}
		}, []string{"bad 192.0.2.0-192.0.2.255 FROZEN", "good 203.0.113.0-203.0.113.255"},
			[]string{`IPAddressPool bad: BadAddress: spec.addresses[1] "198.51.100.0/240": it is neither a CIDR nor a range: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20`}},

		{"no entry", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{pool(t, "a", 1, `addresses: []`)}
		}, []string{"a FROZEN"},
			[]string{`IPAddressPool a: BadAddress: spec.addresses: the list is empty: add a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20`}},

		{"overlap inside a pool", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{pool(t, "a", 1, `addresses: [192.0.2.0/28, 192.0.2.15-192.0.2.20]`)}
		}, []string{"a 192.0.2.0-192.0.2.15 FROZEN"},
			[]string{`IPAddressPool a: BadAddress: spec.addresses[1] "192.0.2.15-192.0.2.20": it shares addresses with spec.addresses[0] (192.0.2.0-192.0.2.15): remove one of the two`}},

		{"overlap: the younger pool is at fault, whatever the names", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{
				pool(t, "a-young", 1, `addresses: [192.0.2.10-192.0.2.30]`),
				pool(t, "z-old", 2, `addresses: [192.0.2.0/28]`),
			}
		}, []string{"a-young 192.0.2.10-192.0.2.30 FROZEN", "z-old 192.0.2.0-192.0.2.15"},
			[]string{`IPAddressPool a-young: PoolOverlap: spec.addresses[0] "192.0.2.10-192.0.2.30": it shares addresses with the older pool "z-old" (192.0.2.0-192.0.2.15); this pool is frozen, Services keep what they have from it: remove the shared addresses from one of the two`}},

		{"overlap at the same age: the name decides", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{
				pool(t, "b", 1, `addresses: [192.0.2.0/28]`),
				pool(t, "a", 1, `addresses: [192.0.2.0/28]`),
			}
		}, []string{"a 192.0.2.0-192.0.2.15", "b 192.0.2.0-192.0.2.15 FROZEN"},
			[]string{`IPAddressPool b: PoolOverlap: spec.addresses[0] "192.0.2.0/28": it shares addresses with the older pool "a" (192.0.2.0-192.0.2.15); this pool is frozen, Services keep what they have from it: remove the shared addresses from one of the two`}},

		{"a pool that overlaps claims nothing from a third", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{
				pool(t, "first", 3, `addresses: [192.0.2.0/28]`),
				pool(t, "second", 2, `addresses: [192.0.2.0/27]`),
				pool(t, "third", 1, `addresses: [192.0.2.16/28]`),
			}
		}, []string{"first 192.0.2.0-192.0.2.15", "second 192.0.2.0-192.0.2.31 FROZEN", "third 192.0.2.16-192.0.2.31"},
			[]string{`IPAddressPool second: PoolOverlap: spec.addresses[0] "192.0.2.0/27": it shares addresses with the older pool "first" (192.0.2.0-192.0.2.15); this pool is frozen, Services keep what they have from it: remove the shared addresses from one of the two`}},

		{"a typo in the older pool does not make the younger one valid", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{
				pool(t, "old", 2, `addresses: [192.0.2.0/28, typo]`),
				pool(t, "young", 1, `addresses: [192.0.2.8/29]`),
			}
		}, []string{"old 192.0.2.0-192.0.2.15 FROZEN", "young 192.0.2.8-192.0.2.15 FROZEN"},
			[]string{
				`IPAddressPool old: BadAddress: spec.addresses[1] "typo": it is neither a CIDR nor a range: write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20`,
				`IPAddressPool young: PoolOverlap: spec.addresses[0] "192.0.2.8/29": it shares addresses with the older pool "old" (192.0.2.0-192.0.2.15); this pool is frozen, Services keep what they have from it: remove the shared addresses from one of the two`,
			}},

		{"a bad selector freezes the pool", func(t *testing.T) []*v1beta1.IPAddressPool {
			return []*v1beta1.IPAddressPool{pool(t, "a", 1, `{addresses: [192.0.2.0/28], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: tier, operator: In}]}]}}`)}
		}, []string{"a 192.0.2.0-192.0.2.15 FROZEN"},
			[]string{`IPAddressPool a: BadSelector: spec.serviceAllocation.serviceSelectors[0]: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty: correct the selector`}},

		{"a pool that is being deleted gives nothing new", func(t *testing.T) []*v1beta1.IPAddressPool {
			p := pool(t, "a", 1, `addresses: [192.0.2.0/28]`)
			p.DeletionTimestamp = &metav1.Time{Time: p.CreationTimestamp.Time}
			return []*v1beta1.IPAddressPool{p}
		}, []string{"a 192.0.2.0-192.0.2.15 FROZEN"}, nil},

		{"a pool in another namespace does not count", func(t *testing.T) []*v1beta1.IPAddressPool {
			p := pool(t, "a", 1, `addresses: [typo]`)
			p.Namespace = "default"
			return []*v1beta1.IPAddressPool{p}
		}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(snapshot.Objects{Pools: tt.pools(t)})
			if diff := cmp.Diff(tt.want, short(got.Pools)); diff != "" {
				t.Errorf("pools (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.problems, lines(got.problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPoolPin(t *testing.T) {
	t.Parallel()
	p := pool(t, "a", 1, `
addresses: [192.0.2.0/28]
serviceAllocation:
  priority: 7
  namespaces: [z, a, z]
  namespaceSelectors: [{matchLabels: {team: blue, env: prod}}]
  serviceSelectors: [{matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}, {}]
`)
	want := &lb.Pin{
		Priority:   7,
		Namespaces: []string{"a", "z"},
		NamespaceSelectors: []lb.Selector{{Requirements: []lb.Requirement{
			{Key: "env", Op: lb.In, Values: []string{"prod"}}, {Key: "team", Op: lb.In, Values: []string{"blue"}}}}},
		ServiceSelectors: []lb.Selector{{Requirements: []lb.Requirement{{Key: "tier", Op: lb.NotIn, Values: []string{"db"}}}}, {}},
	}
	if diff := cmp.Diff(want, build(snapshot.Objects{Pools: []*v1beta1.IPAddressPool{p}}).Pools[0].Pin); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPoolsMissingForTheMoment(t *testing.T) {
	t.Parallel()
	o := snapshot.Objects{Pools: []*v1beta1.IPAddressPool{pool(t, "b", 1, `addresses: [192.0.2.0/28]`)}}
	s, problems := snapshot.Build(o, snapshot.Options{Namespace: ns, FrozenPools: []string{"c", "b", "a"}})
	want := []string{"a manual FROZEN", "b 192.0.2.0-192.0.2.15", "c manual FROZEN"}
	if diff := cmp.Diff(want, short(s.Pools)); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	if len(problems) > 0 {
		t.Errorf("problems: %v", lines(problems))
	}
}
