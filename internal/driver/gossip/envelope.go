// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"crypto/sha256"
	"encoding/binary"
)

// secretKey makes the AES-128 key of the group out of the shared secret, as
// MetalLB does: the first half of its SHA-256.
func secretKey(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:16]
}

// A message between drivers is a kind, the origin's number, the message's
// number there, and the content. The numbers tell repeated messages from new
// ones.
const headerSize = 1 + 8 + 8

type messageKind byte

const (
	kindUser    messageKind = 1 // the content is the consumer's
	kindGoodbye messageKind = 2 // the content is the name of a member about to leave
	kindDirect  messageKind = 3 // as kindUser, but for this member alone
)

type messageID struct{ origin, number uint64 }

func seal(kind messageKind, id messageID, content []byte) []byte {
	b := make([]byte, 0, headerSize+len(content))
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint64(b, id.origin)
	b = binary.BigEndian.AppendUint64(b, id.number)
	return append(b, content...)
}

func open(b []byte) (messageKind, messageID, []byte, bool) {
	if len(b) < headerSize {
		return 0, messageID{}, nil, false
	}
	id := messageID{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])}
	return messageKind(b[0]), id, b[headerSize:], true
}

// memory remembers the last messages that were seen.
type memory struct {
	ring []messageID
	next int
	seen map[messageID]bool
}

func newMemory(size int) *memory {
	return &memory{ring: make([]messageID, size), seen: make(map[messageID]bool, size)}
}

// fresh reports whether id is new, and remembers it.
func (m *memory) fresh(id messageID) bool {
	if m.seen[id] {
		return false
	}
	delete(m.seen, m.ring[m.next])
	m.ring[m.next] = id
	m.next = (m.next + 1) % len(m.ring)
	m.seen[id] = true
	return true
}
