// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// samples returns one packet of each form that is sent or received.
func samples() []Packet {
	m := owning(DefaultConfig())
	out := m.Tick(start, nil)
	out = append(out, m.Tick(start.Add(m.cfg.Check), nil)...)
	for _, in := range []Packet{
		arpRequest(ip4), solicitation(ip6),
		with(solicitation(ip6), func(p *Packet) { p.SenderIP, p.SenderMAC = netip.IPv6Unspecified(), MAC{} }),
	} {
		answer, _ := m.Step(start, in)
		out = append(out, in, answer)
	}
	for i := range out {
		out[i].Interface = 0 // not on the wire
	}
	return out
}

func TestFrameRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range samples() {
		frame := AppendFrame(nil, &want)
		if len(frame) > MaxFrame {
			t.Errorf("frame of %d bytes", len(frame))
		}
		padded := append(frame, make([]byte, 20)...) // short frames are padded on Ethernet
		got, err := ParseFrame(padded)
		if err != nil {
			t.Errorf("%+v: %v", want, err)
		}
		if diff := cmp.Diff(want, got, cmpAddr()); diff != "" {
			t.Errorf("round trip (-want +got):\n%s", diff)
		}
	}
}

// TestFrameBytes compares with frames written down by hand from the RFCs.
func TestFrameBytes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		packet Packet
		want   string
	}{
		{"arp request", arpRequest(ip4), `
			ffffffffffff 02000000000c 0806
			0001 0800 06 04 0001 02000000000c c00002c8 000000000000 c0000201`},
		{"solicitation", solicitation(ip6), `
			3333ff020003 02000000000c 86dd
			60000000 0020 3a ff fe80000000000000000000000000000c ff0200000000000000000001ff020003
			87 00 4b42 00000000 20010db8000000000000000100020003 01 01 02000000000c`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := strings.Join(strings.Fields(tt.want), "")
			if diff := cmp.Diff(want, hex.EncodeToString(AppendFrame(nil, &tt.packet))); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseFrameRejects(t *testing.T) {
	t.Parallel()
	arp, ndp := arpRequest(ip4), solicitation(ip6)
	dad := with(ndp, func(p *Packet) { p.SenderIP = netip.IPv6Unspecified() }) // with the option, against the rule
	edit := func(p Packet, offset int, values ...byte) []byte {
		b := AppendFrame(nil, &p)
		copy(b[offset:], values)
		return b
	}
	fixed := func(b []byte) []byte { // with a correct checksum
		b[56], b[57] = 0, 0
		sum := checksum(b[22:54], b[54:])
		b[56], b[57] = byte(sum>>8), byte(sum)
		return b
	}
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, errShort},
		{"no payload", edit(arp, 0)[:14], errShort},
		{"cut arp", edit(arp, 0)[:41], errShort},
		{"other protocol", edit(arp, 12, 0x08, 0x00), errProtocol},
		{"arp for tokens", edit(arp, 14, 0, 6), errProtocol},
		{"arp with long addresses", edit(arp, 18, 8), errProtocol},
		{"reverse arp", edit(arp, 21, 3), errProtocol},
		{"arp from a group", edit(arp, 22, 1), errInvalid},
		{"cut ipv6 header", edit(ndp, 0)[:53], errShort},
		{"cut ipv6 payload", edit(ndp, 0)[:85], errShort},
		{"version 4", edit(ndp, 14, 0x40), errProtocol},
		{"udp", edit(ndp, 20, 17), errProtocol},
		{"through a router", edit(ndp, 21, 254), errInvalid},
		{"from a group", edit(ndp, 22, 0xff), errInvalid},
		{"echo request", fixed(edit(ndp, 54, 128)), errProtocol},
		{"code", fixed(edit(ndp, 55, 1)), errInvalid},
		{"checksum", edit(ndp, 56, 0, 0), errChecksum},
		{"target is a group", fixed(edit(ndp, 62, 0xff)), errInvalid},
		{"option without length", fixed(edit(ndp, 79, 0)), errInvalid},
		{"option too long", fixed(edit(ndp, 79, 2)), errShort},
		{"option with a group", fixed(edit(ndp, 80, 3)), errInvalid},
		{"icmp too short", edit(ndp, 18, 0, 20), errShort},
		{"duplicate detection with source option", edit(dad, 0), errInvalid},
		{"duplicate detection outside the group", fixed(edit(with(dad, func(p *Packet) { p.SenderMAC, p.DestIP = MAC{}, allNodes }), 0)), errInvalid},
		{"solicited to all", edit(with(ndp, func(p *Packet) { p.Kind, p.Solicited, p.DestIP = Advertisement, true, allNodes }), 0), errInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if p, err := ParseFrame(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v, want %v", p, err, tt.want)
			}
		})
	}
}

// FuzzParseFrame: no frame makes the decoder or the machine panic, what is understood survives a round trip, and an
// answer is always a valid packet to the asker from our MAC.
func FuzzParseFrame(f *testing.F) {
	for _, p := range samples() {
		f.Add(AppendFrame(nil, &p))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := ParseFrame(frame)
		if err != nil {
			return
		}
		again, err := ParseFrame(AppendFrame(nil, &p))
		if err != nil || again != p {
			t.Fatalf("round trip of %+v: %+v, %v", p, again, err)
		}
		p.Interface = eth0.Index
		probing := probed(prober(), ip4, ip6)
		if answer, ok := probing.Step(start, p); ok {
			t.Fatalf("answer while probing: %+v", answer)
		}
		m := owning(DefaultConfig())
		answer, ok := m.Step(start, p)
		if !ok {
			return
		}
		got, err := ParseFrame(AppendFrame(nil, &answer))
		if err != nil || got.Src != ourMAC || got.SenderMAC != ourMAC || got.SenderIP != p.TargetIP {
			t.Fatalf("answer to %+v: %+v, %v", p, got, err)
		}
	})
}
