// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/wire"
)

// What is heard decides whether an address still waits, whether to ask again, and what counts as a move.
func TestAnswersHear(t *testing.T) {
	t.Parallel()
	x, old, other := netip.MustParseAddr("10.0.0.1"), wire.MAC{1}, wire.MAC{2}
	a := &Answers{targets: []netip.Addr{x}, state: map[netip.Addr]*answered{x: {pending: true}}}
	now := time.Unix(1000, 0)
	hear := func(mac wire.MAC, announcement bool) (ask, pending bool) {
		now = now.Add(time.Second)
		ask = a.hear(wire.Answer{Addr: x, MAC: mac, Announcement: announcement}, now)
		return ask, a.state[x].pending
	}
	for _, step := range []struct {
		name         string
		except       bool
		mac          wire.MAC
		announcement bool
		ask, pending bool
		moves        int
	}{
		{"an announcement is asked about", false, old, true, true, true, 0},
		{"an answer ends the waiting", false, old, false, false, false, 0},
		{"its announcement is no news", false, old, true, false, false, 0},
		{"the old one does not count any more", true, old, false, false, true, 0},
		{"nor does its announcement", false, old, true, false, true, 0},
		{"the new one announces", false, other, true, true, true, 0},
		{"the new one answers", false, other, false, false, false, 1},
		{"the old one comes back", false, old, false, false, false, 2},
	} {
		if step.except {
			a.Except(old)
		}
		ask, pending := hear(step.mac, step.announcement)
		if ask != step.ask || pending != step.pending || a.Moves() != step.moves {
			t.Errorf("%s: ask %v, pending %v, %d moves; want %v, %v, %d", step.name, ask, pending, a.Moves(), step.ask, step.pending, step.moves)
		}
	}
	if a.hear(wire.Answer{Addr: x.Next(), MAC: old, Announcement: true}, now) {
		t.Error("asks for an address that is not its own")
	}
	if diff := cmp.Diff(map[wire.MAC]int{old: 1}, a.By()); diff != "" {
		t.Errorf("who answers (-want +got):\n%s", diff)
	}
}

func TestAnswersSome(t *testing.T) {
	t.Parallel()
	targets := Sequence(netip.MustParseAddr("10.0.0.254"), 4)
	a := &Answers{targets: targets, state: map[netip.Addr]*answered{}}
	for i, target := range targets {
		a.state[target] = &answered{pending: i%2 == 0}
	}
	got, next := a.some(3, 3, true)
	if diff := cmp.Diff([]string{"10.0.0.254"}, texts(got)); diff != "" || next != 2 {
		t.Errorf("next %d, want 2; pending (-want +got):\n%s", next, diff)
	}
	got, _ = a.some(0, 4, false)
	if diff := cmp.Diff([]string{"10.0.0.255", "10.0.1.1"}, texts(got)); diff != "" {
		t.Errorf("answered (-want +got):\n%s", diff)
	}
}

func texts(addrs []netip.Addr) (out []string) {
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func TestPerTick(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 1, 25: 1, 26: 2, 1000: 40} {
		if got := perTick(n, askPeriod); got != want {
			t.Errorf("of %d every tick %d, want %d", n, got, want)
		}
	}
}
