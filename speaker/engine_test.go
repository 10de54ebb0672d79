// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/driver/links"
)

var vip = netip.MustParseAddr("192.0.2.1")

// testNode is an engine with its fakes.
type testNode struct {
	name      lb.NodeName
	engine    *engine
	responder *fakeResponder
	links     *fakeLinks
	stop      context.CancelFunc
	done      chan struct{}
}

func eth(name string, up bool, addr string) links.Link {
	return links.Link{Name: name, Index: 2, MAC: l2.MAC{2, 0, 0, 0, 0, 1}, Up: up, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
}

func startNode(t *testing.T, network *fakeNetwork, name lb.NodeName, cluster []lb.NodeName) *testNode {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	n := &testNode{
		name:      name,
		responder: newFakeResponder(),
		links:     newFakeLinks(eth("eth0", true, "192.0.2.101/24"), eth("docker0", true, "172.17.0.1/16")),
		stop:      stop,
		done:      make(chan struct{}),
	}
	ex, err := loadExclusions("")
	if err != nil {
		t.Fatal(err)
	}
	n.engine = newEngine(ownership.Config{Self: name}, n.responder, network.join(name), n.links, ex, func() {}, slog.New(slog.DiscardHandler))
	go func() {
		defer close(n.done)
		if err := n.engine.run(ctx); err != nil {
			t.Error(err)
		}
	}()
	var candidates []announce.Candidate
	var others []lb.NodeName
	for _, c := range cluster {
		candidates = append(candidates, announce.Candidate{Node: c})
		if c != name {
			others = append(others, c)
		}
	}
	n.engine.setPlan(plannedGroups{
		groups: []announce.Group{{Key: vip, Addresses: []netip.Addr{vip}, Candidates: candidates}},
		peers:  peers{nodes: others},
	})
	return n
}

func startCluster(t *testing.T, size int) (*fakeNetwork, []*testNode) {
	t.Helper()
	network := &fakeNetwork{}
	var names []lb.NodeName
	for i := range size {
		names = append(names, lb.NodeName(fmt.Sprintf("node%d", i+1)))
	}
	var nodes []*testNode
	for _, name := range names {
		nodes = append(nodes, startNode(t, network, name, names))
	}
	settle(10 * time.Second)
	return network, nodes
}

func settle(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// owners returns the nodes that answer for the address.
func owners(nodes []*testNode) []lb.NodeName {
	var out []lb.NodeName
	for _, n := range nodes {
		if len(n.responder.answers(vip)) > 0 {
			out = append(out, n.name)
		}
	}
	return out
}

func theOwner(t *testing.T, nodes []*testNode) *testNode {
	t.Helper()
	names := owners(nodes)
	if len(names) != 1 {
		t.Fatalf("owners %v, want exactly one", names)
	}
	return nodes[slices.IndexFunc(nodes, func(n *testNode) bool { return n.name == names[0] })]
}

func stopAll(nodes []*testNode) {
	for _, n := range nodes {
		n.stop()
		<-n.done
	}
}

func TestEngineOneOwnerOnItsUsableInterfaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := startCluster(t, 3)
		defer stopAll(nodes)
		owner := theOwner(t, nodes)
		if diff := cmp.Diff([]string{"eth0"}, owner.responder.answers(vip)); diff != "" {
			t.Errorf("interfaces; docker0 is excluded (-want +got):\n%s", diff)
		}
	})
}

func TestEngineSuccessorAfterDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, nodes := startCluster(t, 3)
		defer stopAll(nodes)
		dead := theOwner(t, nodes)
		network.remove(dead.name, false)
		settle(fakeDetection + 10*time.Millisecond)
		var alive []*testNode
		for _, n := range nodes {
			if n != dead {
				alive = append(alive, n)
			}
		}
		theOwner(t, alive) // within 10 ms of the detection
	})
}

func TestEngineLeaveHandsOverBeforeItStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := startCluster(t, 3)
		defer stopAll(nodes)
		leaver := theOwner(t, nodes)
		before := time.Now()
		leaver.stop()
		settle(fakeDelay) // the offer is there
		if got := owners(nodes); len(got) != 2 || !slices.Contains(got, leaver.name) {
			t.Fatalf("while handing over: owners %v, want the old one and its successor", got)
		}
		<-leaver.done
		if took := time.Since(before); took > 10*fakeDelay {
			t.Errorf("it took %v to hand over, with a delay of %v", took, fakeDelay)
		}
		if next := theOwner(t, nodes); next == leaver {
			t.Error("the node that left still answers")
		}
	})
}

// TestEngineLeaveAlone ends soon though nobody takes what it has.
func TestEngineLeaveAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, nodes := startCluster(t, 2)
		leaver := theOwner(t, nodes)
		for _, n := range nodes {
			if n != leaver {
				network.remove(n.name, false)
			}
		}
		before := time.Now()
		leaver.stop()
		<-leaver.done
		if took := time.Since(before); took > time.Second {
			t.Errorf("it ended after %v", took)
		}
		if got := leaver.responder.answers(vip); got != nil {
			t.Errorf("it still answers, on %v", got)
		}
		stopAll(nodes)
	})
}

func TestEngineInterfaceDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := startCluster(t, 3)
		defer stopAll(nodes)
		before := theOwner(t, nodes)
		before.links.set(eth("eth0", false, "192.0.2.101/24"))
		settle(time.Second)
		after := theOwner(t, nodes)
		if after == before {
			t.Fatalf("%s answers without a usable interface", after.name)
		}
		before.links.set(eth("eth0", true, "192.0.2.101/24"))
		settle(10 * time.Second)
		if theOwner(t, nodes) != after {
			t.Error("the address moved back when the interface came up again")
		}
	})
}

func TestEngineJoinMovesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, nodes := startCluster(t, 2)
		before := theOwner(t, nodes)
		all := []lb.NodeName{"node1", "node2", "node3", "node4", "node5", "node6"}
		for _, name := range all[2:] {
			nodes = append(nodes, startNode(t, network, name, all))
		}
		defer func() { stopAll(nodes) }()
		settle(10 * time.Second)
		if after := theOwner(t, nodes); after != before {
			t.Errorf("the address moved from %s to %s when nodes joined", before.name, after.name)
		}
	})
}

func TestEngineQueryAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := startCluster(t, 1)
		ran := false
		if !nodes[0].engine.query(func(*ownership.Machine) { ran = true }) || !ran {
			t.Error("query did not run")
		}
		stopAll(nodes)
		if nodes[0].engine.query(func(*ownership.Machine) { t.Error("ran after the end") }) {
			t.Error("query claims to have run without an engine")
		}
	})
}

func TestEngineAnnouncesAgain(t *testing.T) {
	t.Parallel()
	r := newFakeResponder()
	e := newEngine(ownership.Config{Self: "node1"}, r, (&fakeNetwork{}).join("node1"), newFakeLinks(), nil, func() {}, slog.New(slog.DiscardHandler))
	other := netip.MustParseAddr("192.0.2.2")
	e.answer(nil, []ownership.Answer{{IP: vip, Interfaces: []string{"eth0"}}, {IP: other, Interfaces: []string{"eth0"}}})
	e.announceAgain([]netip.Addr{vip, netip.MustParseAddr("192.0.2.9")}) // .9 was given away meanwhile
	if diff := cmp.Diff([]int{2, 2}, r.history); diff != "" {
		t.Errorf("it must answer all the time (-want +got):\n%s", diff)
	}
	want := []l2.Address{{IP: vip, Interfaces: []string{"eth0"}, Round: 1}, {IP: other, Interfaces: []string{"eth0"}}}
	if diff := cmp.Diff(want, r.wanted.Addresses, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"eth0"}, r.answers(vip)); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	e.answer(nil, []ownership.Answer{{IP: vip, Interfaces: []string{"eth0"}, Hushed: true}})
	want[0].Hushed = true
	if diff := cmp.Diff(want, r.wanted.Addresses, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("while it is offered to another node (-want +got):\n%s", diff)
	}
}
