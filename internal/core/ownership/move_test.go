// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// wish is the group with the wish to have it moved.
func wish(g announce.Group, to lb.NodeName, age time.Duration) []announce.Group {
	g.Move = lb.Move{To: to, At: start.Add(-age)}
	return groups(g)
}

// offered returns whom a node offers something.
func offered(r ownership.Ready) (to []lb.NodeName) {
	for _, l := range r.Send {
		if l.To != "" {
			to = append(to, l.To)
		}
	}
	return to
}

func TestWish(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1 comes first
	both, one := group(ip, "n1", "n2"), group(ip, "n1")
	for _, tt := range []struct {
		name   string
		groups []announce.Group
		want   []lb.NodeName
	}{
		{"new", wish(both, "n2", time.Second), []lb.NodeName{"n2"}},
		{"from a clock that is ahead", wish(both, "n2", -time.Second), []lb.NodeName{"n2"}},
		{"old", wish(both, "n2", 2*time.Minute), nil},
		{"no candidate", wish(one, "n2", time.Second), nil},
		{"to the owner", wish(both, "n1", time.Second), nil},
		{"to nobody", wish(both, "n9", time.Second), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n1, _, _ := pair(t)
			n1.SetGroups(tt.groups)
			r := n1.Ready()
			if diff := gocmp.Diff(tt.want, offered(r)); diff != "" {
				t.Errorf("offered to (-want +got):\n%s", diff)
			}
			if len(r.Stop) != 0 || len(n1.Answers()) != 1 {
				t.Errorf("it stops %v", r.Stop)
			}
		})
	}
}

// TestWishOnce grants a wish once, and no more when another node has it.
func TestWishOnce(t *testing.T) {
	t.Parallel()
	n1, n2, ip := pair(t)
	g := wish(group(ip, "n1", "n2"), "n2", time.Second)
	for _, m := range []*ownership.Machine{n1, n2} {
		m.SetGroups(g)
	}
	n2.Ready()
	post(t, n1.Ready(), n2)
	post(t, n2.Ready(), n1)
	post(t, n1.Ready(), n2)
	if len(n1.Answers()) != 0 || len(n2.Answers()) != 1 {
		t.Fatalf("n1 answers for %v, n2 for %v", n1.Answers(), n2.Answers())
	}
	// n1 takes it over; the annotation is still there, and is seen again.
	n1.Down("n2")
	n1.Ready()
	n1.SetGroups(g)
	if r := n1.Ready(); len(n1.Answers()) != 1 || len(offered(r)) != 0 {
		t.Errorf("offered to %v again", offered(r))
	}
	// The target died before it could answer: the owner keeps the address.
	n1.Up("n2")
	receive(t, n1, n2.State())
	n1.Ready()
	n1.SetGroups(wish(group(ip, "n1", "n2"), "n2", 0))
	if got := offered(n1.Ready()); len(got) == 0 {
		t.Error("a new wish is not heard")
	}
	for at := time.Duration(0); at < 2*time.Second; at += 50 * time.Millisecond {
		n1.Tick(start.Add(at))
		n1.Ready()
	}
	if len(n1.Answers()) != 1 || !n1.Next().IsZero() {
		t.Errorf("it answers for %v, and has something to do at %v", n1.Answers(), n1.Next())
	}
}

// TestBalance checks the moves of random holdings one by one.
func TestBalance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var holdings []ownership.Holding
		for i := range rng.IntN(30) {
			h := ownership.Holding{Key: addr(fmt.Sprintf("192.0.2.%d", i))}
			for n := range 5 {
				if name := lb.NodeName(fmt.Sprint("n", n)); rng.IntN(4) > 0 {
					h.Candidates = append(h.Candidates, name)
				}
			}
			if len(h.Candidates) > 0 {
				h.Owner = h.Candidates[rng.IntN(1+rng.IntN(len(h.Candidates)))]
			}
			holdings = append(holdings, h)
		}
		moves := ownership.Balance(holdings)
		shuffled := slices.Clone(holdings)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := gocmp.Diff(moves, ownership.Balance(shuffled), readyCmp); diff != "" {
			t.Fatalf("seed %d: the moves depend on the order (-want +got):\n%s", seed, diff)
		}
		count := map[lb.NodeName]int{}
		for _, h := range holdings {
			count[h.Owner]++
		}
		for _, m := range moves {
			i := slices.IndexFunc(holdings, func(h ownership.Holding) bool { return h.Key == m.Key })
			h := &holdings[i]
			if h.Owner != m.From || !slices.Contains(h.Candidates, m.To) || count[m.From]-count[m.To] < 2 {
				t.Fatalf("seed %d: %+v of %+v, with %v", seed, m, h, count)
			}
			count[m.From]--
			count[m.To]++
			h.Owner = m.To
		}
		for _, h := range holdings {
			for _, c := range h.Candidates {
				if h.Owner != "" && count[h.Owner]-count[c] > 1 {
					t.Errorf("seed %d: %v could go from %s to %s: %v", seed, h.Key, h.Owner, c, count)
				}
			}
		}
		if again := ownership.Balance(holdings); len(again) != 0 {
			t.Errorf("seed %d: there is more to do afterwards: %v", seed, again)
		}
	}
}

// TestHoldings lists the candidates that are alive and preferred.
func TestHoldings(t *testing.T) {
	t.Parallel()
	g := group("192.0.2.2", "n1", "n2", "n3", "n4")
	g.Candidates[1].Score, g.Candidates[2].Score, g.Candidates[3].Score = 5, 5, 9
	machines := map[lb.NodeName]*ownership.Machine{"n1": settled("n1", g), "n2": settled("n2"), "n3": settled("n3")}
	machines["n1"].Ready() // n1 takes it while it is alone
	introduce(t, machines)
	machines["n1"].Ready()
	want := []ownership.Holding{{Key: g.Key, Owner: "n1", Candidates: []lb.NodeName{"n2", "n3"}}}
	if diff := gocmp.Diff(want, machines["n1"].Holdings(), readyCmp); diff != "" {
		t.Errorf("holdings (-want +got):\n%s", diff)
	}
}

// TestYield: an owner that cannot answer asks another node to take over, if there
// is one, and keeps the address until that does.
func TestYield(t *testing.T) {
	t.Parallel()
	n1, _, text := pair(t)
	ip := netip.MustParseAddr(text)
	n1.Yield(ip, netip.MustParseAddr("192.0.2.99"))
	r := n1.Ready()
	if diff := gocmp.Diff([]lb.NodeName{"n2"}, offered(r)); diff != "" {
		t.Errorf("offered to (-want +got):\n%s", diff)
	}
	if len(r.Stop) != 0 || len(n1.Answers()) != 1 {
		t.Errorf("it stops %v", r.Stop)
	}

	n1, n2, _ := pair(t)
	n2.Yield(ip) // it is not the owner
	if got := offered(n2.Ready()); len(got) != 0 {
		t.Errorf("another node offers it to %v", got)
	}
	n1.SetGroups(groups(group(text, "n1")))
	n1.Ready()
	n1.Yield(ip)
	if r := n1.Ready(); len(offered(r)) != 0 || len(n1.Answers()) != 1 {
		t.Errorf("the only candidate offers it to %v, and answers for %v", offered(r), n1.Answers())
	}
}
