// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"testing"
	"time"
)

const ms = time.Millisecond

func fast() Settings { return Settings{Transmit: 50 * ms, Receive: 60 * ms, Multiplier: 4} }

func TestIntervals(t *testing.T) {
	t.Parallel()
	a := Settings{Transmit: 20 * ms, Receive: 500 * ms, Multiplier: 3}
	b := Settings{Transmit: 100 * ms, Receive: 50 * ms, Multiplier: 5}
	p := newPair(t, a, b)
	p.cut[0] = true
	p.run(time.Millisecond)
	if s := p.status(0); s.TransmitInterval != time.Second || p.last[0].DesiredMinTx != 1_000_000 {
		t.Errorf("before it is up, packets go every %v, %d us are offered; want 1 s", s.TransmitInterval, p.last[0].DesiredMinTx)
	}
	p.cut[0] = false
	p.up()
	for i, want := range []struct{ tx, detection time.Duration }{
		{50 * ms, 5 * 500 * ms}, // the peer wants no more than every 50 ms; it sends every 500 ms
		{500 * ms, 3 * 50 * ms},
	} {
		if s := p.status(i); s.TransmitInterval != want.tx || s.DetectionTime != want.detection {
			t.Errorf("side %d: %v, %v; want %+v", i, s.TransmitInterval, s.DetectionTime, want)
		}
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for multiplier, most := range map[uint8]time.Duration{1: 90 * ms, 2: 100 * ms, 3: 100 * ms} {
		t.Run(fmt.Sprint("multiplier ", multiplier), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, Settings{Transmit: 100 * ms, Multiplier: multiplier, Receive: 10 * ms}, Settings{Receive: 10 * ms})
			p.up()
			p.run(200 * time.Second)
			shortest, longest := time.Hour, time.Duration(0)
			for i := range len(p.log[0]) - 1 {
				gap := p.log[0][i+1].at.Sub(p.log[0][i].at)
				shortest, longest = min(shortest, gap), max(longest, gap)
			}
			if shortest < 75*ms || longest > most {
				t.Errorf("gaps are %v to %v, want %v to %v", shortest, longest, 75*ms, most)
			}
			if shortest > 76*ms || longest < most-ms {
				t.Errorf("gaps are only %v to %v, want %v to %v", shortest, longest, 75*ms, most)
			}
		})
	}
}

func TestSlowWhileNotUp(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.cut = [2]bool{true, true}
	p.run(60 * time.Second)
	for i := range p.log[0] {
		if p.log[0][i].DesiredMinTx < 1_000_000 || p.log[0][i].YourDiscriminator != 0 {
			t.Fatalf("packet %+v", p.log[0][i])
		}
		if i > 0 && p.log[0][i].at.Sub(p.log[0][i-1].at) < 750*ms {
			t.Fatalf("packets at %v and %v", p.log[0][i-1].at, p.log[0][i].at)
		}
	}
	if n := len(p.log[0]); n < 60 {
		t.Errorf("%d packets in 60 s", n)
	}
}

func TestDetection(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	heard := p.log[0]
	p.run(500 * ms)
	heard = append(heard, p.log[0]...)
	p.cut[0] = true
	last := heard[len(heard)-1].at
	p.run(last.Add(239 * ms).Sub(p.now)) // 4 x 60 ms after the last packet, less 1 ms
	if s := p.status(1); s.State != Up {
		t.Fatalf("down too early: %+v", s)
	}
	p.run(2 * ms)
	s := p.status(1)
	if s.State != Down || s.Diagnostic != DetectionExpired || s.LastError != "no BFD packet came from the router for the detection time" {
		t.Errorf("status %+v", s)
	}
	if len(p.events[1]) != 1 || p.events[1][0].Kind != Failed {
		t.Errorf("events %+v", p.events[1])
	}
	// Side 0 is told at once, without a discriminator that may be wrong by now.
	if got := p.last[1]; got.State != Down || got.Diagnostic != DetectionExpired || got.YourDiscriminator != 0 {
		t.Errorf("packet %+v", got)
	}
	if s := p.status(0); s.State != Init && s.State != Down {
		t.Errorf("side 0 is %v", s.State)
	}
	if len(p.events[0]) != 1 || p.events[0][0].String() != "router hears no BFD packets of this node" {
		t.Errorf("events of side 0: %v", p.events[0])
	}
	p.cut[0] = false
	p.up()
}

