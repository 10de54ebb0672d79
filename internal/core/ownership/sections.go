// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/heraldlb/herald/internal/core/lb"
)

// appendSections writes what came after the first version. Sections that would
// say nothing are left out.
func (msg *message) appendSections(b []byte) []byte {
	var sections [][]byte
	add := func(kind byte, content []byte) {
		if len(content) > 0 {
			head := binary.AppendUvarint([]byte{kind}, uint64(len(content)))
			sections = append(sections, append(head, content...))
		}
	}
	add(sectionHardware, msg.appendHardware(nil))
	add(sectionUnproven, msg.appendUnproven(nil))
	add(sectionOffers, msg.appendOffers(nil))
	if msg.greeting != nil {
		add(sectionGreeting, binary.AppendUvarint(nil, *msg.greeting))
	}
	if len(sections) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(sections)))
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

func (msg *message) appendHardware(b []byte) []byte {
	known := false
	for i := range msg.records {
		macs := msg.records[i].hardware
		if macs == nil {
			b = append(b, 0)
			continue
		}
		known = true
		b = binary.AppendUvarint(b, uint64(len(macs))+1)
		for _, mac := range macs {
			b = append(b, mac[:]...)
		}
	}
	if !known {
		return nil
	}
	return b
}

func (msg *message) appendUnproven(b []byte) []byte {
	for i := range msg.claims {
		if msg.claims[i].Unproven {
			b = binary.AppendUvarint(b, uint64(i))
		}
	}
	return b
}

func (msg *message) readSections(r *reader) {
	if r.err != nil || len(r.rest) == 0 {
		return // of the first version
	}
	for range r.count(2) {
		kind := r.byte()
		content := reader{rest: r.take(int(min(r.uvarint(), 1<<30)))}
		switch kind {
		case sectionHardware:
			msg.readHardware(&content)
		case sectionUnproven:
			msg.readUnproven(&content)
		case sectionOffers:
			msg.readOffers(&content)
		case sectionGreeting:
			held := content.uvarint()
			msg.greeting = &held
		}
		if content.err != nil {
			r.fail(content.err)
		}
	}
}

func (msg *message) readHardware(r *reader) {
	for i := range msg.records {
		n := r.uvarint()
		if n == 0 {
			continue
		}
		if n-1 > uint64(len(r.rest)/len(MAC{})) {
			r.fail(errShort)
			return
		}
		macs := make([]MAC, 0, min(n-1, maxHardware))
		for range n - 1 {
			if b := r.take(len(MAC{})); b != nil && len(macs) < maxHardware {
				macs = append(macs, MAC(b))
			}
		}
		msg.records[i].hardware = macs
	}
}

func (msg *message) readUnproven(r *reader) {
	for len(r.rest) > 0 {
		at := r.uvarint()
		if at >= uint64(len(msg.claims)) {
			r.fail(errors.New("place of a claim out of range"))
			return
		}
		msg.claims[at].Unproven = true
	}
}

func (msg *message) appendOffers(b []byte) []byte {
	for i, o := range msg.offers {
		if i == 0 {
			b = appendString(b, string(o.to))
		}
		b = binary.AppendUvarint(b, o.claim)
		b = binary.AppendUvarint(b, o.turn)
	}
	return b
}

func (msg *message) readOffers(r *reader) {
	to := lb.NodeName(r.string())
	for len(r.rest) > 0 {
		o := offer{to: to, claim: r.uvarint(), turn: r.uvarint()}
		if o.claim >= uint64(len(msg.claims)) || o.turn > maxTurn {
			r.fail(errors.New("offer out of range"))
			return
		}
		o.key = msg.claims[o.claim].Address
		o.epoch = msg.claims[o.claim].Epoch + o.turn
		o.owner = msg.claims[o.claim].Node
		msg.offers = append(msg.offers, o)
	}
}

func compareMACs(a, b MAC) int { return bytes.Compare(a[:], b[:]) }
