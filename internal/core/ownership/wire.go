// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// The form of a message, news or full state; numbers are uvarints, a string is
// its length and its bytes:
//
//	version (1 byte, 1)  flags (1 byte: full, settled)  sender (string)
//	number of names, names         other nodes and the sender are named by place
//	number of records, each:       name, version, flags (1 byte: ready),
//	                               number of interfaces, their names
//	number of claims, each:        address (length byte 4 or 16, bytes), epoch, name
//	number of sections, each:      kind, length, content
//
// A reader skips sections of a kind it does not know, and the first readers of
// this version ignored everything that follows the claims, so later ones can add
// sections. Those known are:
//
//	1 hardware   for each record: number of MAC addresses plus one (0: not known), 6 bytes each
//	2 unproven   the places, in the list of claims, of those that are unproven, ascending
//	3 offers     name of the node, then for each group offered to it: place of the claim on
//	             its key, number of nodes that were asked before
//	4 greeting   number of claims of the sender, all of them, in this message and the next
const (
	wireVersion = 1

	flagFull    = 1 << 0
	flagSettled = 1 << 1
	flagReady   = 1 << 0

	sectionHardware = 1
	sectionUnproven = 2
	sectionOffers   = 3
	sectionGreeting = 4

	// maxNews keeps a message within one gossip packet of 1,400 bytes, with
	// the encryption and the labels around it.
	maxNews = 1100
	// maxEpoch leaves room to count on.
	maxEpoch = 1 << 62
	// maxName is the longest name of a Kubernetes object.
	maxName = 253
	// maxHardware bounds the MAC addresses that a node publishes.
	maxHardware = 16
	// maxTurn bounds how many nodes a group is offered to.
	maxTurn = 1000
)

type message struct {
	full    bool // a full state
	settled bool // of the sender
	sender  lb.NodeName
	records []record
	claims  []Claim
	offers  []offer // all to one node
	// greeting: the sender has met this node, and holds so many claims. nil: it
	// is no greeting.
	greeting *uint64
}

// record is what a node publishes of itself.
type record struct {
	name       lb.NodeName
	version    uint64
	ready      bool
	interfaces []string
	hardware   []MAC // nil: not known
}

func (msg *message) encode() []byte {
	places := map[lb.NodeName]uint64{}
	var names []lb.NodeName
	place := func(n lb.NodeName) {
		if _, ok := places[n]; !ok {
			places[n] = uint64(len(names))
			names = append(names, n)
		}
	}
	for i := range msg.records {
		place(msg.records[i].name)
	}
	for _, c := range msg.claims {
		place(c.Node)
	}

	b := make([]byte, 0, 64+32*len(names)+12*len(msg.claims))
	b = append(b, wireVersion, flag(msg.full, flagFull)|flag(msg.settled, flagSettled))
	b = appendString(b, string(msg.sender))
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendString(b, string(n))
	}
	b = binary.AppendUvarint(b, uint64(len(msg.records)))
	for i := range msg.records {
		r := &msg.records[i]
		b = binary.AppendUvarint(b, places[r.name])
		b = binary.AppendUvarint(b, r.version)
		b = append(b, flag(r.ready, flagReady))
		b = binary.AppendUvarint(b, uint64(len(r.interfaces)))
		for _, name := range r.interfaces {
			b = appendString(b, name)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(msg.claims)))
	for _, c := range msg.claims {
		ip := c.Address.AsSlice()
		b = append(b, byte(len(ip)))
		b = append(b, ip...)
		b = binary.AppendUvarint(b, c.Epoch)
		b = binary.AppendUvarint(b, places[c.Node])
	}
	return msg.appendSections(b)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func decode(data []byte) (message, error) {
	r := reader{rest: data}
	if v := r.byte(); r.err == nil && v != wireVersion {
		return message{}, fmt.Errorf("message of version %d, want %d", v, wireVersion)
	}
	flags := r.byte()
	msg := message{full: flags&flagFull != 0, settled: flags&flagSettled != 0}
	msg.sender = lb.NodeName(r.string())
	names := make([]lb.NodeName, r.count(2))
	for i := range names {
		names[i] = lb.NodeName(r.string())
	}
	msg.records = make([]record, r.count(4))
	for i := range msg.records {
		rec := &msg.records[i]
		rec.name = r.name(names)
		rec.version = r.uvarint()
		rec.ready = r.byte()&flagReady != 0
		rec.interfaces = make([]string, r.count(2))
		for j := range rec.interfaces {
			rec.interfaces[j] = r.string()
		}
		slices.Sort(rec.interfaces)
	}
	msg.claims = make([]Claim, r.count(7))
	for i := range msg.claims {
		msg.claims[i] = Claim{Address: r.addr(), Epoch: r.uvarint(), Node: r.name(names)}
		if e := msg.claims[i].Epoch; r.err == nil && (e == 0 || e > maxEpoch) {
			r.fail(errors.New("epoch out of range"))
		}
	}
	msg.readSections(&r)
	if r.err != nil {
		return message{}, fmt.Errorf("read gossip message: %w", r.err)
	}
	return msg, nil
}

var errShort = errors.New("message is too short")

// reader takes a message apart. After an error everything reads as zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.rest = err, nil
	}
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads a number of items of at least size bytes each: a number that the
// rest of the message cannot hold is refused before memory is made for it.
func (r *reader) count(size int) int {
	v := r.uvarint()
	if v > uint64(len(r.rest)/size) {
		r.fail(errShort)
		return 0
	}
	return int(v)
}

func (r *reader) string() string {
	n := r.uvarint()
	if r.err == nil && (n == 0 || n > maxName) {
		r.fail(fmt.Errorf("name of %d bytes", n))
		return ""
	}
	return string(r.take(int(n)))
}

func (r *reader) name(names []lb.NodeName) lb.NodeName {
	at := r.uvarint()
	if at >= uint64(len(names)) {
		r.fail(errors.New("name out of range"))
		return ""
	}
	return names[at]
}

func (r *reader) addr() netip.Addr {
	n := r.byte()
	ip, ok := netip.AddrFromSlice(r.take(int(n)))
	if !ok || ip.Is4In6() {
		r.fail(errors.New("not an address"))
	}
	return ip
}
