// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// TestReportsApart: the cable of a speaker is out for a while, and it believes what
// it can: that the others are dead, and that nobody announces. When it is back, the
// API server is there before the others are heard, and the events of some objects
// come later still. What the others do and say must not suffer.
func TestReportsApart(t *testing.T) {
	t.Parallel()
	for _, apart := range []lb.NodeName{"n1", "n2", "n3"} {
		for _, l2 := range []bool{true, false} {
			for _, how := range []apartness{{l2: l2}, {l2: l2, stale: true}, {l2: l2, linked: true}} {
				t.Run(fmt.Sprintf("%s %+v", apart, how), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { reportsApart(t, apart, how) })
				})
			}
		}
	}
}

type apartness struct {
	l2     bool // else BGP
	stale  bool // what happened meanwhile comes late
	linked bool // the cable is out at the far end of a switch
}

func reportsApart(t *testing.T, apart lb.NodeName, how apartness) {
	w := newWorld(t, 1, "n1", "n2", "n3")
	defer w.stopAll()
	w.advertise(how.l2, !how.l2)
	if how.stale {
		w.setEndpoints()
	}
	w.startAll()
	w.settle("start", worldLimit)

	late := time.Duration(0)
	if how.stale {
		late = 30 * time.Second
	}
	said := 0
	w.setSession(apart, false)
	w.apart(apart, !how.linked, func() {
		w.setEndpoints(w.names...)
		w.partial = true // nobody has deleted what it said of itself
		time.Sleep(20 * time.Second)
		w.settle("apart", worldLimit)
		said = len(w.written())
	}, time.Second, late)
	w.setSession(apart, true)
	for range 40 * 20 {
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := w.condition(); !strings.HasPrefix(got, "True Announcing") {
			t.Errorf("the condition became %q, though the others announce", got)
			break
		}
	}
	for _, text := range w.written()[said:] {
		if words := strings.Fields(text); words[1] == string(apart) && words[2] == "DELETE" && strings.HasSuffix(words[3], "/") {
			t.Errorf("it took the others for dead: %s", text)
		}
	}
	w.partial = false
	w.settle("together", worldLimit)
	w.quiet()
}

// TestReportsAlone: a speaker that hears nobody, and reaches the API server, is not
// silent for ever: the others are dead, and it cleans up after them.
func TestReportsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		defer w.stopAll()
		w.advertise(true, true)
		w.startAll()
		w.settle("start", worldLimit)
		w.kill("n2")
		w.settle("alone", worldLimit)
		w.setEndpoints()
		w.settle("no endpoints", worldLimit)
	})
}

// apart takes the cable out of a node while something happens; unplugged: its
// interface shows it. After that, how long does it take to hear the others, and
// until the events of endpoints go on?
func (w *world) apart(name lb.NodeName, unplugged bool, meanwhile func(), meeting, late time.Duration) {
	n := w.alive[name]
	w.network.part(name)
	n.client.part()
	if unplugged {
		w.setLink(name, false)
	}
	meanwhile()
	if unplugged {
		w.setLink(name, true)
	}
	w.network.rejoin(name, meeting)
	n.client.rejoin(late)
}

func (w *world) written() []string {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	return slices.Clone(w.api.writes)
}
