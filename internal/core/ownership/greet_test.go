// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// TestGreetSilent: a node of which others have told, and from which nothing comes, is told again and again what this one
// claims. When at last they hear each other, one of them learns at once that it has lost an address.
func TestGreetSilent(t *testing.T) {
	t.Parallel()
	const ip = "192.0.2.2"
	g := group(ip, "n1", "n2")
	n1, n2 := settled("n1", g), settled("n2", g)
	for _, m := range []*ownership.Machine{n1, n2} {
		if m.Ready(); len(m.Answers()) != 1 {
			t.Fatal("each believes that it is alone, and should have the address")
		}
	}
	n1.Up("n2")
	n2.Up("n1")
	greetings := func(from *ownership.Machine, to lb.NodeName, begin, end time.Duration) (n int, last ownership.Ready) {
		for at := begin; at <= end; at += 10 * time.Millisecond {
			from.Tick(start.Add(at))
			r := from.Ready()
			for _, l := range r.Send {
				if l.To == to {
					n, last = n+1, r
					break
				}
			}
		}
		return n, last
	}
	// At once, after 0.25 s, and then twice a second.
	n, last := greetings(n1, "n2", 0, 2*time.Second)
	if n != 5 {
		t.Errorf("%d greetings in two seconds, want 5", n)
	}
	n2.Tick(start.Add(2 * time.Second))
	post(t, last, n2)
	answer := n2.Ready()
	post(t, answer, n1)
	n1.Ready()
	if one, two := len(n1.Answers()), len(n2.Answers()); one+two != 1 {
		t.Errorf("n1 answers for %d addresses, n2 for %d, after a single greeting has come through", one, two)
	}
	greetings(n1, "n2", 2*time.Second, 3*time.Second) // what it insists on is said within a second
	if n, _ := greetings(n1, "n2", 3*time.Second, 9*time.Second); n > 0 {
		t.Errorf("%d more greetings to a node that is heard", n)
	}
	alone := settled("n1", g)
	alone.Ready()
	alone.Up("n2")
	if n, _ := greetings(alone, "n2", 0, time.Minute); n < 20 || n > 22 {
		t.Errorf("%d greetings in a minute, want those of 10 seconds", n)
	}
}

// TestCorrect: n1 and n2 start at once, take the same address, and have not met. n3,
// which knows both, tells the one that has lost.
func TestCorrect(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2") // n2 wins
	n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
	for _, m := range []*ownership.Machine{n1, n2} {
		m.Up("n3")
		n3.Up(map[*ownership.Machine]lb.NodeName{n1: "n1", n2: "n2"}[m])
	}
	post(t, n2.Ready(), n3)
	n3.Ready()
	post(t, n1.Ready(), n3)
	for _, l := range n3.Ready().Send {
		switch l.To {
		case "n1":
			receive(t, n1, l.Data)
		case "n2":
			t.Error("n3 corrects n2, too, which has won")
		}
	}
	n1.Ready()
	if len(n1.Answers()) != 0 || len(n2.Answers()) != 1 {
		t.Errorf("n1 answers for %v, n2 for %v, want only n2", n1.Answers(), n2.Answers())
	}
}
