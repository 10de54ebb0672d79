// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// group is one address that the nodes may own. Of n1, n2 and n3 the hash order
// of 192.0.2.1 is n2, n3, n1, and that of 192.0.2.2 is n1, n2, n3.
func group(ip string, nodes ...lb.NodeName) announce.Group {
	g := announce.Group{Key: addr(ip), Addresses: []netip.Addr{addr(ip)}}
	for _, n := range nodes {
		g.Candidates = append(g.Candidates, announce.Candidate{Node: n})
	}
	return g
}

func groups(g ...announce.Group) []announce.Group { return g }

// settled makes a machine that is ready and has nobody to wait for.
func settled(self lb.NodeName, groups ...announce.Group) *ownership.Machine {
	m := ownership.New(ownership.Config{Self: self})
	m.Tick(start)
	m.SetInterfaces([]string{"eth0"})
	m.SetGroups(groups)
	m.SetPeers(nil)
	return m
}

// introduce lets machines meet: each hears of the others and gets their states.
func introduce(t *testing.T, machines map[lb.NodeName]*ownership.Machine) {
	t.Helper()
	for a, ma := range machines {
		for b, mb := range machines {
			if a != b {
				ma.Up(b)
				receive(t, ma, mb.State())
			}
		}
	}
}

func receive(t *testing.T, m *ownership.Machine, data []byte) {
	t.Helper()
	if err := m.Receive(data); err != nil {
		t.Fatal(err)
	}
}

var readyCmp = gocmp.Options{
	cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty(),
	cmpopts.IgnoreFields(ownership.Ready{}, "Send", "StateChanged"),
	cmpopts.IgnoreFields(ownership.Answer{}, "Probe"), // see TestProbe
}

func expect(t *testing.T, what string, m *ownership.Machine, want ownership.Ready) ownership.Ready {
	t.Helper()
	got := m.Ready()
	if diff := gocmp.Diff(want, got, readyCmp); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	return got
}

func starting(ips ...string) []ownership.Answer {
	var out []ownership.Answer
	for _, ip := range ips {
		out = append(out, ownership.Answer{IP: addr(ip), Interfaces: []string{"eth0"}})
	}
	return out
}

// TestBatch follows one address through its life on one node.
func TestBatch(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.1"
	m := settled("n1", group(ip, "n1", "n2"))
	r := expect(t, "alone", m, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Owner: "n1"}},
	})
	if len(r.Send) != 2 || !r.StateChanged {
		t.Errorf("alone: sends %d messages, want its record and its claim; state changed: %v", len(r.Send), r.StateChanged)
	}
	if r := m.Ready(); !r.Empty() {
		t.Errorf("again: %+v, want nothing", r)
	}

	m.SetInterfaces([]string{"eth1", "eth0"})
	expect(t, "second interface", m, ownership.Ready{
		Start: []ownership.Answer{{IP: addr(ip), Interfaces: []string{"eth0", "eth1"}}},
	})
	m.SetInterfaces(nil)
	expect(t, "no interface", m, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
	m.SetInterfaces([]string{"eth0"})
	expect(t, "interface again", m, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Owner: "n1"}},
	})
	m.SetGroups(nil)
	expect(t, "Service gone", m, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
	if a := m.Answers(); len(a) != 0 {
		t.Errorf("still answers for %v", a)
	}
}

// TestPreference lets the score come before the hash.
func TestPreference(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2", "n3") // by hash: n2
	g.Candidates[2].Score = 10
	m := settled("n1", g)
	m.SetPeers([]lb.NodeName{"n2", "n3"})
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": m, "n2": settled("n2"), "n3": settled("n3")})
	m.Ready()
	if owner, _ := m.Owner(addr("192.0.2.1")); owner != "n3" {
		t.Errorf("owner is %q, want n3", owner)
	}
}

