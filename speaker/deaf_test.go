// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestYielder: an address is given away when it was deaf for a while, then ever
// more rarely.
func TestYielder(t *testing.T) {
	t.Parallel()
	bad := l2.State{
		Addresses: []l2.AddressState{{IP: vip, Phase: l2.PhaseAnnouncing, Interfaces: []string{"eth0"}}},
		Errors:    []l2.InterfaceError{{Interface: "eth0", NoIPv4: true}},
	}
	gone := l2.State{}
	start := time.Unix(1000, 0)
	var y yielder
	var given []int
	for s := range 230 {
		state := &bad
		if s >= 1 && s < 5 || s >= 100 && s < 150 { // an error of a moment; then another node has it for a while
			state = &gone
		}
		away, again := y.step(state, start.Add(time.Duration(s)*time.Second))
		if len(away) > 0 {
			given = append(given, s)
		}
		if state == &bad && again == 0 {
			t.Errorf("after %d s nobody looks again", s)
		}
	}
	if diff := cmp.Diff([]int{7, 11, 19, 35, 67, 214}, given); diff != "" {
		t.Errorf("seconds (-want +got):\n%s", diff)
	}
	if y.step(&gone, start.Add(time.Hour)); len(y.deaf) != 0 {
		t.Errorf("still remembered: %v", y.deaf)
	}
}

// TestDeafOwner: the owner can open no socket. Another node gets the address; when
// none can open one, the Service says so.
func TestDeafOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		defer w.stopAll()
		w.advertise(true, false)
		w.startAll()
		w.settle("start", worldLimit)
		var owners []lb.NodeName
		for range w.names {
			w.settle("owner", time.Minute)
			owners = append(owners, w.named())
			w.alive[w.named()].answers.setDeaf(true)
		}
		slices.Sort(owners)
		if diff := cmp.Diff(w.names, owners); diff != "" {
			t.Errorf("owners, one after the other (-want +got):\n%s", diff)
		}
		for range 100 {
			time.Sleep(time.Second)
			if got := w.condition(); strings.HasPrefix(got, `False InterfaceError node "`) && strings.HasSuffix(got, `should answer for 192.0.2.1, and cannot: eth0: ARP: not permitted`) {
				w.alive["n2"].answers.setDeaf(false)
				w.settle("one of them works again", deafMax+time.Minute)
				if w.named() != "n2" {
					t.Errorf("the condition names %q", w.named())
				}
				return
			}
		}
		t.Errorf("condition %q\n%s", w.condition(), w.lastWrites())
	})
}

// setDeaf makes the sockets of an announcer fail, or work again.
func (a *announcer) setDeaf(deaf bool) {
	a.mu.Lock()
	a.deaf = deaf
	a.mu.Unlock()
	a.signal()
}

// Set fails once more when it is to answer and cannot.
func (a *announcer) Set(w l2.Wanted) {
	a.fakeResponder.Set(w)
	a.mu.Lock()
	failed := a.deaf && len(w.Addresses) > 0
	a.mu.Unlock()
	if failed {
		a.signal()
	}
}

func (a *announcer) signal() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}
