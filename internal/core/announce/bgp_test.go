// SPDX-License-Identifier: Apache-2.0

package announce_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// TestExplainBGP: why a node does not announce a Service with BGP, one thing
// after the other.
func TestExplainBGP(t *testing.T) {
	t.Parallel()
	s := lb.Snapshot{
		Nodes: []lb.Node{{Name: "n1"}, {Name: "n2"}},
		Pools: []lb.Pool{parsePool("p", []string{"192.0.2.0-192.0.2.9"})},
		Services: []lb.Service{{
			Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Assigned: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Local: true,
		}},
	}
	web := &s.Services[0]
	for _, step := range []struct {
		then func()
		want reason.Code
	}{
		{func() {}, reason.NodeNotSelected},
		{func() { s.BGPAdvertisements = []lb.BGPAdvertisement{{Name: "ad", Scope: lb.Scope{AllPools: true}}} }, reason.NodeNoPeer},
		{func() { s.Peers = []lb.Peer{{Name: "tor"}} }, reason.NoEndpoints},
		{func() { web.Endpoints = []lb.NodeEndpoints{{Node: "n2", Count: 1}} }, reason.NodeNoEndpoint},
		{func() { web.Endpoints = []lb.NodeEndpoints{{Node: "n1", Count: 1}} }, ""},
		{func() { s.Nodes[0].Excluded = true }, reason.NodeExcluded},
		{func() { s.Nodes[0].NetworkUnavailable = true }, reason.NodeNetworkUnavailable},
	} {
		step.then()
		r := announce.Plan(&s, "n1")
		if diff := cmp.Diff(step.want, r.ExplainBGP(web.Key, "n1").Code); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.ExplainBGP(web.Key, "n1"), diff)
		}
	}
}
