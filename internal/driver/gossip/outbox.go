// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"sync"
)

// outboxLimit bounds the messages that wait to be sent. What is dropped still
// goes by gossip and with the next exchange of states.
const outboxLimit = 4096

// outbox lets the consumer go on while sockets are written to.
type outbox struct {
	mu       sync.Mutex // guards messages
	messages [][]byte
	filled   chan struct{}
}

func newOutbox() *outbox { return &outbox{filled: make(chan struct{}, 1)} }

func (o *outbox) put(msg []byte) {
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
func (o *outbox) run(ctx context.Context, send func([]byte)) {
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
