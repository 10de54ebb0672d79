// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// A packet on the wire; numbers are big-endian.
//
//	 0  kind
//	 1  flags: 1 watching, 2 deaf
//	 2  life of the sender
//	10  life of the receiver
//	18  count
//	26  incarnation of the sender
//	34  incarnation of the subject
//	42  age, in milliseconds, 65535 for more
//	44  length and text of: sender, receiver, subject
//	    version of the sender's record (8 bytes); the first speakers end before it
//	    how late the sender's timers were, in milliseconds (2 bytes); the next ones
//	    end before it
//
// Speakers of two versions run side by side while a cluster is upgraded. Whoever
// knows more kinds or fields sends them at the end, where others do not look, or
// to those who said that they know them; an unknown kind is a sign of life like
// any other.
const (
	// Magic is the first byte of a datagram with a packet in it, MagicQuiet if the
	// packet is Routine; no message of gossip, with which heartbeats share a
	// port, begins like that.
	Magic      = 'H'
	MagicQuiet = 'h'

	fixedSize = 44
	maxName   = 253 // of a Kubernetes node

	flagWatching = 1
	flagDeaf     = 2
)

// Datagram is what arrived on the port that heartbeats share with gossip.
type Datagram struct {
	// From whom; or, if Refused, to whom a datagram was sent at whose host
	// nobody listens.
	From    netip.AddrPort
	Refused bool
	// Data begins with Magic or MagicQuiet. It is the receiver's to keep.
	Data []byte
	// Age: it arrived that long ago.
	Age time.Duration
}

var errMalformed = errors.New("malformed heartbeat")

// Append encodes a packet.
func (p *Packet) Append(b []byte) []byte {
	var flags byte
	if p.Watching {
		flags |= flagWatching
	}
	if p.Deaf {
		flags |= flagDeaf
	}
	b = append(b, byte(p.Kind), flags)
	for _, n := range []uint64{p.Life, p.Echo, p.Count, p.Incarnation, p.SubjectIncarnation} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = appendMilliseconds(b, p.Age)
	for _, name := range []lb.NodeName{p.From, p.To, p.Subject} {
		name = name[:min(len(name), maxName)]
		b = append(b, byte(len(name)))
		b = append(b, name...)
	}
	b = binary.BigEndian.AppendUint64(b, p.Record)
	return appendMilliseconds(b, p.Late)
}

func appendMilliseconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint16(b, uint16(min(max(d/time.Millisecond, 0), 1<<16-1)))
}

func milliseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint16(b)) * time.Millisecond
}

// Decode reads what Append has written, here or in another version of Herald.
func Decode(b []byte) (Packet, error) {
	if len(b) < fixedSize || b[0] == 0 {
		return Packet{}, errMalformed
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	p := Packet{
		Kind: Kind(b[0]), Watching: b[1]&flagWatching != 0, Deaf: b[1]&flagDeaf != 0,
		Life: number(2), Echo: number(10), Count: number(18), Incarnation: number(26), SubjectIncarnation: number(34),
		Age: milliseconds(b[42:]),
	}
	rest := b[fixedSize:]
	for _, name := range []*lb.NodeName{&p.From, &p.To, &p.Subject} {
		if len(rest) == 0 || rest[0] > maxName || len(rest) < 1+int(rest[0]) {
			return Packet{}, errMalformed
		}
		*name = lb.NodeName(rest[1 : 1+rest[0]])
		rest = rest[1+rest[0]:]
	}
	switch {
	case len(rest) >= 10:
		p.Late = milliseconds(rest[8:])
		fallthrough
	case len(rest) == 8:
		p.Record = binary.BigEndian.Uint64(rest)
	case len(rest) > 0:
		return Packet{}, errMalformed
	}
	return p, nil
}
