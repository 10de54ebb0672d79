// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wire is a packet as RFC 5880 section 4.1 draws it, written by hand.
func wire() []byte {
	return []byte{
		0x21, 0xd0, 3, 24, // version 1, detection expired; Up, Final; multiplier 3
		0x11, 0x22, 0x33, 0x44,
		0x55, 0x66, 0x77, 0x88,
		0x00, 0x04, 0x93, 0xe0, // 300,000
		0x00, 0x0f, 0x42, 0x40, // 1,000,000
		0x00, 0x00, 0xc3, 0x50, // 50,000
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse(wire())
	if err != nil {
		t.Fatal(err)
	}
	want := Packet{
		State: Up, Diagnostic: DetectionExpired, Final: true, Multiplier: 3,
		MyDiscriminator: 0x11223344, YourDiscriminator: 0x55667788,
		DesiredMinTx: 300_000, RequiredMinRx: 1_000_000, RequiredMinEchoRx: 50_000,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packet (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wire(), got.Append(nil)); diff != "" {
		t.Errorf("encoded again (-want +got):\n%s", diff)
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	for bit, want := range map[byte]Packet{
		0x20: {Poll: true}, 0x10: {Final: true}, 0x08: {Independent: true}, 0x02: {Demand: true}, 0: {},
	} {
		b := wire()
		b[1] = byte(Up)<<6 | bit
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		got = Packet{Poll: got.Poll, Final: got.Final, Independent: got.Independent, Demand: got.Demand, Auth: got.Auth}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("flag %#x (-want +got):\n%s", bit, diff)
		}
	}
}

// TestParseRefuses has the checks of RFC 5880 section 6.8.6 that need no session, in its order.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		want   error
	}{
		"empty":                       {func([]byte) []byte { return nil }, errTruncated},
		"one byte short":              {func(b []byte) []byte { return b[:23] }, errTruncated},
		"version 0":                   {func(b []byte) []byte { b[0] &= 0x1f; return b }, errVersion},
		"version 2":                   {func(b []byte) []byte { b[0] = 0x41; return b }, errVersion},
		"length below 24":             {func(b []byte) []byte { b[3] = 23; return b }, errShort},
		"length below 26 with auth":   {func(b []byte) []byte { b[1] |= 4; b[3] = 25; return append(b, 0, 0) }, errShort},
		"length beyond the payload":   {func(b []byte) []byte { b[3] = 25; return b }, errLong},
		"multiplier 0":                {func(b []byte) []byte { b[2] = 0; return b }, errMultiplier},
		"multipoint":                  {func(b []byte) []byte { b[1] |= 1; return b }, errMultipoint},
		"my discriminator 0":          {func(b []byte) []byte { clear(b[4:8]); return b }, errDiscriminator},
		"your discriminator 0, Up":    {func(b []byte) []byte { clear(b[8:12]); return b }, errNoSession},
		"your discriminator 0, Init":  {func(b []byte) []byte { clear(b[8:12]); b[1] = 0x80; return b }, errNoSession},
		"your discriminator 0, Down":  {func(b []byte) []byte { clear(b[8:12]); b[1] = 0x40; return b }, nil},
		"your discriminator 0, Admin": {func(b []byte) []byte { clear(b[8:12]); b[1] = 0; return b }, nil},
		"auth":                        {func(b []byte) []byte { b[1] |= 4; b[3] = 26; return append(b, 1, 2) }, nil},
		"padding behind it":           {func(b []byte) []byte { return append(b, 0, 0, 0) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse(tt.change(wire())); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wire())
	f.Add([]byte{0x20, 0x40, 3, 24})
	f.Add(append(wire(), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		// What was accepted obeys the checks, seen from the bytes, and comes back the same.
		if b[0]>>5 != 1 || b[2] == 0 || b[1]&1 != 0 || int(b[3]) > len(b) || binary.BigEndian.Uint32(b[4:]) == 0 {
			t.Errorf("accepted % x", b)
		}
		again := p.Append(nil)
		want := bytes.Clone(b[:Size])
		want[1] &^= flagAuth
		want[3] = Size
		if !bytes.Equal(again, want) {
			t.Errorf("came back as % x, was % x", again, want)
		}
		// And the machine takes it, whoever it is from.
		pair := newPair(t, Settings{}, Settings{})
		pair.up()
		in := pair.arrival(0, p)
		pair.m[1].Step(pair.now, &in)
		in.Packet.YourDiscriminator = pair.discriminator(1)
		pair.m[1].Step(pair.now, &in)
		pair.m[1].Tick(pair.now)
	})
}

//nolint:paralleltest // allocations are counted for the whole process
func TestNoAllocation(t *testing.T) {
	pair := newPair(t, Settings{}, Settings{})
	pair.up()
	var buf []byte
	step := func() {
		for i := range 2 {
			pair.now = pair.m[i].Next()
			pair.m[i].Tick(pair.now)
			for _, o := range pair.m[i].Take().Send {
				buf = o.Packet.Append(buf[:0])
				p, err := Parse(buf)
				if err != nil {
					t.Fatal(err)
				}
				in := pair.arrival(i, p)
				pair.m[1-i].Step(pair.now, &in)
				in.Source = in.Source.Next() // nobody we know
				pair.m[1-i].Step(pair.now, &in)
			}
			if len(pair.m[1-i].Take().Events) > 0 {
				t.Fatal("unexpected event")
			}
		}
	}
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkStep(b *testing.B) {
	pair := newPair(b, Settings{}, Settings{})
	pair.up()
	p := pair.last[0]
	for name, unknown := range map[string]bool{"known": false, "unknown": true} {
		b.Run(name, func(b *testing.B) {
			in := pair.arrival(0, p)
			if unknown {
				in.Source, in.Packet.YourDiscriminator = in.Source.Next(), 0
			}
			for b.Loop() {
				pair.m[1].Step(pair.now, &in)
				pair.m[1].Take()
			}
		})
	}
}
