// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// The story lists pools in the order in which the controller tries them. That
// order is the planner's: whatever the pools, the first one that the story says
// could serve a Service is the one that the plan takes.
func TestPoolOrderIsThePlanners(t *testing.T) {
	t.Parallel()
	const rounds = 2000
	served := 0
	for seed := range uint64(rounds) {
		s := randomSnapshot(rand.New(rand.NewPCG(seed, 1)))
		v := &View{cluster: &Cluster{}, snap: s, ipam: ipam.Plan(s)}
		svc := &v.snap.Services[len(s.Services)-1]
		d, _ := decision(&v.ipam, svc.Key)
		want := ""
		if len(d.Pools) > 0 {
			want = d.Pools[0]
			served++
		}
		// As before the plan: nothing given, nothing to be given.
		blank := *v
		blank.ipam.Services = []ipam.Decision{{Key: svc.Key}}
		got := ""
		for _, p := range blank.considered(svc) {
			if p.text == "can serve it" {
				got = p.name
				break
			}
		}
		if got != want {
			t.Fatalf("seed %d: the story's first pool is %q, the plan's %q (%s)\npools: %+v", seed, got, want, d.Reason, s.Pools)
		}
	}
	if served < rounds/4 || served == rounds {
		t.Errorf("%d of %d Services are served: the pools are not random enough", served, rounds)
	}
}

// randomSnapshot has pools of every sort, some of them full, and a youngest
// Service without an address.
func randomSnapshot(r *rand.Rand) lb.Snapshot {
	s := lb.Snapshot{Namespaces: []lb.Namespace{{Name: "a"}, {Name: "b"}}}
	for i := range 1 + r.IntN(5) {
		first := netip.AddrFrom4([4]byte{192, 0, byte(i), 1})
		p := lb.Pool{
			Name:       fmt.Sprintf("p%d", i),
			Ranges:     []lb.Range{{From: first, To: first}},
			AutoAssign: r.IntN(4) > 0,
			Frozen:     r.IntN(8) == 0,
		}
		if r.IntN(2) == 0 {
			p.Pin = &lb.Pin{Priority: r.IntN(4)}
			if r.IntN(2) == 0 {
				p.Pin.Namespaces = []string{strings.Split("a b", " ")[r.IntN(2)]}
			}
		}
		s.Pools = append(s.Pools, p)
		if r.IntN(3) == 0 { // somebody has its only address
			s.Services = append(s.Services, lb.Service{
				Key: lb.ServiceKey{Namespace: "a", Name: fmt.Sprintf("s%d", i)}, Families: []lb.Family{lb.IPv4},
				Assigned: []netip.Addr{first}, AssignedPools: []string{p.Name},
			})
		}
	}
	s.Services = append(s.Services, lb.Service{Key: lb.ServiceKey{Namespace: "a", Name: "t"}, Families: []lb.Family{lb.IPv4}})
	return s
}
