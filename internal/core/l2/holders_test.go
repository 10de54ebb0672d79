// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// holder is a stranger who has an address now and then, and answers all questions for it.
type holder struct {
	has   bool
	until time.Time
}

// TestHolders plays random histories: strangers get and lose addresses, links change, addresses are given and taken. What
// a stranger has when it is probed is neither announced nor answered for until he gives it up, and then it is, in time.
func TestHolders(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		h := newHistory(t, seed, rng)
		for range 4000 {
			h.step()
		}
	}
}

type history struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	m       *Machine
	now     time.Time
	cfg     Config
	wanted  Wanted
	holders map[netip.Addr]*holder
	free    map[netip.Addr]time.Time // since when nobody has it and the link is as it is
}

const heldAddresses = 8

func newHistory(t *testing.T, seed uint64, rng *rand.Rand) *history {
	cfg := prober()
	cfg.Recheck, cfg.ProbeAgain, cfg.Defend = time.Second, 4*time.Second, 10*time.Second
	h := &history{
		t: t, seed: seed, rng: rng, cfg: cfg, m: New(cfg), now: start,
		holders: map[netip.Addr]*holder{}, free: map[netip.Addr]time.Time{},
	}
	h.wanted.Links = []Link{eth0}
	for i := range heldAddresses {
		ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		h.wanted.Addresses = append(h.wanted.Addresses, fresh(ip))
		h.holders[ip] = &holder{has: rng.IntN(2) == 0, until: start}
		h.free[ip] = start
	}
	h.m.Set(start, h.wanted)
	return h
}

// step is ten milliseconds.
func (h *history) step() {
	h.now = h.now.Add(10 * ms)
	for _, a := range h.wanted.Addresses {
		if who := h.holders[a.IP]; !h.now.Before(who.until) {
			// He comes only to what is not announced; what happens else is the matter of conflicts.
			who.has = !who.has && h.phase(a.IP) != PhaseAnnouncing
			who.until = h.now.Add(time.Duration(h.rng.IntN(12_000)) * ms)
			h.free[a.IP] = h.now
			if who.has { // and says so, because we may have asked for the last time already
				h.m.Step(h.now, with(arpRequest(a.IP), func(p *Packet) { p.Src, p.SenderMAC, p.SenderIP = otherMAC, otherMAC, a.IP }))
			}
		}
	}
	if h.rng.IntN(300) == 0 {
		h.change()
	}
	for next := h.m.Next(); !next.IsZero() && !next.After(h.now); next = h.m.Next() {
		for _, p := range h.m.Tick(h.now, nil) {
			h.sent(&p)
		}
	}
	for _, a := range h.wanted.Addresses {
		h.check(a.IP)
	}
}

// change makes the link go down and up, or an address be taken away and given again.
func (h *history) change() {
	w := h.wanted
	if h.rng.IntN(2) == 0 {
		w.Links = nil
		for ip := range h.free {
			h.free[ip] = h.now
		}
	} else {
		gone := h.rng.IntN(heldAddresses)
		w.Addresses = append(append([]Address(nil), w.Addresses[:gone]...), w.Addresses[gone+1:]...)
		h.free[h.wanted.Addresses[gone].IP] = h.now
	}
	h.m.Set(h.now, w)
	h.m.Set(h.now, h.wanted)
}

// sent lets the stranger answer.
func (h *history) sent(p *Packet) {
	if !h.holders[p.TargetIP].has {
		return
	}
	if p.gratuitous() {
		h.t.Fatalf("seed %d: announced %v, which somebody else has, after %v", h.seed, p.TargetIP, h.now.Sub(start))
	}
	h.m.Step(h.now, Packet{
		Kind: ARPReply, Interface: p.Interface, Src: otherMAC, Dst: p.SenderMAC, SenderMAC: otherMAC, SenderIP: p.TargetIP,
		TargetMAC: p.SenderMAC, TargetIP: p.SenderIP,
	})
}

func (h *history) check(ip netip.Addr) {
	_, answered := h.m.Step(h.now, arpRequest(ip))
	if answered && h.holders[ip].has {
		h.t.Fatalf("seed %d: answers for %v, which somebody else has, after %v", h.seed, ip, h.now.Sub(start))
	}
	if patience := h.cfg.ProbeAgain + h.cfg.Probe + 50*ms; !answered && !h.holders[ip].has && h.now.Sub(h.free[ip]) > patience {
		h.t.Fatalf("seed %d: does not answer for %v, which is free since %v, after %v", h.seed, ip, h.now.Sub(h.free[ip]), h.now.Sub(start))
	}
}

func (h *history) phase(ip netip.Addr) Phase {
	for _, a := range h.m.State().Addresses {
		if a.IP == ip {
			return a.Phase
		}
	}
	return PhaseIdle
}
