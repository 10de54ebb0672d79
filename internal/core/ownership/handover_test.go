// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// TestLeave names the successor first and stops last.
func TestLeave(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1 comes first
	g := group(ip, "n1", "n2")
	n1, n2 := settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	for _, b := range n1.Ready().Send {
		receive(t, n2, b)
	}
	n2.Ready()
	n1.Leave()
	r := expect(t, "leaving", n1, ownership.Ready{
		StopLast: []netip.Addr{addr(ip)},
		Owners:   []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
	for _, b := range r.Send {
		receive(t, n2, b)
	}
	expect(t, "successor", n2, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
	n2.Down("n1")
	expect(t, "after it is gone", n2, ownership.Ready{})
	n1.Down("n2")
	expect(t, "a node that leaves takes nothing", n1, ownership.Ready{
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n2"}},
	})
}

// TestClaimGrace takes over at once from a node that dies right after its claim,
// but not from one whose claim arrives before the news that it lives again.
func TestClaimGrace(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1 comes first
	g := group(ip, "n1", "n2")
	n1, n2 := settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	for _, b := range n1.Ready().Send {
		receive(t, n2, b)
	}
	n2.Ready()
	n2.Tick(start.Add(10 * time.Millisecond))
	n2.Down("n1")
	expect(t, "dead", n2, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})

	// n1 thinks the same of n2, and has claimed more often.
	n1.Down("n2")
	n1.SetInterfaces(nil)
	n1.Ready()
	receive(t, n1, n2.State())
	n1.SetInterfaces([]string{"eth0"})
	n1.Tick(start.Add(600 * time.Millisecond))
	claim := n1.Ready().Send
	n2.Tick(start.Add(700 * time.Millisecond))
	for _, b := range claim {
		receive(t, n2, b)
	}
	expect(t, "n1 lives after all", n2, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n2", Owner: "n1"}},
	})
	if got := ticks(n2, 700*time.Millisecond, 1100*time.Millisecond); len(got) != 0 {
		t.Errorf("n2 does not wait for the news of n1: %+v", got)
	}
	if got := ticks(n2, 1200*time.Millisecond, 1200*time.Millisecond); len(got) != 1 || len(got[0].Start) != 1 {
		t.Errorf("n2 waits for ever: %+v", got)
	}
}

// TestHealed lets the winner of a partition announce again, and the loser stop,
// whichever of them hears of the other first.
func TestHealed(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1 comes first
	for _, first := range []lb.NodeName{"n1", "n2"} {
		t.Run(string(first)+" hears first", func(t *testing.T) {
			t.Parallel()
			g := group(ip, "n1", "n2")
			n1, n2 := settled("n1", g), settled("n2", g)
			n1.Ready()
			n2.Ready()
			if len(n1.Answers()) != 1 || len(n2.Answers()) != 1 {
				t.Fatal("both should answer while they do not hear each other")
			}
			n1.Up("n2")
			n2.Up("n1")
			hear := map[lb.NodeName]func(){
				"n1": func() { receive(t, n1, n2.State()) },
				"n2": func() { receive(t, n2, n1.State()) },
			}
			hear[first]()
			for name, f := range hear { // the other one
				if name != first {
					f()
				}
			}
			loser := n2.Ready()
			if !slices.Equal([]netip.Addr{addr(ip)}, loser.Stop) {
				t.Errorf("the loser stops %v", loser.Stop)
			}
			var announced []netip.Addr
			announced = append(announced, n1.Ready().Announce...)
			for _, b := range loser.Send {
				receive(t, n1, b)
			}
			announced = append(announced, n1.Ready().Announce...)
			if !slices.Contains(announced, addr(ip)) {
				t.Errorf("the winner does not announce again: %v", announced)
			}
			if len(n1.Answers()) != 1 || len(n2.Answers()) != 0 {
				t.Errorf("answers: n1 %v, n2 %v", n1.Answers(), n2.Answers())
			}
		})
	}
}

// TestFrozen stops at once when time has jumped, and asks for states.
func TestFrozen(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2"
	g := group(ip, "n1", "n2")
	n1, n2 := settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	for _, b := range n1.Ready().Send {
		receive(t, n2, b)
	}
	n2.Tick(start.Add(time.Second))
	n2.Down("n1")
	n2.Ready()
	n1.Tick(start.Add(time.Minute))
	expect(t, "woken", n1, ownership.Ready{
		Stop: []netip.Addr{addr(ip)}, Resync: true,
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
	receive(t, n1, n2.State())
	expect(t, "told", n1, ownership.Ready{Owners: []ownership.OwnerChange{{Key: addr(ip), Owner: "n2"}}})

	// Alone on the network there is nobody who could have taken over.
	alone := settled("n1", g)
	alone.Ready()
	alone.Tick(start.Add(time.Minute))
	expect(t, "woken alone", alone, ownership.Ready{})
}
