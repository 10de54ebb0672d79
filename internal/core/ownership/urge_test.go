// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// fallen is n1, which believes that n3 answers, and n3, which gave way to a claim
// of n2, and would have n1 take the address when n2 is dead. Neither knows what
// the other one believes.
func fallen(t *testing.T) (n1, n2, n3 *ownership.Machine) {
	t.Helper()
	g := group("192.0.2.2", "n1", "n2", "n3") // in this order
	n1, n2, n3 = settled("n1", g), settled("n2", g), settled("n3", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	post(t, n1.Ready(), n2)
	receive(t, n3, n1.State())
	for _, m := range []*ownership.Machine{n2, n3} { // each takes the address, as if it were alone
		for _, name := range []lb.NodeName{"n1", "n2", "n3"} {
			m.Down(name)
		}
	}
	n2.Ready()
	n1.Down("n2")
	post(t, n3.Ready(), n1)
	n3.Up("n1")
	n1.Ready()
	receive(t, n3, n2.State()) // by way of somebody
	n3.Ready()                 // does not get to n1
	if owner, _ := n1.Owner(addr("192.0.2.2")); owner != "n3" || len(n1.Answers())+len(n3.Answers()) != 0 {
		t.Fatalf("n1 believes in %q, want n3; n1 answers for %v, n3 for %v", owner, n1.Answers(), n3.Answers())
	}
	return n1, n2, n3
}

// TestUrge: a node that is elected and does not know it is told, soon.
func TestUrge(t *testing.T) {
	t.Parallel()
	n1, _, n3 := fallen(t)
	for at := time.Duration(0); len(n1.Answers()) == 0; at += ownership.TickInterval {
		if at > time.Second {
			t.Fatal("n1 does not take over what nobody has")
		}
		n1.Tick(start.Add(at))
		n3.Tick(start.Add(at))
		post(t, n3.Ready(), n1)
		post(t, n1.Ready(), n3)
	}
	if owner, _ := n3.Owner(addr("192.0.2.2")); owner != "n1" {
		t.Errorf("n3 believes in %q, want n1", owner)
	}
}

// TestUrgeInVain: a node that hears the owner takes nothing from it, whoever
// believes the owner dead. It is asked less and less often.
func TestUrgeInVain(t *testing.T) {
	t.Parallel()
	n1, n2, n3 := fallen(t)
	n1.Up("n2")
	receive(t, n1, n2.State())
	asked := 0
	for at := time.Duration(0); at < 1900*time.Millisecond; at += 10 * time.Millisecond {
		n1.Tick(start.Add(at))
		n3.Tick(start.Add(at))
		r := n3.Ready()
		if len(r.Send) > 0 && r.Send[len(r.Send)-1].To == "n1" {
			asked++
		}
		post(t, r, n1)
		post(t, n1.Ready(), n3)
	}
	if len(n1.Answers()) != 0 {
		t.Error("n1 takes what n2 has")
	}
	if asked != 1+5 {
		t.Errorf("n3 wrote %d times to n1, want one greeting and five requests: after 0.1, 0.2, 0.4, 0.8 and 1.6 s", asked)
	}
}

// TestUrgeUnsettled: a request that comes while a node cannot follow it, because
// its clock has jumped, does not make it believe in the dead owner any longer.
func TestUrgeUnsettled(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2")
	n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
	n2.Ready()
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	expect(t, "n2 owns it", n1, ownership.Ready{Owners: []ownership.OwnerChange{{Key: g.Key, Owner: "n2"}}})
	n3.Ready()
	n1.Tick(start.Add(time.Second)) // unsettled, until 1.5 s at the latest
	n1.Down("n2")
	n1.Ready()
	n3.Down("n2")
	n3.Ready()
	n1.Tick(start.Add(1200 * time.Millisecond))
	n3.Tick(start.Add(200 * time.Millisecond))
	urge := n3.Ready()
	if len(urge.Send) == 0 || urge.Send[len(urge.Send)-1].To != "n1" {
		t.Fatalf("n3 sends %+v, want a request to n1", urge.Send)
	}
	post(t, urge, n1)
	if n1.Settled() || len(n1.Ready().Start) != 0 {
		t.Fatal("n1 follows the request although it may have missed other claims")
	}
	n1.Tick(start.Add(1500 * time.Millisecond))
	expect(t, "n1 settled", n1, ownership.Ready{
		Start:  starting("192.0.2.1"),
		Owners: []ownership.OwnerChange{{Key: g.Key, Owner: "n1"}},
		Resync: true, // it was told nothing
	})
}

// TestUrgeGrounds: n1 has lost its interface, and what it says does not get to n2,
// which would be next. n3, which hears both, tells n2 as it urges it.
func TestUrgeGrounds(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.2", "n1", "n2", "n3") // in this order
	n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
	n1.Ready()
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	n2.Ready()
	n3.Ready()
	n1.SetInterfaces(nil)
	post(t, n1.Ready(), n3)
	for at := time.Duration(0); len(n2.Answers()) == 0; at += 10 * time.Millisecond {
		if at > 150*time.Millisecond {
			t.Fatal("n2 waits for n1, which cannot own")
		}
		n2.Tick(start.Add(at))
		n3.Tick(start.Add(at))
		post(t, n3.Ready(), n2)
		n2.Ready()
	}
}

// TestUrgeSpins: whoever waits for something else does not ask for the time again
// and again.
func TestUrgeSpins(t *testing.T) {
	t.Parallel()
	m := settled("n3", group("192.0.2.2", "n1", "n2", "n3"))
	n1 := settled("n1")
	m.Up("n1")
	n1.SetGroups(nil)
	receive(t, m, n1.State())
	for at := time.Duration(0); at < 3*time.Second; at += 7 * time.Millisecond {
		now := start.Add(at)
		m.Tick(now)
		m.Ready()
		if next := m.Next(); !next.IsZero() && !next.After(now) {
			t.Fatalf("after %v it wants the time again at once", at)
		}
	}
}

// TestNobodyPassedOver: an owner that has to stop names the first of its
// successors, also long after it took the address.
func TestNobodyPassedOver(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.2", "n1", "n2", "n3") // in this order
	n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	n1.Ready()
	for at := time.Duration(0); at <= 3*time.Second; at += ownership.TickInterval {
		n1.Tick(start.Add(at))
	}
	n1.SetInterfaces(nil)
	n1.Ready()
	if owner, _ := n1.Owner(addr("192.0.2.2")); owner != "n2" {
		t.Errorf("n1 expects %q to take over, want n2", owner)
	}
}
