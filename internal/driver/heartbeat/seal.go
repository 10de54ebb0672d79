// SPDX-License-Identifier: Apache-2.0

package heartbeat

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"

	"github.com/heraldlb/herald/internal/core/liveness"
)

// A datagram is liveness.Magic or MagicQuiet, the version, the packet, and the first half of
// the HMAC-SHA-256 of all that (RFC 2104 section 5). It is not encrypted: who
// can record it learns the names of nodes, which is no secret, and nothing else.
const (
	version = 1
	sumSize = sha256.Size / 2
	header  = 2
)

// sealer seals and opens datagrams. It is not safe for concurrent use.
type sealer struct {
	macs []hash.Hash
	sum  [sha256.Size]byte
}

// newSealer derives a key of its own from each secret: gossip uses the secrets
// for something else.
func newSealer(secrets [][]byte, label string) *sealer {
	s := &sealer{}
	for _, secret := range secrets {
		derive := hmac.New(sha256.New, secret)
		derive.Write([]byte("herald heartbeat\x00" + label))
		s.macs = append(s.macs, hmac.New(sha256.New, derive.Sum(nil)))
	}
	return s
}

func (s *sealer) mac(m hash.Hash, b []byte) []byte {
	m.Reset()
	m.Write(b)
	return m.Sum(s.sum[:0])[:sumSize]
}

// seal writes a datagram into b, which is emptied first.
func (s *sealer) seal(b []byte, p *liveness.Packet) []byte {
	magic := byte(liveness.Magic)
	if p.Routine {
		magic = liveness.MagicQuiet
	}
	b = append(b[:0], magic, version)
	b = p.Append(b)
	return append(b, s.mac(s.macs[0], b)...)
}

// open returns the packet in a datagram that was sealed with one of the secrets.
func (s *sealer) open(b []byte) (liveness.Packet, bool) {
	if len(b) < header+sumSize || b[0] != liveness.Magic && b[0] != liveness.MagicQuiet || b[1] != version {
		return liveness.Packet{}, false
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	for _, m := range s.macs {
		if hmac.Equal(s.mac(m, body), sum) {
			p, err := liveness.Decode(body[header:])
			p.Routine = b[0] == liveness.MagicQuiet
			return p, err == nil
		}
	}
	return liveness.Packet{}, false
}