// TestInterfaces answers only on interfaces that the advertisement names, and
// says why a node cannot.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	ip := addr("192.0.2.1")
	g := group("192.0.2.1", "n1")
	g.Candidates[0].Interfaces = []string{"eth1", "eth2"}
	m := settled("n1", g)
	expect(t, "eth0 only", m, ownership.Ready{})
	want := reason.Reason{Code: reason.NoCandidate, Text: `nobody answers for 192.0.2.1 yet; node "n1" has none of the interfaces eth1, eth2 up`}
	if diff := gocmp.Diff(want, m.Verdict(ip)); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	why := reason.Reason{Code: reason.NodeNoInterface, Text: `node "n1" has none of the interfaces eth1, eth2 up`}
	if diff := gocmp.Diff(why, m.Why(ip, "n1")); diff != "" {
		t.Errorf("why n1 does not answer (-want +got):\n%s", diff)
	}
	m.SetInterfaces([]string{"eth0", "eth2"})
	expect(t, "eth0 and eth2", m, ownership.Ready{
		Start:  []ownership.Answer{{IP: ip, Interfaces: []string{"eth2"}}},
		Owners: []ownership.OwnerChange{{Key: ip, Owner: "n1"}},
	})
}

// TestInterfacesPerAddress: addresses of one group may be limited to different
// interfaces. A node owns both or none, and answers for each only where it may.
func TestInterfacesPerAddress(t *testing.T) {
	t.Parallel()
	four, six := addr("192.0.2.1"), addr("2001:db8::1")
	g := group("192.0.2.1", "n1")
	g.Addresses = []netip.Addr{four, six}
	g.Covers = [][]announce.Candidate{{{Node: "n1", Interfaces: []string{"eth7"}}}, {{Node: "n1"}}}
	m := settled("n1", g)
	expect(t, "eth0 only", m, ownership.Ready{})
	want := reason.Reason{
		Code: reason.NoCandidate,
		Text: `nobody answers for 192.0.2.1, 2001:db8::1 yet; node "n1" has none of the interfaces eth7 up, where 192.0.2.1 may be answered`,
	}
	if diff := gocmp.Diff(want, m.Verdict(four)); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	m.SetInterfaces([]string{"eth0", "eth7"})
	expect(t, "eth0 and eth7", m, ownership.Ready{
		Start:  []ownership.Answer{{IP: four, Interfaces: []string{"eth7"}}, {IP: six, Interfaces: []string{"eth0", "eth7"}}},
		Owners: []ownership.OwnerChange{{Key: four, Owner: "n1"}},
	})
}

// TestColdStart waits for a dead peer, and deals the addresses out by hash all
// the same: the time to claim starts only with being able to.
func TestColdStart(t *testing.T) {
	t.Parallel()
	groups := []announce.Group{group("192.0.2.1", "n1", "n2", "n3"), group("192.0.2.2", "n1", "n2", "n3")}
	machines := map[lb.NodeName]*ownership.Machine{}
	for _, self := range []lb.NodeName{"n1", "n2"} {
		m := ownership.New(ownership.Config{Self: self})
		m.Tick(start)
		m.SetInterfaces([]string{"eth0"})
		m.SetGroups(groups)
		m.SetPeers([]lb.NodeName{"n1", "n2", "n3"})
		machines[self] = m
	}
	introduce(t, machines)
	for _, m := range machines {
		if r := m.Ready(); len(r.Start) != 0 {
			t.Errorf("starts before it could hear n3: %+v", r)
		}
		m.Tick(start.Add(2900 * time.Millisecond))
		if len(m.Answers()) != 0 || m.Settled() {
			t.Errorf("answers before the join timeout")
		}
		// No gap between ticks is longer than allowed; this one ends the wait.
		m.Tick(start.Add(3 * time.Second))
		m.Ready()
	}
	for self, want := range map[lb.NodeName][]ownership.Answer{"n1": starting("192.0.2.2"), "n2": starting("192.0.2.1")} {
		if diff := gocmp.Diff(want, machines[self].Answers(), readyCmp); diff != "" {
			t.Errorf("%s answers (-want +got):\n%s", self, diff)
		}
	}
}

// ticks lets time pass in steps, and gathers what happens.
func ticks(m *ownership.Machine, from, to time.Duration) (out []ownership.Ready) {
	for at := from; at <= to; at += ownership.TickInterval {
		m.Tick(start.Add(at))
		if r := m.Ready(); !r.Empty() {
			out = append(out, r)
		}
	}
	return out
}

