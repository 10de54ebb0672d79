// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"container/heap"
	"time"
)

// at does something on a node later, unless the node is restarted before.
func (c *Cluster) at(d time.Duration, n *node, do func()) {
	life := n.life
	c.seq++
	heap.Push(&c.events, event{at: c.now.Add(d), seq: c.seq, do: func() {
		if n.life == life && n.machine != nil {
			do()
		}
	}})
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

// events is a heap by time, then age; its methods are those of heap.Interface.
type events []event

// Len implements heap.Interface.
func (e events) Len() int { return len(e) }

// Less implements heap.Interface.
func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}

// Swap implements heap.Interface.
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop implements heap.Interface.
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
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
