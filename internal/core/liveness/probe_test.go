// SPDX-License-Identifier: Apache-2.0

package liveness_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/liveness"
)

// watcher is a machine "a" that runs on time, and others that only say what they
// are told to.
type watcher struct {
	*liveness.Machine
	begun, now time.Time
	next       time.Time // when its timer fires
	count      map[lb.NodeName]uint64
	down       map[lb.NodeName]time.Duration // since begun
	sent       []liveness.Packet
}

// watch lets a node meet others, and ends with a heartbeat of each.
func watch(others ...lb.NodeName) *watcher {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &watcher{
		Machine: liveness.New(liveness.Config{Self: "a", Life: 1}), begun: now, now: now,
		count: map[lb.NodeName]uint64{}, down: map[lb.NodeName]time.Duration{},
	}
	w.Tick(now)
	for _, o := range others {
		w.Join(o, true)
	}
	for range 10 {
		w.until(w.now.Sub(w.begun)+100*time.Millisecond, nil)
		for _, o := range others {
			w.hear(o)
		}
	}
	w.begun, w.sent = w.now, nil
	return w
}

func (w *watcher) hear(from lb.NodeName) {
	w.count[from]++
	w.Receive(liveness.Packet{Kind: liveness.Alive, From: from, To: "a", Life: 1, Echo: 1, Count: w.count[from]})
}

// until lets time pass. Every 100 ms the given nodes are heard.
func (w *watcher) until(since time.Duration, heard []lb.NodeName) {
	for end := w.begun.Add(since); w.now.Before(end); {
		w.now = w.now.Add(time.Millisecond)
		speak := len(heard) > 0 && w.now.Sub(w.begun)%(100*time.Millisecond) == 0
		if !speak && w.now.Before(w.next) {
			continue
		}
		w.Advance(w.now)
		if speak {
			for _, o := range heard {
				w.hear(o)
			}
		}
		w.Tick(w.now)
		w.next = w.Next()
		w.take()
	}
}

func (w *watcher) take() {
	r := w.Ready()
	w.sent = append(w.sent, r.Send...)
	for _, n := range r.Down {
		w.down[n] = w.now.Sub(w.begun)
	}
}

// TestOverdue: a node two of whose heartbeats were lost, and that then stands
// still, was asked before that and has answered. Nobody believes it dead.
func TestOverdue(t *testing.T) {
	t.Parallel()
	w := watch("b")
	w.until(151*time.Millisecond, nil)
	if len(w.asked("b")) == 0 {
		t.Error("b, whose heartbeat is overdue, was not asked")
	} else {
		w.hear("b")
	}
	w.until(340*time.Millisecond, nil) // it does not run from 240 to 340 ms
	w.hear("b")
	w.until(440*time.Millisecond, nil)
	if at, down := w.down["b"]; down {
		t.Errorf("b was believed dead after %v", at)
	}
}

// asked lists the packets that ask a node about itself.
func (w *watcher) asked(node lb.NodeName) []liveness.Packet {
	var out []liveness.Packet
	for _, p := range w.sent {
		if p.Kind == liveness.Ask && p.To == node && p.Subject == node {
			out = append(out, p)
		}
	}
	return out
}

// TestProbesAreFew: who is on time is asked nothing, who is dead twice, and that
// makes nothing slower.
func TestProbesAreFew(t *testing.T) {
	t.Parallel()
	w := watch("b")
	w.until(2*time.Second, []lb.NodeName{"b"})
	if n := len(w.asked("b")); n > 0 {
		t.Errorf("b was asked %d times, though it was never late", n)
	}
	w.until(2300*time.Millisecond, nil)
	if n := len(w.asked("b")); n != 2 {
		t.Errorf("b was asked %d times while it was silent, want 2", n)
	}
	w.until(3*time.Second, nil)
	if at := w.down["b"]; at != 2325*time.Millisecond {
		t.Errorf("b is dead after %v, want 2.325s", at)
	}
}

