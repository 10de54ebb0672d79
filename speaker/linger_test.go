// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/linger"
)

// TestEngineLingers: the only Pod of a Service with externalTrafficPolicy Local is replaced on another node. The address stays where
// the old Pod serves, until the rules for the new one are there; if the old one ends earlier, no longer than that.
func TestEngineLingers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]time.Duration{"to the end": time.Minute, "the old Pod ends early": linger.Delay / 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, all := startCluster(t, 3)
				defer stopAll(all)
				plan := func(candidates, draining []announce.Candidate) {
					for _, n := range all {
						var others []lb.NodeName
						for _, other := range all {
							if other != n {
								others = append(others, other.name)
							}
						}
						n.engine.setPlan(plannedGroups{peers: peers{nodes: others}, groups: []announce.Group{{
							Key: vip, Addresses: []netip.Addr{vip}, Local: true, Candidates: candidates, Draining: draining,
						}}})
					}
					settle(100 * time.Millisecond)
				}
				old := theOwner(t, all)
				next := all[0]
				if next == old {
					next = all[1]
				}
				only := func(n *testNode) []announce.Candidate { return []announce.Candidate{{Node: n.name}} }
				plan(only(old), nil)
				settle(time.Minute)
				plan(only(next), only(old))
				if end < linger.Delay {
					settle(end - 200*time.Millisecond)
					if got := theOwner(t, all); got != old {
						t.Fatalf("%s has taken over at once", got.name)
					}
					plan(only(next), nil)
				} else {
					settle(linger.Delay - 200*time.Millisecond)
					if got := theOwner(t, all); got != old {
						t.Fatalf("%s has taken over at once", got.name)
					}
					settle(200 * time.Millisecond)
				}
				if got := theOwner(t, all); got != next {
					t.Errorf("%s answers, want %s", got.name, next.name)
				}
			})
		})
	}
}

// TestRecreate: the only Pod of a Service with externalTrafficPolicy Local is told to end before there is a new one (strategy
// Recreate). kube-proxy goes on forwarding to it as long as it serves (KEP-1669), so the address stays on its node; then nobody
// answers, until the new Pod is ready.
func TestRecreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		defer w.stopAll()
		w.api.edit("services/default/web", func(o fakeObject) { o["spec"].(fakeObject)["externalTrafficPolicy"] = "Local" })
		w.advertise(true, false)
		w.startAll()
		for _, step := range []struct {
			what                 string
			node                 string
			ready, serving, ends bool
			begins, lasts        time.Duration
			want                 []lb.NodeName
		}{
			{"a Pod is ready", "n1", true, true, false, 5 * time.Second, time.Minute, []lb.NodeName{"n1"}},
			{"it ends, and serves", "n1", false, true, true, 0, 30 * time.Second, []lb.NodeName{"n1"}},
			{"it serves no longer", "n1", false, false, true, time.Second, time.Second, nil},
			{"a new one is not ready", "n2", false, false, false, 0, 10 * time.Second, nil},
			{"it is", "n2", true, true, false, time.Second, 10 * time.Second, []lb.NodeName{"n2"}},
		} {
			w.api.put("endpointslices", &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"10.1.0.1"}, NodeName: &step.node,
					Conditions: discoveryv1.EndpointConditions{Ready: &step.ready, Serving: &step.serving, Terminating: &step.ends},
				}},
			})
			time.Sleep(step.begins) // what follows holds until the next step
			for range step.lasts / (100 * time.Millisecond) {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if got := w.answering(); !slices.Equal(got, step.want) {
					t.Fatalf("%s: %v answer, want %v", step.what, got, step.want)
				}
			}
		}
	})
}

// answering lists who answers for the address of the Service.
func (w *world) answering() (nodes []lb.NodeName) {
	for _, n := range w.names {
		if node := w.alive[n]; node != nil && node.answers.answersFor(vip) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
