// SPDX-License-Identifier: Apache-2.0

package bfd

import "container/heap"

// queue has the session with the earliest time first. It is a container/heap.
type queue []*session

const unqueued = -1

func (s *session) due() instant { return min(s.txAt, s.rxAt) }

// put adds a session or moves it to its place.
func (q *queue) put(s *session) {
	if s.position == unqueued {
		heap.Push(q, s)
		return
	}
	heap.Fix(q, s.position)
}

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface. The discriminators make the order of equal times the same in every run.
func (q queue) Less(i, j int) bool {
	if a, b := q[i].due(), q[j].due(); a != b {
		return a < b
	}
	return q[i].local < q[j].local
}

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	s := x.(*session) // only put calls it
	s.position = len(*q)
	*q = append(*q, s)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	s.position = unqueued
	return s
}

// random is the splitmix64 generator: small, fast and the same in every run with the same seed.
type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
