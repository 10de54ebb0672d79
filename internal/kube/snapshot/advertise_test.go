// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// labelledPools are web-1 and web-2 (app=web) and db.
func labelledPools(t *testing.T) []*v1beta1.IPAddressPool {
	out := []*v1beta1.IPAddressPool{
		pool(t, "web-1", 3, `addresses: [192.0.2.0/28]`), pool(t, "web-2", 2, `addresses: [192.0.2.16/28]`), pool(t, "db", 1, `addresses: [192.0.2.32/28]`),
	}
	out[0].Labels, out[1].Labels = map[string]string{"app": "web"}, map[string]string{"app": "web"}
	return out
}

func TestL2Advertisement(t *testing.T) {
	t.Parallel()
	zoneA := []lb.Selector{{Requirements: []lb.Requirement{{Key: "zone", Op: lb.In, Values: []string{"a"}}}}}
	tests := []struct {
		name, spec string
		want       []lb.L2Advertisement
		problems   []string
	}{
		{"empty: all pools, nodes, interfaces", `{}`, []lb.L2Advertisement{{Name: "x", Scope: lb.Scope{AllPools: true}}}, nil},
		{"pools by name and label", `{ipAddressPools: [db, db], ipAddressPoolSelectors: [{matchLabels: {app: web}}]}`,
			[]lb.L2Advertisement{{Name: "x", Scope: lb.Scope{Pools: []string{"db", "web-1", "web-2"}}}}, nil},
		{"a selector that matches no pool covers none", `{ipAddressPoolSelectors: [{matchLabels: {app: none}}]}`,
			[]lb.L2Advertisement{{Name: "x"}}, nil},
		{"an unknown pool: the others stay announced", `{ipAddressPools: [db, gone]}`,
			[]lb.L2Advertisement{{Name: "x", Scope: lb.Scope{Pools: []string{"db", "gone"}}}},
			[]string{`L2Advertisement x: UnknownReference: spec.ipAddressPools[1] "gone": no IPAddressPool has this name: create it, or use one of db, web-1, web-2`}},
		{"an unknown pool does not mean all, but Services may still have addresses of it", `{ipAddressPools: [gone]}`,
			[]lb.L2Advertisement{{Name: "x", Scope: lb.Scope{Pools: []string{"gone"}}}},
			[]string{`L2Advertisement x: UnknownReference: spec.ipAddressPools[0] "gone": no IPAddressPool has this name: create it, or use one of db, web-1, web-2`}},
		{"selectors, interfaces, preferences", `{nodeSelectors: [{matchLabels: {zone: a}}], serviceSelectors: [{matchLabels: {zone: a}}], interfaces: [eth1, eth0], preferredNodeSelectors: [{weight: 5, preference: {matchLabels: {zone: a}}}]}`,
			[]lb.L2Advertisement{{
				Name: "x", Scope: lb.Scope{AllPools: true, NodeSelectors: zoneA, ServiceSelectors: zoneA},
				Interfaces: []string{"eth0", "eth1"}, Preferred: []lb.Preference{{Weight: 5, Selector: zoneA[0]}},
			}}, nil},
		{"a bad selector", `{nodeSelectors: [{}, {matchExpressions: [{key: a, operator: Near}]}]}`, nil,
			[]string{`L2Advertisement x: BadSelector: spec.nodeSelectors[1]: "Near" is not a valid label selector operator: correct the selector`}},
		{"a bad weight", `{preferredNodeSelectors: [{weight: 101, preference: {}}]}`, nil,
			[]string{`L2Advertisement x: BadField: spec.preferredNodeSelectors[0].weight "101": a weight is a number from 1 to 100`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(snapshot.Objects{Pools: labelledPools(t), L2Advertisements: []*v1beta1.L2Advertisement{l2(t, "x", tt.spec)}})
			if diff := cmp.Diff(tt.want, got.L2Advertisements); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.problems, lines(got.problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// bgpObjects has peers r1 and r2, nodes n1 (zone a) and n2 (zone b), a Service,
// and some communities.
func bgpObjects(t *testing.T, ads ...*v1beta1.BGPAdvertisement) snapshot.Objects {
	return snapshot.Objects{
		Pools: labelledPools(t),
		Peers: []*v1beta2.BGPPeer{
			peer(t, "r1", `{myASN: 64512, peerASN: 64512, peerAddress: 198.51.100.1}`),
			peer(t, "r2", `{myASN: 64512, peerASN: 64512, peerAddress: 198.51.100.2, nodeSelectors: [{matchLabels: {zone: b}}]}`),
		},
		Nodes:             []*corev1.Node{node("n1", map[string]string{"zone": "a"}), node("n2", map[string]string{"zone": "b"})},
		Services:          []*corev1.Service{svc("web", func(s *corev1.Service) { s.Labels = map[string]string{"app": "web"} })},
		Communities:       []*v1beta1.Community{communities(t, "c", 1, `communities: [{name: blackhole, value: "65535:666"}, {name: far, value: "large:64512:1:2"}]`)},
		BGPAdvertisements: ads,
	}
}

func TestBGPAdvertisement(t *testing.T) {
	t.Parallel()
	base := lb.BGPAdvertisement{Name: "x", Scope: lb.Scope{AllPools: true}, AggregationLength: 32, AggregationLengthV6: 128, LocalPref: 100}
	with := func(f func(*lb.BGPAdvertisement)) []lb.BGPAdvertisement {
		a := base
		f(&a)
		return []lb.BGPAdvertisement{a}
	}
	tests := []struct {
		name, spec string
		want       []lb.BGPAdvertisement
		problems   []string
	}{
		{"defaults", `{}`, []lb.BGPAdvertisement{base}, nil},
		{"all fields", `{aggregationLength: 24, aggregationLengthV6: 64, localPref: 0, peers: [r2, r1], weighted: endpoints, communities: ["65535:1", blackhole, far, "large:1:2:3", "65535:1"]}`,
			with(func(a *lb.BGPAdvertisement) {
				a.AggregationLength, a.AggregationLengthV6, a.LocalPref, a.WeightByEndpoints = 24, 64, 0, true
				a.Peers = []string{"r1", "r2"}
				a.Communities = []uint32{65535<<16 | 1, 65535<<16 | 666}
				a.LargeCommunities = []lb.LargeCommunity{{Global: 1, Local1: 2, Local2: 3}, {Global: 64512, Local1: 1, Local2: 2}}
			}), nil},
		{"an unknown peer: the others stay", `{peers: [r1, gone]}`,
			with(func(a *lb.BGPAdvertisement) { a.Peers = []string{"r1"} }),
			[]string{`BGPAdvertisement x: UnknownReference: spec.peers[1] "gone": no valid BGPPeer has this name: create it, or use one of r1, r2`}},
		{"only an unknown peer does not mean all", `{peers: [gone]}`, nil,
			[]string{`BGPAdvertisement x: UnknownReference: spec.peers[0] "gone": no valid BGPPeer has this name: create it, or use one of r1, r2`}},
		{"an unknown community", `{communities: [nothing]}`, nil,
			[]string{`BGPAdvertisement x: UnknownCommunity: spec.communities[0] "nothing": it is neither n:n, nor large:n:n:n, nor the name of a valid alias in a Community object: correct it, or define the alias`}},
		{"selected Services cannot be aggregated", `{serviceSelectors: [{}], aggregationLength: 24, aggregationLengthV6: 64}`, nil, []string{
			`BGPAdvertisement x: BadField: spec.aggregationLength "24": an aggregate would announce Services that serviceSelectors does not select: use 32, or remove serviceSelectors`,
			`BGPAdvertisement x: BadField: spec.aggregationLengthV6 "64": an aggregate would announce Services that serviceSelectors does not select: use 128, or remove serviceSelectors`}},
		{"a length out of range", `{aggregationLength: 33}`, nil,
			[]string{`BGPAdvertisement x: BadField: spec.aggregationLength "33": it must be a number from 1 to 32`}},
		{"weighted by something else", `{weighted: moons}`, nil,
			[]string{`BGPAdvertisement x: BadField: spec.weighted "moons": the only value is "endpoints"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(bgpObjects(t, bgp(t, "x", 1, tt.spec)))
			if diff := cmp.Diff(tt.want, got.BGPAdvertisements); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.problems, lines(got.problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConflictingLocalPref(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, old, young string
		conflict         bool
	}{
		{"same value", `{localPref: 200}`, `{localPref: 200}`, false},
		{"unset is 100", `{localPref: 100}`, `{}`, false},
		{"different", `{localPref: 200}`, `{localPref: 300}`, true},
		{"unset and 200", `{localPref: 200}`, `{}`, true},
		{"different pools", `{localPref: 200, ipAddressPools: [db]}`, `{localPref: 300, ipAddressPools: [web-1]}`, false},
		{"a pool in common", `{localPref: 200, ipAddressPools: [db]}`, `{localPref: 300, ipAddressPools: [db, web-1]}`, true},
		{"different pools, one aggregate", `{localPref: 200, ipAddressPools: [db], aggregationLength: 24}`, `{localPref: 300, ipAddressPools: [web-1], aggregationLength: 24}`, true},
		{"same pool, different aggregates", `{localPref: 200, aggregationLength: 24, aggregationLengthV6: 64}`, `{localPref: 300}`, false},
		{"different nodes", `{localPref: 200, nodeSelectors: [{matchLabels: {zone: a}}]}`, `{localPref: 300, nodeSelectors: [{matchLabels: {zone: b}}]}`, false},
		{"different peers", `{localPref: 200, peers: [r1]}`, `{localPref: 300, peers: [r2]}`, false},
		{"a peer in common that the node has no session with", `{localPref: 200, peers: [r2], nodeSelectors: [{matchLabels: {zone: a}}]}`, `{localPref: 300, peers: [r2]}`, false},
		{"different Services", `{localPref: 200, serviceSelectors: [{matchLabels: {app: web}}]}`, `{localPref: 300, serviceSelectors: [{matchLabels: {app: db}}]}`, false},
		{"a Service in common", `{localPref: 200, serviceSelectors: [{matchLabels: {app: web}}]}`, `{localPref: 300}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(bgpObjects(t, bgp(t, "a-young", 1, tt.young), bgp(t, "z-old", 2, tt.old)))
			var names []string
			for _, a := range got.BGPAdvertisements {
				names = append(names, a.Name)
			}
			want := []string{"a-young", "z-old"}
			if tt.conflict {
				want = []string{"z-old"}
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("used (-want +got):\n%s\nproblems: %v", diff, lines(got.problems))
			}
			if tt.conflict != (len(got.problems) == 1 && got.problems[0].Reason.Code == "ConflictingLocalPref") {
				t.Errorf("problems: %v", lines(got.problems))
			}
		})
	}
}

func TestCommunities(t *testing.T) {
	t.Parallel()
	o := bgpObjects(t, bgp(t, "x", 1, `communities: [one, two, blackhole]`))
	o.Communities = append(o.Communities,
		communities(t, "younger", 0, `communities: [{name: blackhole, value: "1:1"}, {name: one, value: "64512:1"}]`),
		communities(t, "typo", 0, `communities: [{name: bad, value: "65536:1"}, {name: two, value: "64512:2"}]`))
	got := build(o)
	want := []uint32{64512<<16 | 1, 64512<<16 | 2, 65535<<16 | 666}
	if diff := cmp.Diff(want, got.BGPAdvertisements[0].Communities); diff != "" {
		t.Errorf("communities (-want +got):\n%s", diff)
	}
	problems := []string{
		`Community typo: BadField: spec.communities[0].value "65536:1": it is no community: write n:n with numbers up to 65535, or large:n:n:n with numbers up to 4294967295`,
		`Community younger: DuplicateCommunity: spec.communities[0].name "blackhole": the name is already defined in Community "c", which counts: rename one of them`,
	}
	if diff := cmp.Diff(problems, lines(got.problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
