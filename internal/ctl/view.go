// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// View is a cluster with what the planners make of it.
type View struct {
	cluster  *Cluster
	snap     lb.Snapshot
	problems []snapshot.Problem
	ipam     ipam.Result
	announce announce.Result
	routed   map[lb.ServiceKey][]routing
}

// Look runs the planners. The cluster must not change afterwards.
func Look(c *Cluster) *View {
	v := &View{cluster: c}
	v.snap, v.problems = snapshot.Build(c.objects(), c.options())
	v.ipam = ipam.Plan(v.snap)
	v.announce = announce.Plan(&v.snap, "")
	v.routed = c.routings()
	return v
}

// service finds a Service that is Herald's to serve.
func (v *View) service(key lb.ServiceKey) (*lb.Service, bool) {
	i := slices.IndexFunc(v.snap.Services, func(s lb.Service) bool { return s.Key == key })
	if i < 0 {
		return nil, false
	}
	return &v.snap.Services[i], true
}

// decision finds what a plan says about a Service.
func decision(plan *ipam.Result, key lb.ServiceKey) (*ipam.Decision, bool) {
	i, ok := slices.BinarySearchFunc(plan.Services, key, func(d ipam.Decision, k lb.ServiceKey) int { return d.Key.Compare(k) })
	if !ok {
		return nil, false
	}
	return &plan.Services[i], true
}

// poolOf names the pool that the i-th address of a Service is from: what the
// controller wrote down, or if that says too little, the pool that has the
// address. Empty: unknown.
func (v *View) poolOf(svc *lb.Service, i int) string {
	if len(svc.AssignedPools) == 1 {
		return svc.AssignedPools[0]
	}
	if len(svc.AssignedPools) == len(svc.Assigned) {
		return svc.AssignedPools[i]
	}
	for p := range v.snap.Pools {
		if v.snap.Pools[p].Contains(svc.Assigned[i]) {
			return v.snap.Pools[p].Name
		}
	}
	return ""
}

// poolNames lists the pools in words for an error.
func (v *View) poolNames() string {
	if len(v.snap.Pools) == 0 {
		return "there is none at all"
	}
	if len(v.snap.Pools) == 1 {
		return "the only pool is " + v.snap.Pools[0].Name
	}
	names := make([]string, len(v.snap.Pools))
	for i := range v.snap.Pools {
		names[i] = v.snap.Pools[i].Name
	}
	return fmt.Sprintf("the pools are %s", enumerate(names, 10))
}

// enumerate writes "a, b and c", or "a, b and 3 more".
func enumerate[T any](items []T, most int) string {
	texts := make([]string, 0, len(items))
	for _, x := range items {
		texts = append(texts, fmt.Sprint(x))
	}
	if len(texts) > most {
		texts = append(texts[:most-1:most-1], fmt.Sprintf("%d more", len(items)-most+1))
	}
	if len(texts) < 2 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:len(texts)-1], ", ") + " and " + texts[len(texts)-1]
}

// plural is "1 thing" or "n things".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// orDash keeps empty cells of a table visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
