// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"sync"

	"github.com/heraldlb/herald/internal/core/lb"
)

// outboxLimit bounds the messages that wait to be sent. What is dropped still
// goes by gossip and with the next exchange of states.
const outboxLimit = 4096

// parcel is a message to one member, or to all.
type parcel struct {
	to      lb.NodeName // empty: all
	content []byte
}

// outbox lets the consumer go on while sockets are written to.
type outbox struct {
	mu       sync.Mutex // guards messages
	messages []parcel
	filled   chan struct{}
}

func newOutbox() *outbox { return &outbox{filled: make(chan struct{}, 1)} }

func (o *outbox) put(msg parcel) {
	o.mu.Lock()
	if len(o.messages) < outboxLimit {
		o.messages = append(o.messages, msg)
	}
	o.mu.Unlock()
	select {
	case o.filled <- struct{}{}:
	default:
	}
}

// run sends until ctx ends, and then what is left.
func (o *outbox) run(ctx context.Context, send func(parcel)) {
	for done := false; ; {
		o.mu.Lock()
		messages := o.messages
		o.messages = nil
		o.mu.Unlock()
		for _, m := range messages {
			send(m)
		}
		if done {
			return
		}
		select {
		case <-o.filled:
		case <-ctx.Done():
			done = true
		}
	}
}
