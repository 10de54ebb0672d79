// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// TestDisagreement has two nodes each of which believes that only itself is a
// candidate. They must not fight faster than once a second.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.1"
	machines := []*ownership.Machine{settled("n1", group(ip, "n1")), settled("n2", group(ip, "n2"))}
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": machines[0], "n2": machines[1]})
	starts := 0
	for at := time.Duration(0); at < 10*time.Second; at += ownership.TickInterval {
		for i, m := range machines {
			m.Tick(start.Add(at))
			r := m.Ready()
			starts += len(r.Start)
			for _, b := range r.Send {
				receive(t, machines[1-i], b.Data)
			}
		}
	}
	if starts < 2 || starts > 21 {
		t.Errorf("the address started %d times in 10 s, want a few", starts)
	}
}

// TestOneSided has two nodes that get each other's messages, but believe each
// other dead. The address must move less and less often.
func TestOneSided(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.1"
	machines := []*ownership.Machine{settled("n1", group(ip, "n1", "n2")), settled("n2", group(ip, "n1", "n2"))}
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": machines[0], "n2": machines[1]})
	machines[0].Ready()
	machines[1].Ready()
	machines[0].Down("n2")
	machines[1].Down("n1")
	var starts []time.Duration
	for at := time.Duration(0); at < time.Minute; at += ownership.TickInterval {
		for i, m := range machines {
			m.Tick(start.Add(at))
			r := m.Ready()
			if len(r.Start) > 0 {
				starts = append(starts, at)
			}
			post(t, r, machines[1-i])
		}
	}
	if len(starts) < 5 || len(starts) > 20 {
		t.Errorf("in a minute the address started %d times, want some: %v", len(starts), starts)
	}
	// They hear each other again, and it stays.
	machines[0].Up("n2")
	machines[1].Up("n1")
	moved := 0
	for at := time.Minute; at < 2*time.Minute; at += ownership.TickInterval {
		for i, m := range machines {
			m.Tick(start.Add(at))
			r := m.Ready()
			moved += len(r.Start)
			post(t, r, machines[1-i])
		}
	}
	if moved > 1 || len(machines[0].Answers())+len(machines[1].Answers()) != 1 {
		t.Errorf("it moved %d times; n1 answers for %v, n2 for %v", moved, machines[0].Answers(), machines[1].Answers())
	}
}

// TestConcedeToFormerLife: a claim that wins may be of its node's former life, and
// the one who kept it the only one that knows. Who gives way tells the node.
func TestConcedeToFormerLife(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.2", "n1", "n3")
	n1, former, n3 := settled("n1", g), settled("n3", g), settled("n3", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n3": former})
	post(t, n1.Ready(), former)
	former.Down("n1")
	former.Ready() // claims, and dies

	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n3": n3})
	n1.Ready()
	n3.Ready()
	if len(n1.Answers()) != 1 || len(n3.Answers()) != 0 {
		t.Fatalf("n1 answers for %v, n3 for %v; want n1 to", n1.Answers(), n3.Answers())
	}
	receive(t, n1, former.State())
	post(t, n1.Ready(), n3)
	n3.Ready()
	if len(n1.Answers()) != 0 || len(n3.Answers()) != 1 {
		t.Errorf("n1 answers for %v, n3, which has won, for %v", n1.Answers(), n3.Answers())
	}
}

// TestSplitGroup has two nodes take a group of two addresses at once, so that each
// wins one of them. When the one that has the key dies, the claim of the other,
// which died before and was heard of later, keeps nobody waiting.
func TestSplitGroup(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2", "n3") // n2 wins it from n3
	won := make([]ownership.Claim, 2)
	for i := byte(1); won[1].Node != "n3"; i++ { // until n3 wins the other address
		g.Addresses = []netip.Addr{g.Key, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: i})}
		n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
		n2.Ready()
		n3.Ready()
		n1.Up("n2")
		n1.Up("n3")
		receive(t, n1, n2.State())
		n1.Ready()
		n1.Tick(start.Add(10 * time.Millisecond))
		n1.Down("n3")
		n1.Tick(start.Add(20 * time.Millisecond))
		receive(t, n1, n3.State())
		n1.Ready()
		if won = n1.Claims(); won[0].Node != "n2" {
			t.Fatalf("n1 knows of %+v, want that n2 has the key", won)
		}
		n1.Tick(start.Add(30 * time.Millisecond))
		n1.Down("n2")
		expect(t, "both are dead", n1, ownership.Ready{
			Start:  starting(g.Addresses[0].String(), g.Addresses[1].String()),
			Owners: []ownership.OwnerChange{{Key: g.Key, Previous: "n2", Owner: "n1"}},
		})
	}
}