func TestStopped(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	p.now = p.now.Add(10 * time.Second)
	p.m[1].Tick(p.now) // before any packet could be read
	if s := p.status(1); s.State != Up {
		t.Errorf("down after a stop: %+v", s)
	}
	p.take()
	p.cut[0] = true
	p.now = p.now.Add(4*60*ms - ms) // once more the detection time
	p.m[1].Tick(p.now)
	if s := p.status(1); s.State != Up {
		t.Errorf("down too early: %+v", s)
	}
	p.now = p.now.Add(ms)
	p.m[1].Tick(p.now)
	if s := p.status(1); s.State != Down {
		t.Errorf("still up without packets: %+v", s)
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	p.cut[1] = true // so that no answer comes
	p.change(0, func(s *Settings) { s.Transmit, s.Receive = 200*ms, 20*ms })
	if got := p.last[0]; !got.Poll || got.DesiredMinTx != 200_000 || got.RequiredMinRx != 20_000 {
		t.Fatalf("not asked at once: %+v", got)
	}
	if s := p.status(0); s.TransmitInterval != 60*ms || s.DetectionTime != 4*60*ms {
		t.Errorf("the old intervals hold until the answer, not %v, %v", s.TransmitInterval, s.DetectionTime)
	}
	p.run(100 * ms)
	if got := p.last[0]; !got.Poll {
		t.Errorf("asks only once: %+v", got)
	}
	// A second change waits for the answer to the first.
	p.change(0, func(s *Settings) { s.Transmit = 150 * ms })
	if got := p.last[0]; got.DesiredMinTx != 200_000 {
		t.Errorf("two questions at a time: %+v", got)
	}
	p.cut[1] = false
	p.log = [2][]sentPacket{}
	p.run(300 * ms)
	if s := p.status(0); s.TransmitInterval != 150*ms || s.DetectionTime != 4*50*ms || s.State != Up || s.Downs != 0 {
		t.Errorf("after the answers: %+v", s)
	}
	var polls, finals int
	for i := range p.log {
		for _, o := range p.log[i] {
			if o.Poll && o.Final {
				t.Errorf("both bits: %+v", o)
			}
			if o.Poll && i == 0 {
				polls++
			}
			if o.Final && i == 1 {
				finals++
			}
		}
	}
	if polls == 0 || polls != finals {
		t.Errorf("%d questions, %d answers", polls, finals)
	}
	if got := p.last[0]; got.Poll || got.DesiredMinTx != 150_000 {
		t.Errorf("packet afterwards: %+v", got)
	}
}

func TestFinalUnasked(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	p.cut = [2]bool{true, true}
	before := p.status(1)
	p.say(Up, func(p *Packet) { p.Final, p.DesiredMinTx, p.RequiredMinRx, p.Multiplier = true, 50_000, 60_000, 4 })
	if b, s := p.take(), p.status(1); len(b.Send)+len(b.Events) != 0 || s.TransmitInterval != before.TransmitInterval || s.State != Up {
		t.Errorf("%+v, %+v", b, s)
	}
}

func TestPollAnswered(t *testing.T) {
	t.Parallel()
	p := newPair(t, Settings{Passive: true}, Settings{})
	p.cut = [2]bool{true, true}
	p.take()
	for _, state := range []State{Up, Down, Init, Init} { // Down, Init, Up, Up after each
		next := p.m[1].Next()
		p.say(state, func(p *Packet) { p.Poll = true })
		b := p.take()
		if len(b.Send) != 1 || !b.Send[0].Packet.Final || b.Send[0].Packet.Poll {
			t.Errorf("answer to %v: %+v", state, b.Send)
		}
		if got := b.Send[0].Packet; got.State != p.status(1).State {
			t.Errorf("answer %+v, is %v", got, p.status(1).State)
		}
		if state == Up && !p.m[1].Next().Equal(next) {
			t.Errorf("the next regular packet moved from %v to %v", next, p.m[1].Next())
		}
	}
}

func TestUpAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, Settings{Passive: true}, fast())
	p.cut = [2]bool{true, true}
	p.take()
	p.say(Init, func(p *Packet) { p.Poll, p.RequiredMinRx = true, 10_000 })
	b := p.take()
	if len(b.Send) != 1 || b.Send[0].Packet.DesiredMinTx != 50_000 {
		t.Fatalf("sent %+v", b.Send)
	}
	if wait := p.m[1].Next().Sub(p.now); wait > 50*ms {
		t.Errorf("the next one follows after %v", wait)
	}
	p.now = p.m[1].Next()
	p.m[1].Tick(p.now)
	if b := p.take(); len(b.Send) != 1 || !b.Send[0].Packet.Poll {
		t.Errorf("did not ask: %+v", b.Send)
	}
}

func TestPeerWantsNone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Packet){
		"RequiredMinRx 0": func(p *Packet) { p.RequiredMinRx = 0 },
		"demand":          func(p *Packet) { p.Demand = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, Settings{Passive: true}, Settings{Transmit: time.Second})
			p.cut = [2]bool{true, true}
			p.say(Init, change)
			p.take()
			for range 20 {
				p.say(Up, change)
				p.now = p.now.Add(250 * ms)
				p.m[1].Tick(p.now)
			}
			if b := p.take(); len(b.Send) != 0 {
				t.Errorf("%d packets", len(b.Send))
			}
			p.say(Up, nil)
			p.m[1].Tick(p.now.Add(time.Second))
			if b := p.take(); len(b.Send) != 1 {
				t.Errorf("%d packets when they are welcome again", len(b.Send))
			}
		})
	}
}

func TestClockSteps(t *testing.T) {
	t.Parallel()
	p := newPair(t, fast(), fast())
	p.up()
	for _, step := range []time.Duration{-time.Hour, -ms, -240 * time.Hour} {
		p.now = p.now.Add(step)
		p.m[0].Tick(p.now)
		p.m[1].Tick(p.now)
		p.log = [2][]sentPacket{}
		p.run(time.Second)
		if n := len(p.log[0]); n < 16 || n > 24 {
			t.Errorf("%d packets in the second after a step of %v", n, step)
		}
	}
	if len(p.events[0])+len(p.events[1]) != 0 {
		t.Errorf("events %v, %v", p.events[0], p.events[1])
	}
}
