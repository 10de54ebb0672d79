// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// MAC is an Ethernet address, usable as a map key.
type MAC [6]byte

// String returns the MAC in the usual notation.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads the usual notation.
func ParseMAC(text string) (MAC, error) {
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is no Ethernet address", text)
	}
	return MAC(hw), nil
}

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	ethLen = 14
	arpLen = 28
	ip6Len = 40

	protoICMPv6  = 58
	ndpSolicit   = 135
	ndpAdvertise = 136
	ndpFixedLen  = 24 // type, code, checksum, flags, target
	optSource    = 1
	optTarget    = 2
	flagSolicit  = 0x40
)

func broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// Answer is a frame that says at which MAC an address is.
type Answer struct {
	Addr netip.Addr
	MAC  MAC
	// Announcement means that nobody asked: a gratuitous ARP packet or an unsolicited neighbour advertisement.
	Announcement bool
}

// Decode returns what the frame says about an address, and false for every other frame.
func Decode(frame []byte) (Answer, bool) {
	if len(frame) < ethLen {
		return Answer{}, false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return decodeARP(frame[ethLen:])
	case etherIPv6:
		return decodeAdvertisement(MAC(frame[6:12]), frame[ethLen:])
	}
	return Answer{}, false
}

func decodeARP(p []byte) (Answer, bool) {
	if len(p) < arpLen || binary.BigEndian.Uint16(p) != 1 || binary.BigEndian.Uint16(p[2:]) != 0x0800 ||
		p[4] != 6 || p[5] != 4 {
		return Answer{}, false
	}
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	a := Answer{Addr: sender, MAC: MAC(p[8:14]), Announcement: sender == target}
	isReply := binary.BigEndian.Uint16(p[6:]) == arpReply
	return a, !sender.IsUnspecified() && (isReply || a.Announcement)
}

func decodeAdvertisement(from MAC, p []byte) (Answer, bool) {
	if len(p) < ip6Len+ndpFixedLen || p[6] != protoICMPv6 || p[7] != 255 || p[ip6Len] != ndpAdvertise {
		return Answer{}, false
	}
	na := p[ip6Len:]
	if n := int(binary.BigEndian.Uint16(p[4:])); n >= ndpFixedLen && n < len(na) {
		na = na[:n] // without the padding of short Ethernet frames
	}
	a := Answer{
		Addr:         netip.AddrFrom16([16]byte(na[8:24])),
		MAC:          from,
		Announcement: na[4]&flagSolicit == 0,
	}
	for opts := na[ndpFixedLen:]; len(opts) >= 8; {
		size := int(opts[1]) * 8
		if size == 0 || size > len(opts) {
			return Answer{}, false // RFC 4861, section 4.6: discard
		}
		if opts[0] == optTarget {
			a.MAC = MAC(opts[2:8])
		}
		opts = opts[size:]
	}
	return a, true
}

// Request returns the frame with which a machine asks who has an address: an ARP request, or a neighbour solicitation.
// from and fromMAC are the asker's own. The asker must use an address of the target's family.
func Request(fromMAC MAC, from, target netip.Addr) []byte {
	if target.Is4() {
		return arpFrame(fromMAC, from, target)
	}
	return solicitation(fromMAC, from, target)
}

func arpFrame(fromMAC MAC, from, target netip.Addr) []byte {
	f := ethernet(broadcast(), fromMAC, etherARP)
	f = append(f, 0, 1, 0x08, 0, 6, 4, 0, arpRequest)
	f = append(f, fromMAC[:]...)
	f = append(f, from.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, target.AsSlice()...)
}

func solicitation(fromMAC MAC, from, target netip.Addr) []byte {
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	msg := []byte{ndpSolicit, 0, 0, 0, 0, 0, 0, 0}
	msg = append(msg, t[:]...)
	msg = append(msg, optSource, 1)
	msg = append(msg, fromMAC[:]...)
	binary.BigEndian.PutUint16(msg[2:], checksum(from, group, msg))

	f := ethernet(MAC{0x33, 0x33, 0xff, t[13], t[14], t[15]}, fromMAC, etherIPv6)
	f = append(f, 0x60, 0, 0, 0, 0, byte(len(msg)), protoICMPv6, 255)
	f = append(f, from.AsSlice()...)
	f = append(f, group.AsSlice()...)
	return append(f, msg...)
}

func ethernet(to, from MAC, kind uint16) []byte {
	f := make([]byte, 0, 96)
	f = append(f, to[:]...)
	f = append(f, from[:]...)
	return binary.BigEndian.AppendUint16(f, kind)
}

// checksum is that of ICMPv6 with its pseudo-header, RFC 8200 section 8.1. msg has an even length.
func checksum(from, to netip.Addr, msg []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	add(from.AsSlice())
	add(to.AsSlice())
	add(msg)
	sum += uint32(len(msg)) + protoICMPv6
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// LinkLocal returns the IPv6 link-local address that belongs to a MAC, RFC 4291 appendix A.
func LinkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80,
		8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
