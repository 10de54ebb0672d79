// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Kind tells the four packets apart that matter here.
type Kind uint8

// The kinds of packets.
const (
	ARPRequest Kind = iota + 1
	ARPReply
	Solicitation  // IPv6 neighbour solicitation
	Advertisement // IPv6 neighbour advertisement
)

// Packet is one ARP or neighbour discovery packet with its Ethernet addresses, in the form decisions are made on.
type Packet struct {
	Kind      Kind
	Interface int // index of the link it came from or goes to; not on the wire
	Src, Dst  MAC // Ethernet header

	SenderMAC MAC        // ARP: sender hardware address. IPv6: link-layer address option, zero without one
	SenderIP  netip.Addr // ARP: sender protocol address. IPv6: source of the packet
	TargetMAC MAC        // ARP: target hardware address
	TargetIP  netip.Addr // the address asked for or advertised
	DestIP    netip.Addr // IPv6: destination of the packet

	Solicited, Override bool // IPv6 advertisements
}

// claim returns the address that the sender says is its own, and the MAC it gives for it. The address is invalid or
// unspecified if it claims none, as a probe does.
func (p *Packet) claim() (netip.Addr, MAC) {
	mac := p.SenderMAC
	if mac == (MAC{}) {
		mac = p.Src
	}
	if p.Kind == Advertisement {
		return p.TargetIP, mac
	}
	return p.SenderIP, mac
}

// answers reports whether the packet answers a question, as far as one can tell: the answer to duplicate address
// detection looks like an announcement.
func (p *Packet) answers() bool {
	return p.Kind == ARPReply && p.Dst != broadcastMAC() || p.Kind == Advertisement
}

// gratuitous reports an ARP packet about the sender's own address, which asks nothing.
func (p *Packet) gratuitous() bool { return p.SenderIP == p.TargetIP }

const (
	etherLen  = 14
	arpLen    = 28
	ip6Len    = 40
	ndpLen    = 24 // type, code, checksum, flags, target
	optionLen = 8  // link-layer address option for Ethernet

	etherTypeARP  = 0x0806
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd

	hopLimit = 255 // RFC 4861 section 7.1: anything else came through a router

	// MaxFrame is the size of the largest frame AppendFrame writes.
	MaxFrame = etherLen + ip6Len + ndpLen + optionLen
)

// Why a frame was not understood. They are variables so that rejecting a frame allocates nothing.
var (
	errShort    = errors.New("frame too short")
	errProtocol = errors.New("neither ARP for IPv4 over Ethernet nor IPv6 neighbour discovery")
	errInvalid  = errors.New("packet breaks a rule of its protocol")
	errChecksum = errors.New("wrong ICMPv6 checksum")
)

func broadcastMAC() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// ParseFrame reads an Ethernet frame. It checks everything that RFC 826 and RFC 4861 section 7.1 tell a receiver to
// check. The result holds no reference to the frame.
func ParseFrame(b []byte) (Packet, error) {
	if len(b) < etherLen {
		return Packet{}, errShort
	}
	p := Packet{Dst: MAC(b[0:6]), Src: MAC(b[6:12])}
	var err error
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeARP:
		err = p.parseARP(b[etherLen:])
	case etherTypeIPv6:
		err = p.parseIPv6(b[etherLen:])
	default:
		err = errProtocol
	}
	if err != nil {
		return Packet{}, err
	}
	return p, nil
}

// AppendFrame writes p as an Ethernet frame behind b. It panics if an address is not of the family of its kind.
func AppendFrame(b []byte, p *Packet) []byte {
	b = append(b, p.Dst[:]...)
	b = append(b, p.Src[:]...)
	if p.Kind == ARPRequest || p.Kind == ARPReply {
		return p.appendARP(binary.BigEndian.AppendUint16(b, etherTypeARP))
	}
	return p.appendIPv6(binary.BigEndian.AppendUint16(b, etherTypeIPv6))
}

func (p *Packet) parseARP(b []byte) error {
	if len(b) < arpLen {
		return errShort
	}
	// Hardware type Ethernet, protocol IPv4, their address lengths.
	if [6]byte(b[0:6]) != [6]byte{0, 1, etherTypeIPv4 >> 8, etherTypeIPv4 & 0xff, 6, 4} {
		return errProtocol
	}
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		p.Kind = ARPRequest
	case 2:
		p.Kind = ARPReply
	default:
		return errProtocol
	}
	p.SenderMAC = MAC(b[8:14])
	p.SenderIP = netip.AddrFrom4([4]byte(b[14:18]))
	p.TargetMAC = MAC(b[18:24])
	p.TargetIP = netip.AddrFrom4([4]byte(b[24:28]))
	if !p.SenderMAC.IsUnicast() {
		return errInvalid
	}
	return nil
}

func (p *Packet) appendARP(b []byte) []byte {
	operation := byte(1)
	if p.Kind == ARPReply {
		operation = 2
	}
	b = append(b, 0, 1, etherTypeIPv4>>8, etherTypeIPv4&0xff, 6, 4, 0, operation)
	sender, target := p.SenderIP.As4(), p.TargetIP.As4()
	b = append(b, p.SenderMAC[:]...)
	b = append(b, sender[:]...)
	b = append(b, p.TargetMAC[:]...)
	return append(b, target[:]...)
}
