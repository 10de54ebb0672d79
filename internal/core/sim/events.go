// SPDX-License-Identifier: Apache-2.0

package sim

import "time"

// at does something on a node later, unless the node is restarted before.
func (c *Cluster) at(d time.Duration, n *node, do func()) {
	c.seq++
	c.events.push(event{at: c.now.Add(d), seq: c.seq, node: n, life: n.life, do: do})
}

type event struct {
	at   time.Time
	seq  int
	node *node
	life int
	do   func()
}

func (e *event) before(o *event) bool {
	if e.at.Equal(o.at) {
		return e.seq < o.seq
	}
	return e.at.Before(o.at)
}

// events is a heap by time, then age. It is written out because container/heap
// costs a third of the time of a run.
type events []event

func (e *events) push(x event) {
	h := append(*e, x)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = x
	*e = h
}

func (e *events) pop() event {
	h := *e
	top := h[0]
	last := h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*e = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1].before(&h[down]) {
			down++
		}
		if !h[down].before(&last) {
			break
		}
		h[i] = h[down]
		i = down
	}
	h[i] = last
	return top
}

// random is a sequence of numbers that depends on nothing but its seed
// (SplitMix64). Core packages do not import math/rand.
type random struct{ state uint64 }

// below returns a number of 0 <= number < n.
func (r *random) below(n int) int {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

func (c *Cluster) draw(s Span) time.Duration {
	return s.Min + time.Duration(c.rng.below(int(s.Max-s.Min)+1))
}
