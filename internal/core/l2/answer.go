// SPDX-License-Identifier: Apache-2.0

package l2

import "time"

// Step takes a received packet and returns the answer to send, if there is one. Next may be earlier afterwards.
func (m *Machine) Step(now time.Time, in Packet) (Packet, bool) {
	ip, mac := in.claim()
	if t := m.targets[targetKey{ip, in.Interface}]; t != nil {
		m.observe(now, t, mac, &in)
	}
	if in.Kind != ARPRequest && in.Kind != Solicitation {
		return Packet{}, false
	}
	t := m.targets[targetKey{in.TargetIP, in.Interface}]
	if t == nil {
		return Packet{}, false
	}
	if t.stage != announcing {
		if in.SenderIP.IsUnspecified() {
			m.rival(now, t, mac)
		}
		return Packet{}, false
	}
	if in.Kind == ARPRequest {
		return t.answerARP(&in)
	}
	return t.answerSolicitation(&in)
}

func (t *target) answerARP(in *Packet) (Packet, bool) {
	if in.Dst != broadcastMAC() && in.Dst != t.link.MAC || in.gratuitous() {
		return Packet{}, false
	}
	t.addr.requests++
	t.addr.responses++
	return Packet{
		Kind: ARPReply, Interface: t.link.Index,
		Src: t.link.MAC, Dst: in.SenderMAC,
		SenderMAC: t.link.MAC, SenderIP: t.addr.ip,
		TargetMAC: in.SenderMAC, TargetIP: in.SenderIP,
	}, true
}

// answerSolicitation follows RFC 4861 section 7.2.4: a solicited advertisement to the asker, or, when the asker has
// no address yet (duplicate address detection), an unsolicited one to all nodes.
func (t *target) answerSolicitation(in *Packet) (Packet, bool) {
	if in.Dst != t.link.MAC && in.Dst != groupMAC(in.DestIP) {
		return Packet{}, false
	}
	t.addr.requests++
	t.addr.responses++
	out := t.advertisement()
	if in.SenderIP.IsUnspecified() {
		return out, true
	}
	out.Solicited = true
	out.DestIP = in.SenderIP
	out.Dst = in.SenderMAC
	if out.Dst == (MAC{}) {
		out.Dst = in.Src
	}
	return out, true
}
