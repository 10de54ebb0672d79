// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"sync"
)

// queueLimit bounds the messages that wait for the consumer.
const queueLimit = 4096

// queue takes events from memberlist, which must never be blocked, to a consumer
// that may be busy. Messages and states beyond the limit are dropped, and made
// good by an exchange of full states later; members' comings and goings are few
// and never dropped.
type queue struct {
	mu      sync.Mutex // guards the fields below
	events  []Event
	dropped uint64
	lossy   bool // something was dropped since the queue was last empty

	filled chan struct{}
}

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1)} }

func (q *queue) put(e Event) {
	q.mu.Lock()
	if (e.Kind == Message || e.Kind == FullState) && len(q.events) >= queueLimit {
		q.dropped++
		q.lossy = true
	} else {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// take returns all events that wait, and whether some were dropped among them.
func (q *queue) take() ([]Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, lossy := q.events, q.lossy
	q.events, q.lossy = nil, false
	return events, lossy
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// pump hands events to out until ctx ends; after a loss it asks for a resync.
func (q *queue) pump(ctx context.Context, out chan<- Event, resync func()) {
	for {
		events, lossy := q.take()
		for _, e := range events {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if lossy {
			resync()
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-q.filled:
		case <-ctx.Done():
			return
		}
	}
}