// TestLateProbe: a node that was late for a probe only does not wait any longer
// for the node that it watches.
func TestLateProbe(t *testing.T) {
	t.Parallel()
	w := watch("b")
	w.until(120*time.Millisecond, nil)
	w.now = w.now.Add(60 * time.Millisecond) // a probe was due at 150 ms
	w.Tick(w.now)
	w.until(time.Second, nil)
	if at := w.down["b"]; at != 325*time.Millisecond {
		t.Errorf("b is dead after %v, want 325ms", at)
	}
}

// TestGossipIsAnOpinion: gossip declares a node dead that its watcher has not
// heard for a moment either. The node may object; if it does not, that makes two.
func TestGossipIsAnOpinion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what   string
		lost   time.Duration // since the last word of b
		speaks time.Duration // b again; 0: never
		want   time.Duration // b is dead; 0: it is not
	}{
		{"it speaks again", 260 * time.Millisecond, 320 * time.Millisecond, 0},
		{"it does not", 260 * time.Millisecond, 0, 325 * time.Millisecond},
		{"it was silent for long", 500 * time.Millisecond, 0, 500 * time.Millisecond},
		{"it has only been late", 200 * time.Millisecond, 300 * time.Millisecond, 0},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := watch("b", "c")
			heard := []lb.NodeName{"c"}
			w.until(test.lost, heard)
			w.Leave("b", false)
			w.take()
			if test.speaks > 0 {
				w.until(test.speaks, heard)
				w.hear("b")
				heard = []lb.NodeName{"b", "c"}
			}
			w.until(2*time.Second, heard)
			if at := w.down["b"]; at != test.want {
				t.Errorf("b is dead after %v, want %v (0: it is not)", at, test.want)
			}
		})
	}
}

// TestWordIsRenewed: a node lives by the word of another, which hears it seldom.
// That word is asked for again before it ends, so that the node does not count as
// dead for as long as the next one takes.
func TestWordIsRenewed(t *testing.T) {
	t.Parallel()
	w := watch("b", "c")
	const often = 200 * time.Millisecond
	var last time.Duration // that c heard b: 50 ms, 250 ms, ...
	for at := time.Millisecond; at < 5*time.Second; at += time.Millisecond {
		w.until(at, []lb.NodeName{"c"})
		if at%often == often/4 {
			last = at
		}
		for _, p := range w.sent {
			if p.Kind == liveness.Suspect && p.To == "c" {
				w.vouch("c", "b", at-last)
			}
		}
		w.sent = nil
	}
	if at, down := w.down["b"]; down {
		t.Errorf("b was believed dead after %v", at)
	}

	w.until(6*time.Second, []lb.NodeName{"c"}) // c is silent about it
	if at := w.down["b"]; at == 0 || at > 5*time.Second+250*time.Millisecond {
		t.Errorf("b is dead after %v, want 250 ms after c's last word", at)
	}
}

func (w *watcher) vouch(from, subject lb.NodeName, age time.Duration) {
	w.count[from]++
	w.Receive(liveness.Packet{
		Kind: liveness.Vouch, From: from, To: "a", Life: 1, Echo: 1, Count: w.count[from], Subject: subject, Age: age,
	})
	w.next = w.Next()
}

// TestLastWord: a node that counts as dead is up again by the word of another. It
// gets no more time than that word is worth: it may be the last one.
func TestLastWord(t *testing.T) {
	t.Parallel()
	w := watch("b", "c")
	w.until(1500*time.Millisecond, []lb.NodeName{"c"})
	if at, want := w.down["b"], 725*time.Millisecond; at < want || at > want+100*time.Millisecond {
		t.Fatalf("b is dead after %v, want %v to 100 ms more: nobody agrees or contradicts", at, want)
	}
	w.vouch("c", "b", 100*time.Millisecond)
	if up := w.Ready().Up; len(up) != 1 {
		t.Fatalf("up: %v, want b, which c hears", up)
	}
	w.until(4*time.Second, []lb.NodeName{"c"})
	if at, want := w.down["b"], 2125*time.Millisecond; at < want || at > want+100*time.Millisecond {
		t.Errorf("b is dead again after %v, want %v to 100 ms more: 725 ms after c heard it", at, want)
	}
}
