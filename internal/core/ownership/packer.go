// SPDX-License-Identifier: Apache-2.0

package ownership

import (
	"net/netip"

	"github.com/heraldlb/herald/internal/core/lb"
)

// packer makes messages of claims and offers that fit into a packet.
type packer struct {
	m     *Machine
	to    lb.NodeName // empty: all
	out   []Letter
	msg   message
	names map[lb.NodeName]bool
	size  int
}

const (
	// claimSize is the most that a claim takes, without the name of its node:
	// an IPv6 address with its length, an epoch, the place of the name, and its
	// own place in the list of unproven ones.
	claimSize = 17 + 10 + 2 + 2
	// offerSize is the most that an offer takes: the place of a claim, and the
	// number of those asked before.
	offerSize = 2 + 3
	// headSize is the most that a message takes without names and claims.
	headSize = 2 + 2 + 3*2 + 4*4
)

// room begins a new message if n more claims by a node would not fit.
func (p *packer) room(n int, node lb.NodeName) {
	need := n * claimSize
	if !p.names[node] {
		need += 2 + len(node)
	}
	if len(p.msg.claims) > 0 && p.size+need > maxNews-headSize-len(p.m.cfg.Self)-len(p.to) {
		p.flush()
	}
}

func (p *packer) claim(ip netip.Addr, c claim) {
	if p.names == nil {
		p.names = map[lb.NodeName]bool{}
	}
	if !p.names[c.node] {
		p.names[c.node] = true
		p.size += 2 + len(c.node)
	}
	p.size += claimSize
	p.msg.claims = append(p.msg.claims, c.public(ip))
}

// offer shows the claims on a group and offers it. The claims give the epochs
// that the receiver may not know yet.
func (p *packer) offer(g *group, turn uint64) {
	p.group(g)
	at := uint64(0)
	for i, c := range p.msg.claims {
		if c.Address == g.Key {
			at = uint64(i)
		}
	}
	p.msg.offers = append(p.msg.offers, offer{
		key: g.Key, epoch: p.msg.claims[at].Epoch + turn, to: p.to, claim: at, turn: turn,
	})
	p.size += offerSize
}

// group shows the claims on a group.
func (p *packer) group(g *group) {
	addresses := g.Addresses
	if !g.Has(g.Key) {
		addresses = append([]netip.Addr{g.Key}, addresses...)
	}
	p.room(len(addresses)+1, p.m.claims[g.Key].node)
	for _, ip := range addresses {
		if c, ok := p.m.claims[ip]; ok {
			p.claim(ip, c)
		}
	}
}

func (p *packer) flush() {
	if len(p.msg.claims) > 0 {
		msg := p.m.message(false)
		msg.claims, msg.offers = p.msg.claims, p.msg.offers
		p.out = append(p.out, Letter{To: p.to, Data: msg.encode()})
	}
	p.msg, p.size = message{}, 0
	clear(p.names)
}

func (p *packer) finish() []Letter {
	p.flush()
	return p.out
}
