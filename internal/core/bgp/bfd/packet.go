// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"encoding/binary"
	"errors"
	"time"
)

// State is a session's state (RFC 5880 section 4.1), as in packets.
type State uint8

// States.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String implements fmt.Stringer.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	default:
		return "Up"
	}
}

// Diagnostic is the reason for the last change of state (RFC 5880 section 4.1), as in packets.
type Diagnostic uint8

// Diagnostics.
const (
	NoDiagnostic Diagnostic = iota
	DetectionExpired
	EchoFailed
	NeighborDown
	ForwardingPlaneReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

// String implements fmt.Stringer.
func (d Diagnostic) String() string {
	switch d {
	case NoDiagnostic:
		return "no diagnostic"
	case DetectionExpired:
		return "control detection time expired"
	case EchoFailed:
		return "echo function failed"
	case NeighborDown:
		return "neighbor signaled session down"
	case ForwardingPlaneReset:
		return "forwarding plane reset"
	case PathDown:
		return "path down"
	case ConcatenatedPathDown:
		return "concatenated path down"
	case AdministrativelyDown:
		return "administratively down"
	case ReverseConcatenatedPathDown:
		return "reverse concatenated path down"
	default:
		return "unknown diagnostic"
	}
}

// Packet is a control packet (RFC 5880 section 4.1). Intervals are in microseconds, as on the wire.
//
//	|Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//	|                       My Discriminator                        |
//	|                      Your Discriminator                       |
//	|                    Desired Min TX Interval                    |
//	|                   Required Min RX Interval                    |
//	|                 Required Min Echo RX Interval                 |
type Packet struct {
	State       State
	Diagnostic  Diagnostic
	Poll        bool
	Final       bool
	Independent bool // of the control plane
	Auth        bool // an authentication section follows
	Demand      bool
	Multiplier  uint8

	MyDiscriminator, YourDiscriminator uint32

	DesiredMinTx, RequiredMinRx, RequiredMinEchoRx uint32
}

// Size is that of a packet without authentication.
const Size = 24

// sizeWithAuth is the least size of one that has it.
const sizeWithAuth = 26

const (
	version = 1

	flagPoll        = 1 << 5
	flagFinal       = 1 << 4
	flagIndependent = 1 << 3
	flagAuth        = 1 << 2
	flagDemand      = 1 << 1
	flagMultipoint  = 1 << 0
)

// What Parse may have against a packet: the checks of RFC 5880 section 6.8.6 that need no session.
var (
	errTruncated     = errors.New("shorter than a BFD packet")
	errVersion       = errors.New("not BFD version 1")
	errShort         = errors.New("length field is too small")
	errLong          = errors.New("length field is larger than the packet")
	errMultiplier    = errors.New("detect multiplier is 0")
	errMultipoint    = errors.New("multipoint bit is set")
	errDiscriminator = errors.New("my discriminator is 0")
	errNoSession     = errors.New("your discriminator is 0, but the state is neither Down nor AdminDown")
)

// Parse decodes the payload of a UDP packet. It allocates nothing.
func Parse(b []byte) (Packet, error) {
	if len(b) < Size {
		return Packet{}, errTruncated
	}
	p := Packet{
		Diagnostic:  Diagnostic(b[0] & 0x1f),
		State:       State(b[1] >> 6),
		Poll:        b[1]&flagPoll != 0,
		Final:       b[1]&flagFinal != 0,
		Independent: b[1]&flagIndependent != 0,
		Auth:        b[1]&flagAuth != 0,
		Demand:      b[1]&flagDemand != 0,
		Multiplier:  b[2],

		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      binary.BigEndian.Uint32(b[12:]),
		RequiredMinRx:     binary.BigEndian.Uint32(b[16:]),
		RequiredMinEchoRx: binary.BigEndian.Uint32(b[20:]),
	}
	least := Size
	if p.Auth {
		least = sizeWithAuth
	}
	length := int(b[3])
	switch { // in the order of the RFC
	case b[0]>>5 != version:
		return Packet{}, errVersion
	case length < least:
		return Packet{}, errShort
	case length > len(b):
		return Packet{}, errLong
	case p.Multiplier == 0:
		return Packet{}, errMultiplier
	case b[1]&flagMultipoint != 0:
		return Packet{}, errMultipoint
	case p.MyDiscriminator == 0:
		return Packet{}, errDiscriminator
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, errNoSession
	}
	return p, nil
}

// Append encodes a packet. There is never an authentication section.
func (p *Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(p.Poll, flagPoll)
	set(p.Final, flagFinal)
	set(p.Independent, flagIndependent)
	set(p.Demand, flagDemand)
	b = append(b, version<<5|byte(p.Diagnostic)&0x1f, flags, p.Multiplier, Size)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.DesiredMinTx)
	b = binary.BigEndian.AppendUint32(b, p.RequiredMinRx)
	return binary.BigEndian.AppendUint32(b, p.RequiredMinEchoRx)
}

// The wire counts microseconds in 32 bits: an hour and 11 minutes at most.

func micros(d time.Duration) uint32 { return uint32(d / time.Microsecond) }

func interval(us uint32) time.Duration { return time.Duration(us) * time.Microsecond }
