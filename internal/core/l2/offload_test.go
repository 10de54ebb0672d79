// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// fakeOffload knows what it was told, and fails the test when it is told nonsense.
type fakeOffload struct {
	t        *testing.T
	answers  map[Reach]bool
	answered map[Reach]uint64
}

func newFakeOffload(t *testing.T) *fakeOffload {
	t.Helper()
	return &fakeOffload{t, map[Reach]bool{}, map[Reach]uint64{}}
}

func (f *fakeOffload) Put(r Reach, answer bool) {
	if was, known := f.answers[r]; known && was == answer {
		f.t.Errorf("told twice of %v", r)
	}
	f.answers[r] = answer
}

func (f *fakeOffload) Drop(r Reach) uint64 {
	if _, known := f.answers[r]; !known {
		f.t.Errorf("%v is dropped, and was never put", r)
	}
	n := f.answered[r]
	delete(f.answers, r)
	delete(f.answered, r)
	return n
}

func (f *fakeOffload) Answered(r Reach) uint64 { return f.answered[r] }

// TestOffload: whatever happens to addresses and links, an offload answers what Step would.
func TestOffload(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFakeOffload(t)
		cfg := DefaultConfig()
		cfg.Offload = f
		m, now := New(cfg), start
		for range 60 {
			now = now.Add(time.Duration(r.IntN(900)) * time.Millisecond)
			switch r.IntN(4) {
			case 0:
				m.Set(now, randomWanted(r))
			case 1:
				m.Tick(now, nil)
			case 2: // somebody has it, which counts while it is probed
				claim := arpRequest(randomIP(r))
				claim.Kind, claim.SenderIP, claim.SenderMAC = ARPReply, claim.TargetIP, otherMAC
				m.Step(now, claim)
			case 3:
				m.Reannounce(now, eth0.Index)
			}
			agree(t, now, m, f)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func randomIP(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(3))})
}

func randomWanted(r *rand.Rand) Wanted {
	links := []Link{eth0, eth1}
	for i := range links {
		links[i].Up = r.IntN(5) > 0
		if r.IntN(5) == 0 {
			links[i].MAC[5] ^= 0x10
		}
	}
	w := Wanted{Links: links}
	for i := range byte(3) {
		if r.IntN(4) == 0 {
			continue
		}
		a := on(netip.AddrFrom4([4]byte{192, 0, 2, 1 + i}), [][]string{{"eth0"}, {"eth1"}, {"eth0", "eth1"}}[r.IntN(3)]...)
		a.Probe = r.IntN(2) == 0
		w.Addresses = append(w.Addresses, a)
	}
	return w
}

// agree asks the machine for all addresses on all links, and compares with what the offload was told.
func agree(t *testing.T, now time.Time, m *Machine, f *fakeOffload) {
	t.Helper()
	if len(f.answers) != len(m.targets) {
		t.Errorf("the offload knows of %d addresses on links, the machine of %d", len(f.answers), len(m.targets))
	}
	for _, reach := range m.Reaches() {
		q := arpRequest(reach.IP)
		q.Interface = reach.Link.Index
		reply, answered := m.Step(now, q)
		if answer, known := f.answers[reach]; !known || answer != answered {
			t.Errorf("%v on %s: the offload answers: %v (knows it: %v), Step: %v", reach.IP, reach.Link.Name, answer, known, answered)
		}
		if answered && reply.SenderMAC != reach.Link.MAC {
			t.Errorf("Step answers with %v, the offload with %v", reply.SenderMAC, reach.Link.MAC)
		}
	}
}

// TestOffloadCounts: what an offload has answered is in State, and stays there when the link changes.
func TestOffloadCounts(t *testing.T) {
	t.Parallel()
	f := newFakeOffload(t)
	cfg := Config{Offload: f}
	m := New(cfg)
	set := func(link Link) { m.Set(start, Wanted{Links: []Link{link}, Addresses: []Address{on(ip4, "eth0")}}) }
	count := func() uint64 {
		a := m.State().Addresses[0]
		if a.RequestsReceived != a.ResponsesSent {
			t.Errorf("%d questions, %d answers", a.RequestsReceived, a.ResponsesSent)
		}
		return a.ResponsesSent
	}
	set(eth0)
	m.Step(start, arpRequest(ip4))
	f.answered[m.Reaches()[0]] = 3
	if n := count(); n != 4 {
		t.Errorf("%d answers are counted, want 4", n)
	}
	changed := eth0
	changed.MAC = secondMAC
	set(changed)
	f.answered[m.Reaches()[0]] = 10
	if n := count(); n != 14 {
		t.Errorf("after a change of the MAC %d answers are counted, want 14", n)
	}
}
