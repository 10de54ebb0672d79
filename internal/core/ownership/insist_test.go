// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// TestInsist: n1 takes an address from n2, which lives, and every packet that tells
// n2 is lost but the last. n1 says it to n2 again, soon and not for ever, and
// until n2 hears it.
func TestInsist(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2")
	n1, n2 := settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n2.Ready(), n1)
	n1.Ready()
	begun := believes(n1)
	n1.SetGroups(groups(group("192.0.2.1", "n1"))) // n2 has not heard of this
	r := n1.Ready()
	if len(r.Start) != 1 || len(n2.Answers()) != 1 {
		t.Fatalf("n1 starts %v, n2 answers for %v; both should have the address", r.Start, n2.Answers())
	}
	const ms = time.Millisecond
	var sent []time.Duration
	for at := ms; at < 2*time.Second; at += ms {
		n1.Tick(begun.Add(at))
		r = n1.Ready()
		for _, l := range r.Send {
			if l.To != "n2" {
				continue
			}
			if sent = append(sent, at); len(sent) == 5 {
				receive(t, n2, l.Data)
			}
		}
	}
	if diff := cmp.Diff([]time.Duration{20 * ms, 60 * ms, 140 * ms, 300 * ms, 620 * ms}, sent); diff != "" {
		t.Errorf("letters to n2 (-want +got):\n%s", diff)
	}
	n2.Ready()
	if len(n2.Answers()) != 0 {
		t.Error("n2 answers still")
	}
}

// TestInsistToFormer: n2 has an address and is cut off for so short a time that
// nobody notices. Meanwhile n3 comes back from a partition with a higher claim on
// it, which it may not have any more, and n1 gets it: n3 offers it, or n1 takes it by itself.
// Not only n3 has to hear that, but n2, which knows of neither claim.
func TestInsistToFormer(t *testing.T) {
	t.Parallel()
	before, now := group("192.0.2.2", "n1", "n2", "n3"), group("192.0.2.2", "n1", "n2")
	for _, offered := range []bool{true, false} {
		n1, n2, n3 := settled("n1", now), settled("n2", now), settled("n3", before)
		n2.Ready()
		for _, m := range []*ownership.Machine{n1, n3} {
			m.Up("n2")
			receive(t, m, n2.State())
			m.Ready()
		}
		n3.Down("n2")
		n3.Ready()
		begun := believes(n1)
		n1.Up("n3")
		receive(t, n1, n3.State())
		n1.Ready()
		if offered {
			n3.Up("n1")
			receive(t, n3, n1.State())
			n3.SetGroups(groups(now))
			post(t, n3.Ready(), n1)
		}
		for at := time.Duration(0); at < time.Second; at += 10 * time.Millisecond {
			n1.Tick(begun.Add(at))
			for _, l := range n1.Ready().Send {
				if l.To == "n2" { // others are lost
					receive(t, n2, l.Data)
				}
			}
			if offered == (at < 500*time.Millisecond) && len(n1.Answers()) != 1 {
				t.Fatalf("offered: %v; n1 answers for %v after %v", offered, n1.Answers(), at)
			}
		}
		if n2.Ready(); len(n2.Answers()) != 0 {
			t.Errorf("offered: %v; n2 answers still", offered)
		}
	}
}

// TestInsistToAskedBefore: n2 leaves and offers what it has to n1, which takes it, but n2
// hears nothing of that, and offers it to n3. That one says so to n1 until n1 hears it.
func TestInsistToAskedBefore(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2", "n3")
	n1, n2, n3 := settled("n1", g), settled("n2", g), settled("n3", g)
	n2.Ready()
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	n3.Ready()
	n1.Ready()
	n2.Leave()
	var both time.Duration // n3 and n1 answer
	for at := time.Duration(0); at < time.Second; at += 5 * time.Millisecond {
		for _, m := range []*ownership.Machine{n1, n2, n3} {
			m.Tick(start.Add(at))
		}
		for _, l := range n2.Ready().Send {
			switch l.To {
			case "n3":
				receive(t, n3, l.Data)
			case "n1":
				if at == 0 { // the offer; the rest is lost
					receive(t, n1, l.Data)
				}
			}
		}
		for _, l := range n1.Ready().Send {
			if l.To == "" { // n2 is told nothing
				receive(t, n3, l.Data)
			}
		}
		for _, l := range n3.Ready().Send {
			switch l.To { // what is told to all is lost
			case "n2":
				receive(t, n2, l.Data)
			case "n1":
				receive(t, n1, l.Data)
			}
		}
		n1.Ready()
		if len(n3.Answers())+len(n1.Answers()) == 2 {
			both += 5 * time.Millisecond
		}
	}
	if len(n3.Answers()) != 1 || len(n1.Answers()) != 0 || both > 50*time.Millisecond {
		t.Errorf("n3 answers for %v, n1 for %v, both for %v", n3.Answers(), n1.Answers(), both)
	}
}

// believes lets so much time go by that a machine does not believe a claim any more
// only because it has just learned it.
func believes(m *ownership.Machine) (now time.Time) {
	for at := time.Duration(0); at <= time.Second; at += ownership.TickInterval {
		now = start.Add(at)
		m.Tick(now)
		m.Ready()
	}
	return now
}

// TestInsistQuietly: a claim that is not to be told yet is not repeated either.
func TestInsistQuietly(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.1", "n1", "n2")
	n1, n2 := slow("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n2.Ready(), n1)
	n1.Ready()
	begun := believes(n1)
	n1.SetGroups(groups(group("192.0.2.1", "n1")))
	letters := func(from, to time.Duration) (count int) {
		for at := from; at < to; at += 5 * time.Millisecond {
			n1.Tick(begun.Add(at))
			for _, l := range n1.Ready().Send {
				if l.To == "n2" {
					count++
				}
			}
		}
		return count
	}
	if n := letters(0, 100*time.Millisecond); n != 0 {
		t.Errorf("n1 told its claim %d times before it answers", n)
	}
	n1.Started(addr("192.0.2.1"))
	if n := letters(100*time.Millisecond, 145*time.Millisecond); n == 0 {
		t.Error("n1 does not insist though it answers")
	}
}