// TestPassedOver takes an address that the elected node does not claim: it may
// not know of the Service.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	n1, n2 := settled("n1"), settled("n2")
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	n1.Ready()
	n1.SetGroups([]announce.Group{group("192.0.2.1", "n1", "n2")}) // n2 comes first
	if r := n1.Ready(); len(r.Start) != 0 {
		t.Fatalf("n1 takes what is n2's: %+v", r)
	}
	for _, r := range ticks(n1, 0, 1900*time.Millisecond) {
		if len(r.Start) != 0 {
			t.Fatalf("n1 does not wait: %+v", r)
		}
	}
	got := ticks(n1, 2*time.Second, 2*time.Second)
	if len(got) != 1 || len(got[0].Start) != 1 {
		t.Fatalf("after the claim timeout: %+v, want a start", got)
	}
	// n2 learns of the Service at last, after the claim: nothing moves.
	for _, b := range got[0].Send {
		receive(t, n2, b.Data)
	}
	n2.SetGroups([]announce.Group{group("192.0.2.1", "n1", "n2")})
	if r := n2.Ready(); len(r.Start) != 0 {
		t.Errorf("n2 takes it: %+v", r)
	}
}

// TestFormerLife has a node whose clock went back: the others remember a newer
// record of it, and would not believe it.
func TestFormerLife(t *testing.T) {
	t.Parallel()
	n2 := settled("n2")
	former := settled("n1")
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": former, "n2": n2})

	m := ownership.New(ownership.Config{Self: "n1"})
	m.Tick(start.Add(-time.Hour))
	m.SetPeers([]lb.NodeName{"n2"})
	m.Ready()
	receive(t, n2, m.State())
	g := group("192.0.2.1", "n1", "n2")
	n2.SetGroups([]announce.Group{g})
	if why := n2.Why(g.Key, "n1"); why.Code != reason.NodeNotElected {
		t.Fatalf("n2 should still believe the former life; it says %v", why)
	}
	receive(t, m, n2.State()) // which shows the old record
	for _, b := range m.Ready().Send {
		receive(t, n2, b.Data)
	}
	want := reason.Reason{Code: reason.NodeNotAlive, Text: `the speaker on node "n1" is not ready yet`}
	if diff := gocmp.Diff(want, n2.Why(g.Key, "n1")); diff != "" {
		t.Errorf("why (-want +got):\n%s", diff)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	var nodes []lb.NodeName
	for i := range 7 {
		nodes = append(nodes, lb.NodeName(fmt.Sprint("n", i)))
	}
	g := group("192.0.2.1", nodes...)
	m := settled("other", g)
	m.Ready()
	got := m.Verdict(g.Key)
	if got.Code != reason.NoSpeaker || !strings.HasSuffix(got.Text, "; and 2 more nodes") || !strings.Contains(got.Text, `no speaker on node "n0" is heard`) {
		t.Errorf("verdict: %v", got)
	}
	own := settled("n0", g)
	own.Ready()
	want := reason.Reason{Code: reason.Announcing, Text: `node "n0" answers for 192.0.2.1`}
	if diff := gocmp.Diff(want, own.Verdict(g.Key)); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	if why := own.Why(g.Key, "stranger"); why.Code != "" {
		t.Errorf("a stranger has a part: %v", why)
	}
}

// TestFirstLive agrees on all nodes and changes with the subject.
func TestFirstLive(t *testing.T) {
	t.Parallel()
	machines := map[lb.NodeName]*ownership.Machine{"n1": settled("n1"), "n2": settled("n2"), "n3": settled("n3")}
	introduce(t, machines)
	var all []lb.NodeName
	for i := range 20 {
		subject := fmt.Sprint("shop/web-", i)
		first := machines["n1"].FirstLive(subject)
		for self, m := range machines {
			if got := m.FirstLive(subject); got != first {
				t.Errorf("%s: %s says %s, n1 says %s", subject, self, got, first)
			}
		}
		all = append(all, first)
	}
	slices.SortFunc(all, cmp.Compare)
	if all = slices.Compact(all); len(all) != 3 {
		t.Errorf("of three nodes only %v are ever first", all)
	}
}
