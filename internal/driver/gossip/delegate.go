// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/heraldlb/herald/internal/core/lb"
)

// config translates the driver's configuration into memberlist's.
func (d *Driver) config(t *transport) (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = string(d.cfg.NodeName)
	c.Transport = t
	c.BindAddr, c.BindPort = t.addr.Addr().String(), int(t.addr.Port())
	c.Label = d.cfg.Label

	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	c.AwarenessMaxMultiplier = awarenessMax
	c.GossipInterval, c.GossipNodes, c.RetransmitMult = gossipInterval, gossipNodes, retransmitMult
	c.PushPullInterval, c.TCPTimeout = pushPullInterval, streamTimeout
	c.DeadNodeReclaimTime = reclaimTime
	c.EnableCompression = false // costs more than these small packets do

	c.Delegate = delegate{d}
	c.Events = delegate{d}
	c.Conflict = delegate{d}
	c.Logger = newLogger(d.cfg.Logger)
	if len(d.keys) > 0 {
		ring, err := memberlist.NewKeyring(d.keys, d.keys[0])
		if err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
		c.Keyring = ring
	}
	return c, nil
}

// metaHeartbeats in the meta-data of a member: it sends and answers heartbeats.
const metaHeartbeats = 'h'

// delegate is called by memberlist, partly with its locks held: it must not
// block, nor call back.
type delegate struct{ d *Driver }

// NodeMeta implements memberlist.Delegate: what this speaker can do.
func (delegate) NodeMeta(int) []byte { return []byte{metaHeartbeats} }

// NotifyMsg implements memberlist.Delegate.
func (x delegate) NotifyMsg(b []byte) {
	kind, id, content, ok := open(b)
	if !ok || id.origin == x.d.origin {
		return
	}
	x.d.mu.Lock()
	fresh := x.d.seen.fresh(id)
	many := len(x.d.members)+1 > directLimit
	if fresh && kind == kindGoodbye {
		x.d.leaving[lb.NodeName(content)] = true
	}
	x.d.mu.Unlock()
	if !fresh || kind != kindUser && kind != kindDirect {
		return
	}
	b = bytes.Clone(b)
	x.d.queue.put(Event{Kind: Message, Data: b[headerSize:]})
	if many && kind == kindUser && len(b) <= packetLimit {
		x.d.repeat(b)
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (x delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return x.d.gossip.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (x delegate) LocalState(bool) []byte {
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	return x.d.wanted.State
}

// MergeRemoteState implements memberlist.Delegate.
func (x delegate) MergeRemoteState(b []byte, _ bool) {
	x.d.mu.Lock()
	x.d.joined = true
	x.d.mu.Unlock()
	if len(b) > 0 {
		x.d.queue.put(Event{Kind: FullState, Data: bytes.Clone(b)})
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (x delegate) NotifyJoin(n *memberlist.Node) {
	name, addr := lb.NodeName(n.Name), addrPort(n)
	if name == x.d.cfg.NodeName {
		return
	}
	x.d.mu.Lock()
	x.d.members[name] = addr
	delete(x.d.leaving, name)
	x.d.mu.Unlock()
	x.d.queue.put(Event{Kind: MemberUp, Node: name, Addr: addr, Heartbeats: bytes.IndexByte(n.Meta, metaHeartbeats) >= 0})
}

// NotifyLeave implements memberlist.EventDelegate.
func (x delegate) NotifyLeave(n *memberlist.Node) {
	name := lb.NodeName(n.Name)
	if name == x.d.cfg.NodeName {
		return
	}
	x.d.mu.Lock()
	left := x.d.leaving[name]
	delete(x.d.leaving, name)
	delete(x.d.members, name)
	x.d.mu.Unlock()
	x.d.queue.put(Event{Kind: MemberDown, Node: name, Addr: addrPort(n), Left: left})
	x.d.poke()
}

// NotifyUpdate implements memberlist.EventDelegate: a speaker of another version
// was started before its former life was missed.
func (x delegate) NotifyUpdate(n *memberlist.Node) { x.NotifyJoin(n) }

// NotifyConflict implements memberlist.ConflictDelegate. After a restart with
// another address the former life is in the way until the others have declared
// it dead. They say so in an exchange of states, and this member then objects.
func (x delegate) NotifyConflict(_, other *memberlist.Node) {
	if lb.NodeName(other.Name) == x.d.cfg.NodeName {
		x.d.mu.Lock()
		x.d.restless = time.Now().Add(restlessTime)
		x.d.mu.Unlock()
		x.d.poke()
	}
	x.d.cfg.Logger.Debug("two members of gossip have one name", "node", other.Name, "address", addrPort(other).String())
}
