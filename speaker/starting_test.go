// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// serving returns the nodes that get questions about the address, and answer.
func serving(nodes []*testNode) []lb.NodeName {
	var out []lb.NodeName
	for _, n := range nodes {
		n.responder.mu.Lock()
		if n.responder.serves[vip] {
			out = append(out, n.name)
		}
		n.responder.mu.Unlock()
	}
	return out
}

// leaveWatched stops a node and looks every millisecond that somebody serves the
// address. It returns how long the node took.
func leaveWatched(t *testing.T, leaver *testNode, nodes []*testNode) time.Duration {
	t.Helper()
	begin := time.Now()
	leaver.stop()
	for {
		settle(time.Millisecond)
		if len(serving(nodes)) == 0 {
			t.Fatalf("after %v nobody serves the address", time.Since(begin))
		}
		select {
		case <-leaver.done:
			return time.Since(begin)
		default:
		}
	}
}

// TestEngineClaimsWhenItServes: the successor's claim stops the old owner, so it
// waits until the successor's socket is open.
func TestEngineClaimsWhenItServes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const opening = 40 * time.Millisecond
		_, nodes := startCluster(t, 3)
		defer stopAll(nodes)
		leaver := theOwner(t, nodes)
		for _, n := range nodes {
			n.responder.opening = opening
		}
		if took := leaveWatched(t, leaver, nodes); took < opening || took > opening+10*fakeDelay {
			t.Errorf("it took %v, want a little more than %v", took, opening)
		}
	})
}

// TestEngineSuccessorWithoutSocket: a node that cannot open its socket is passed
// over, whichever it is.
func TestEngineSuccessorWithoutSocket(t *testing.T) {
	t.Parallel()
	for broken := range 2 {
		synctest.Test(t, func(t *testing.T) {
			_, nodes := startCluster(t, 3)
			defer stopAll(nodes)
			leaver := theOwner(t, nodes)
			others := slices.DeleteFunc(slices.Clone(nodes), func(n *testNode) bool { return n == leaver })
			others[broken].responder.opening = forever
			if took := leaveWatched(t, leaver, nodes); took > 150*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			settle(time.Second)
			if got := serving(nodes); len(got) != 1 || got[0] != others[1-broken].name {
				t.Errorf("served by %v, want %v", got, others[1-broken].name)
			}
			theOwner(t, nodes)
		})
	}
}
