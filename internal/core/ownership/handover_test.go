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

// pair is n1, which owns 192.0.2.2, and n2, which knows it.
func pair(t *testing.T) (n1, n2 *ownership.Machine, ip string) {
	t.Helper()
	ip = "192.0.2.2" // n1 comes first
	g := group(ip, "n1", "n2")
	n1, n2 = settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n1.Ready(), n2)
	n2.Ready()
	return n1, n2, ip
}

// post brings what a node sends to another one.
func post(t *testing.T, r ownership.Ready, to *ownership.Machine) {
	t.Helper()
	for _, letter := range r.Send {
		receive(t, to, letter.Data)
	}
}

// hushed is like starting, for addresses that are offered.
func hushed(ips ...string) []ownership.Answer {
	out := starting(ips...)
	for i := range out {
		out[i].Hushed = true
	}
	return out
}

// TestHandOver follows a node that leaves: it offers, goes on answering without announcing, and
// stops when it hears the successor's claim. Then it says that it cannot own.
func TestHandOver(t *testing.T) {
	t.Parallel()
	n1, n2, ip := pair(t)
	n1.Leave()
	offer := expect(t, "leaving", n1, ownership.Ready{Start: hushed(ip)})
	if len(offer.Send) != 1 || offer.Send[0].To != "n2" || n1.Left() {
		t.Fatalf("sends %+v, want an offer to n2; left: %v", offer.Send, n1.Left())
	}
	if want := start.Add(15 * time.Millisecond); !n1.Next().Equal(want) {
		t.Errorf("next tick is wanted at %v, want %v", n1.Next(), want)
	}
	post(t, offer, n2)
	answer := expect(t, "successor", n2, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
	post(t, offer, n2) // twice, as networks do
	if again := n2.Ready(); len(again.Send) != 1 || again.Send[0].To != "n1" {
		t.Errorf("an offer that was taken is answered with %+v, want the claim once more", again)
	}
	post(t, answer, n1)
	end := expect(t, "left", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
	if !n1.Left() || len(end.Send) != 1 || !n1.Next().IsZero() {
		t.Errorf("left: %v, sends %d messages, want its record; next tick %v", n1.Left(), len(end.Send), n1.Next())
	}
	post(t, end, n2)
	n2.Down("n1")
	expect(t, "after it is gone", n2, ownership.Ready{})
	n1.Down("n2")
	expect(t, "a node that leaves takes nothing", n1, ownership.Ready{
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n2"}},
	})
}

// TestHandOverNoCandidate gives away what the plan does not allow any more, and
// answers until then.
func TestHandOverNoCandidate(t *testing.T) {
	t.Parallel()
	n1, n2, ip := pair(t)
	n1.SetGroups(groups(group(ip, "n2")))
	offer := expect(t, "no candidate", n1, ownership.Ready{Start: hushed(ip)})
	post(t, offer, n2)
	post(t, expect(t, "successor", n2, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	}), n1)
	expect(t, "given", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})

	// A candidate again before it was taken: it stays, and is announced, for the other may have done so.
	n1, _, _ = pair(t)
	n1.SetGroups(groups(group(ip, "n2")))
	expect(t, "offered", n1, ownership.Ready{Start: hushed(ip)})
	expect(t, "nothing new", n1, ownership.Ready{})
	n1.SetGroups(groups(group(ip, "n1", "n2")))
	expect(t, "a candidate again", n1, ownership.Ready{Start: starting(ip)})
	if !n1.Next().IsZero() {
		t.Error("it is still about to give")
	}

	// No candidate is left at all: it stops at once, also if it was about to give.
	n1, _, _ = pair(t)
	n1.SetGroups(groups(group(ip, "n2")))
	n1.Ready()
	n1.SetGroups(groups(group(ip)))
	expect(t, "nobody any more", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
	n1, _, _ = pair(t)
	n1.SetGroups(groups(group(ip)))
	expect(t, "nobody", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
}

// TestHandOverEnds: it goes on with fewer interfaces while it offers, and has nobody to offer to a moment later. Ready is
// done in the order in which it is written, so it must not say both to stop and to start.
func TestHandOverEnds(t *testing.T) {
	t.Parallel()
	n1, _, ip := pair(t)
	n1.SetInterfaces([]string{"eth0", "eth1"})
	n1.Ready()
	n1.SetGroups(groups(group(ip, "n2")))
	n1.Ready()
	n1.SetInterfaces([]string{"eth1"})
	n1.Down("n2")
	expect(t, "nobody", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1"}},
	})
	if left := n1.Answers(); len(left) > 0 {
		t.Errorf("it answers: %v", left)
	}
}

// TestHandOverWithoutInterface stops at once where it cannot answer any more.
func TestHandOverWithoutInterface(t *testing.T) {
	t.Parallel()
	n1, n2, ip := pair(t)
	n1.SetInterfaces(nil)
	r := expect(t, "cable out", n1, ownership.Ready{
		Stop:   []netip.Addr{addr(ip)},
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
	post(t, r, n2) // by another interface
	expect(t, "successor", n2, ownership.Ready{
		Start:  starting(ip),
		Owners: []ownership.OwnerChange{{Key: addr(ip), Previous: "n1", Owner: "n2"}},
	})
}

// TestHandOverDeaf has a successor that does not answer: the next in order is
// asked, and in the end the owner stops without an answer.
func TestHandOverDeaf(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // the order is n1, n2, n3
	g := group(ip, "n1", "n2", "n3")
	machines := map[lb.NodeName]*ownership.Machine{"n1": settled("n1", g), "n2": settled("n2", g), "n3": settled("n3", g)}
	introduce(t, machines)
	n1 := machines["n1"]
	for _, n := range []lb.NodeName{"n2", "n3"} {
		receive(t, machines[n], n1.State())
		machines[n].Ready()
	}
	n1.Ready()
	n1.Leave()
	asked := map[lb.NodeName]int{}
	var late, next ownership.Letter
	at := start
	for n1.Ready(); !n1.Left(); {
		at = n1.Next()
		n1.Tick(at)
		for _, l := range n1.Ready().Send {
			asked[l.To]++
			switch {
			case l.To == "n2" && late.Data == nil:
				late = l
			case l.To == "n3" && next.Data == nil:
				next = l
			}
		}
	}
	if took := at.Sub(start); took < 500*time.Millisecond || took > 700*time.Millisecond {
		t.Errorf("it gives up after %v, want about 600ms", took)
	}
	if asked["n2"] < 10 || asked["n3"] < 10 || asked[""] != 2 || len(n1.Answers()) != 0 {
		t.Errorf("asked %v, want n2 and n3 in turn, and a claim and a record to all at the end; answers %v", asked, n1.Answers())
	}

	// n3 answered after all, and so did n2, later: the later named one keeps it.
	n2, n3 := machines["n2"], machines["n3"]
	receive(t, n3, next.Data)
	taken := n3.Ready()
	receive(t, n2, late.Data)
	lateTaken := n2.Ready()
	post(t, taken, n2)
	post(t, lateTaken, n3)
	n2.Ready()
	n3.Ready()
	if len(n2.Answers()) != 0 || len(n3.Answers()) != 1 {
		t.Errorf("n2 answers for %v, n3 for %v", n2.Answers(), n3.Answers())
	}
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
		receive(t, n2, b.Data)
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
		receive(t, n2, b.Data)
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
				receive(t, n1, b.Data)
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
		receive(t, n2, b.Data)
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
