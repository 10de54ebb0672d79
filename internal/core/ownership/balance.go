// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Holding is a group, who owns it, and who might.
type Holding struct {
	Key   netip.Addr
	Owner lb.NodeName
	// Candidates may own the group now, and none is preferred to another. The
	// owner need not be among them.
	Candidates []lb.NodeName
}

// Move is a group that should get another owner.
type Move struct {
	Key      netip.Addr
	From, To lb.NodeName
}

// Balance returns the moves, to be made one after the other, after which no node
// owns two groups more than another that could take one of them. It is a pure
// function: the same holdings give the same moves, in whatever order they come,
// and after all of them there is nothing left to move.
func Balance(holdings []Holding) []Move {
	b := newBalance(holdings)
	var out []Move
	for {
		i, to := b.next()
		if i < 0 {
			return out
		}
		h := &b.holdings[i]
		out = append(out, Move{Key: h.Key, From: h.Owner, To: to})
		b.count[h.Owner]--
		b.count[to]++
		h.Owner = to
	}
}

type balance struct {
	holdings []Holding // by key, those with an owner
	nodes    []lb.NodeName
	count    map[lb.NodeName]int
}

func newBalance(holdings []Holding) *balance {
	b := &balance{count: map[lb.NodeName]int{}}
	for _, h := range holdings {
		if h.Owner == "" {
			continue
		}
		b.holdings = append(b.holdings, h)
		b.count[h.Owner]++
		for _, n := range h.Candidates {
			b.count[n] += 0
		}
	}
	slices.SortFunc(b.holdings, func(x, y Holding) int { return x.Key.Compare(y.Key) })
	for n := range b.count { // sorted whenever it is used
		b.nodes = append(b.nodes, n)
	}
	return b
}

// next finds the first group that can go from a node that owns most to one that
// owns fewest; -1 if there is none.
func (b *balance) next() (holding int, to lb.NodeName) {
	slices.SortFunc(b.nodes, func(x, y lb.NodeName) int {
		return cmp.Or(cmp.Compare(b.count[y], b.count[x]), cmp.Compare(x, y))
	})
	for _, from := range b.nodes {
		// From the one with fewest on, the last in order first.
		for _, to := range slices.Backward(b.nodes) {
			if b.count[from]-b.count[to] < 2 {
				break
			}
			i := slices.IndexFunc(b.holdings, func(h Holding) bool {
				return h.Owner == from && slices.Contains(h.Candidates, to)
			})
			if i >= 0 {
				return i, to
			}
		}
	}
	return -1, ""
}

// Holdings lists the groups that have an owner, by key, as Balance wants them.
func (m *Machine) Holdings() []Holding {
	out := make([]Holding, 0, len(m.sorted))
	for _, g := range m.sorted {
		if g.owner == "" {
			continue
		}
		h := Holding{Key: g.Key, Owner: g.owner}
		best := 0
		for _, c := range g.Candidates {
			if !m.eligible(g, c.Node) || len(h.Candidates) > 0 && c.Score < best {
				continue
			}
			if c.Score > best {
				h.Candidates = nil
			}
			best = c.Score
			h.Candidates = append(h.Candidates, c.Node)
		}
		out = append(out, h)
	}
	return out
}

// balance starts at most one hand-over per interval in the whole cluster: only
// the node that owns most gives something away, and every node waits for an
// interval after it has seen any group change its owner. After the move the two
// nodes differ by less, so nothing comes back.
func (m *Machine) balance() {
	if m.cfg.BalanceInterval <= 0 || !m.settled || m.leaving || m.now.Before(m.balanceAt) {
		return
	}
	first := m.balanceAt.IsZero()
	m.balanceAt = m.now.Add(m.cfg.BalanceInterval)
	if first || len(m.giving) > 0 {
		return
	}
	b := newBalance(m.Holdings())
	i, to := b.next()
	if i < 0 || b.holdings[i].Owner != m.cfg.Self {
		return
	}
	key := b.holdings[i].Key
	m.groups[key].wish = to
	m.dirty[key] = true
}
