// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"encoding/binary"
	"net/netip"
)

const (
	protocolICMPv6 = 58

	icmpSolicitation  = 135
	icmpAdvertisement = 136

	optionSourceMAC = 1
	optionTargetMAC = 2

	flagSolicited = 1 << 6
	flagOverride  = 1 << 5
)

// SolicitedNode returns the group in which questions for an IPv6 address are asked (RFC 4291 section 2.7.1).
func SolicitedNode(ip netip.Addr) netip.Addr {
	a := ip.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// groupMAC returns the Ethernet address of an IPv6 group (RFC 2464 section 7).
func groupMAC(group netip.Addr) MAC {
	a := group.As16()
	return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// linkLocal returns the link-local address that is made from a MAC (RFC 2464 section 5).
func linkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: m[0] ^ 0x02, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5],
	})
}

// parseIPv6 checks the IPv6 header. Extension headers are not followed: RFC 6980 forbids fragments, and nothing else
// has a reason to stand before a solicitation.
func (p *Packet) parseIPv6(b []byte) error {
	if len(b) < ip6Len {
		return errShort
	}
	if b[0]>>4 != 6 || b[6] != protocolICMPv6 {
		return errProtocol
	}
	if b[7] != hopLimit {
		return errInvalid
	}
	payload := b[ip6Len:]
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size > len(payload) {
		return errShort
	}
	payload = payload[:size] // short frames are padded
	p.SenderIP = netip.AddrFrom16([16]byte(b[8:24]))
	p.DestIP = netip.AddrFrom16([16]byte(b[24:40]))
	if p.SenderIP.IsMulticast() {
		return errInvalid
	}
	if len(payload) >= ndpLen && checksum(b[8:40], payload) != 0 {
		return errChecksum
	}
	return p.parseNDP(payload)
}

func (p *Packet) parseNDP(b []byte) error {
	if len(b) < ndpLen {
		return errShort
	}
	if b[1] != 0 { // code
		return errInvalid
	}
	p.TargetIP = netip.AddrFrom16([16]byte(b[8:24]))
	if p.TargetIP.IsMulticast() || p.TargetIP.Is4In6() {
		return errInvalid
	}
	switch b[0] {
	case icmpSolicitation:
		p.Kind = Solicitation
		if err := p.parseOptions(b[ndpLen:], optionSourceMAC); err != nil {
			return err
		}
		// A question of duplicate address detection goes to the group and carries no address of the asker.
		if p.SenderIP.IsUnspecified() && (p.DestIP != SolicitedNode(p.TargetIP) || p.SenderMAC != MAC{}) {
			return errInvalid
		}
	case icmpAdvertisement:
		p.Kind = Advertisement
		p.Solicited, p.Override = b[4]&flagSolicited != 0, b[4]&flagOverride != 0
		if p.DestIP.IsMulticast() && p.Solicited {
			return errInvalid
		}
		return p.parseOptions(b[ndpLen:], optionTargetMAC)
	default:
		return errProtocol
	}
	return nil
}

// parseOptions finds the link-layer address among the options and steps over the others.
func (p *Packet) parseOptions(b []byte, wanted byte) error {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 {
			return errInvalid
		}
		size := int(b[1]) * 8
		if size > len(b) {
			return errShort
		}
		if b[0] == wanted && size == optionLen {
			p.SenderMAC = MAC(b[2:8])
			if !p.SenderMAC.IsUnicast() {
				return errInvalid
			}
		}
		b = b[size:]
	}
	return nil
}

func (p *Packet) appendIPv6(b []byte) []byte {
	src, dst, target := p.SenderIP.As16(), p.DestIP.As16(), p.TargetIP.As16()
	size := ndpLen
	if p.SenderMAC != (MAC{}) {
		size += optionLen
	}
	b = append(b, 6<<4, 0, 0, 0, 0, byte(size), protocolICMPv6, hopLimit)
	addresses := len(b)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)

	start := len(b)
	kind, option, flags := byte(icmpSolicitation), byte(optionSourceMAC), byte(0)
	if p.Kind == Advertisement {
		kind, option = icmpAdvertisement, optionTargetMAC
		if p.Solicited {
			flags |= flagSolicited
		}
		if p.Override {
			flags |= flagOverride
		}
	}
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	if size > ndpLen {
		b = append(b, option, 1)
		b = append(b, p.SenderMAC[:]...)
	}
	binary.BigEndian.PutUint16(b[start+2:], checksum(b[addresses:start], b[start:]))
	return b
}

// checksum returns the ICMPv6 checksum (RFC 4443 section 2.3) of a payload between two addresses; over a payload that
// carries its checksum already, 0 means correct.
func checksum(addresses, payload []byte) uint16 {
	sum := uint32(len(payload)) + protocolICMPv6
	sum = addWords(addWords(sum, addresses), payload)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func addWords(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}
