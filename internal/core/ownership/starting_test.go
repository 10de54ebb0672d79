// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// slow is a settled machine whose answers take time to start.
func slow(self lb.NodeName, groups ...announce.Group) *ownership.Machine {
	m := ownership.New(ownership.Config{Self: self, StartLimit: ownership.StartLimit})
	m.Tick(start)
	m.SetInterfaces([]string{"eth0"})
	m.SetGroups(groups)
	m.SetPeers(nil)
	return m
}

// taken is n1, which leaves and has offered two addresses to n2, which has
// taken them and does not answer yet.
func taken(t *testing.T) (n1, n2 *ownership.Machine, a, b netip.Addr) {
	t.Helper()
	a, b = addr("192.0.2.2"), addr("192.0.2.6")
	gs := []announce.Group{group("192.0.2.2", "n1", "n2"), group("192.0.2.6", "n1", "n2")}
	n1, n2 = settled("n1", gs...), slow("n2", gs...)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n1.Ready(), n2)
	n2.Ready()
	if len(n1.Answers()) != 2 || len(n2.Answers()) != 0 {
		t.Fatalf("n1 answers for %v, n2 for %v", n1.Answers(), n2.Answers())
	}
	n1.Leave()
	post(t, n1.Ready(), n2)
	return n1, n2, a, b
}

// TestStarted: the claim that stops the old owner is sent when the new one
// answers, for each address by itself, and whatever the old owner asks meanwhile.
func TestStarted(t *testing.T) {
	t.Parallel()
	n1, n2, a, b := taken(t)
	r := n2.Ready()
	if len(r.Start) != 2 || len(r.Send) != 0 {
		t.Fatalf("it starts %v and sends %d messages, want two starts and none", r.Start, len(r.Send))
	}
	n1.Tick(start.Add(15 * time.Millisecond))
	post(t, n1.Ready(), n2) // offered again
	receive(t, n1, n2.State())
	if r := n2.Ready(); len(r.Send) != 0 {
		t.Fatalf("asked again it sends %d messages", len(r.Send))
	}
	if r := n1.Ready(); len(r.Stop) != 0 {
		t.Fatalf("n1 stops %v, which nobody answers for", r.Stop)
	}
	for _, ip := range []netip.Addr{a, b} {
		n2.Started(ip)
		r := n2.Ready()
		if len(r.Send) != 2 { // to all, and to n1
			t.Fatalf("when it answers for %v it sends %d messages, want 2", ip, len(r.Send))
		}
		post(t, r, n1)
		if r := n1.Ready(); len(r.Stop) != 1 || r.Stop[0] != ip {
			t.Fatalf("n1 stops %v, want %v", r.Stop, ip)
		}
	}
	if r := n2.Ready(); !r.Empty() {
		t.Errorf("left over: %+v", r)
	}
}

// TestStartedNever: a node whose answers do not start gives back what a living
// owner has offered, silently, and takes it when that owner is gone.
func TestStartedNever(t *testing.T) {
	t.Parallel()
	n1, n2, a, b := taken(t)
	n2.Ready()
	n2.Tick(start.Add(ownership.StartLimit - time.Millisecond))
	n2.Started(b)
	if r := n2.Ready(); len(r.Send) != 2 {
		t.Fatalf("it sends %d messages, want those on one address", len(r.Send))
	}
	if got, want := n2.Next(), start.Add(ownership.StartLimit); !got.Equal(want) {
		t.Errorf("it wants to look again at %v, want %v", got, want)
	}
	n2.Tick(start.Add(ownership.StartLimit))
	if r := n2.Ready(); len(r.Send) != 0 || len(r.Stop) != 1 || r.Stop[0] != a {
		t.Errorf("after the limit it sends %d messages and stops %v, want none and %v", len(r.Send), r.Stop, a)
	}
	for d := ownership.StartLimit; len(n1.Answers()) > 0; d += 100 * time.Millisecond { // until its time is up
		if d > time.Second {
			t.Fatal("n1 does not stop")
		}
		n1.Tick(start.Add(d))
		n2.Tick(start.Add(d))
		post(t, n1.Ready(), n2)
	}
	if r := n2.Ready(); len(r.Start) != 1 || r.Start[0].IP != a {
		t.Errorf("left alone it starts %v, want %v", r.Start, a)
	}
}

// TestStartedNeverAsked: an address that is to be moved to a node that cannot
// answer stays where it is, and is answered for all the time.
func TestStartedNeverAsked(t *testing.T) {
	t.Parallel()
	ip := addr("192.0.2.2") // n1, n2
	g := group("192.0.2.2", "n1", "n2")
	n1, n2 := settled("n1", g), slow("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n1.Ready(), n2)
	post(t, n2.Ready(), n1)
	g.Move = lb.Move{To: "n2", At: start}
	n1.SetGroups([]announce.Group{g})
	started := 0
	for d := time.Duration(0); d <= 2*time.Second; d += 5 * time.Millisecond {
		n1.Tick(start.Add(d))
		n2.Tick(start.Add(d))
		post(t, n1.Ready(), n2)
		r := n2.Ready()
		started += len(r.Start)
		post(t, r, n1)
		if len(n1.Answers()) != 1 {
			t.Fatalf("after %v n1 answers for %v", d, n1.Answers())
		}
	}
	if started == 0 {
		t.Error("n2 has not tried")
	}
	for name, m := range map[string]*ownership.Machine{"n1": n1, "n2": n2} {
		if owner, _ := m.Owner(ip); owner != "n1" {
			t.Errorf("%s says that %q owns it, want n1", name, owner)
		}
	}
	if len(n2.Answers()) != 0 {
		t.Errorf("n2 still tries to answer for %v", n2.Answers())
	}
}

// TestStartedElsewhere: a successor that does not get to answer is passed over.
func TestStartedElsewhere(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1, n2, n3
	g := group(ip, "n1", "n2", "n3")
	n1, n2, n3 := settled("n1", g), slow("n2", g), slow("n3", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2, "n3": n3})
	post(t, n1.Ready(), n2)
	post(t, n2.Ready(), n3)
	n1.Leave()
	for d := time.Duration(0); d <= 150*time.Millisecond && len(n1.Answers()) > 0; d += 5 * time.Millisecond {
		now := start.Add(d)
		for _, m := range []*ownership.Machine{n1, n2, n3} {
			m.Tick(now)
		}
		for _, letter := range n1.Ready().Send {
			receive(t, map[lb.NodeName]*ownership.Machine{"n2": n2, "n3": n3}[letter.To], letter.Data)
		}
		if r := n2.Ready(); len(r.Send) > 0 {
			t.Fatalf("after %v the broken one speaks", d)
		}
		if r := n3.Ready(); len(r.Start) > 0 {
			n3.Started(addr(ip))
			post(t, n3.Ready(), n1)
			post(t, n3.Ready(), n2)
		}
		n1.Ready()
	}
	if len(n1.Answers()) > 0 {
		t.Fatal("n1 still answers")
	}
	if owner, _ := n1.Owner(addr(ip)); owner != "n3" {
		t.Errorf("n1 gave it to %q, want n3", owner)
	}
}
