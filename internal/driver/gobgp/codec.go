// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// asTrans stands for an AS number that does not fit into two bytes (RFC 6793).
const asTrans = 23456

// decode reads a message of a router. Of UPDATEs nothing is read at all. What
// remains are a few short messages; should the library stumble over one of
// them, that session ends and nothing else.
func decode(raw bgp.Raw) (msg bgp.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			msg, err = nil, fmt.Errorf("router sent %s that cannot be read", raw.Type)
		}
	}()
	switch raw.Type {
	case bgp.TypeKeepalive:
		return bgp.Keepalive{}, nil
	case bgp.TypeUpdate:
		return bgp.Update{}, nil
	}
	header := &packet.BGPHeader{Len: uint16(packet.BGP_HEADER_LENGTH + len(raw.Body)), Type: uint8(raw.Type)}
	m, err := packet.ParseBGPBody(header, raw.Body)
	if err != nil {
		return nil, fmt.Errorf("router sent %s that cannot be read: %w", raw.Type, err)
	}
	switch body := m.Body.(type) {
	case *packet.BGPOpen:
		return openFrom(body), nil
	case *packet.BGPNotification:
		return bgp.Notification{Code: body.ErrorCode, Subcode: body.ErrorSubcode, Data: body.Data}, nil
	case *packet.BGPRouteRefresh:
		// Only the plain request of RFC 2918; families of others change nothing.
		switch {
		case body.AFI == packet.AFI_IP && body.SAFI == packet.SAFI_UNICAST:
			return bgp.Refresh{Family: lb.IPv4}, nil
		case body.AFI == packet.AFI_IP6 && body.SAFI == packet.SAFI_UNICAST:
			return bgp.Refresh{Family: lb.IPv6}, nil
		}
		return bgp.Refresh{}, nil
	}
	return nil, errors.New("router sent a message of an unknown type")
}

func openFrom(body *packet.BGPOpen) bgp.Open {
	o := bgp.Open{Version: body.Version, AS: uint32(body.MyAS), Hold: time.Duration(body.HoldTime) * time.Second}
	o.RouterID, _ = netip.AddrFromSlice(body.ID)
	multiprotocol := false
	for _, p := range body.OptParams {
		param, ok := p.(*packet.OptionParameterCapability)
		if !ok {
			continue
		}
		for _, c := range param.Capability {
			switch c := c.(type) {
			case *packet.CapMultiProtocol:
				multiprotocol = true
				o.V4 = o.V4 || c.CapValue == packet.RF_IPv4_UC
				o.V6 = o.V6 || c.CapValue == packet.RF_IPv6_UC
			case *packet.CapFourOctetASNumber:
				o.FourByteAS, o.AS = true, c.CapValue
			case *packet.CapRouteRefresh:
				o.RouteRefresh = true
			case *packet.CapExtendedNexthop:
				for _, t := range c.Tuples {
					if t.NLRIAFI == packet.AFI_IP && t.NLRISAFI == packet.SAFI_UNICAST && t.NexthopAFI == packet.AFI_IP6 {
						o.ExtendedNextHop = true
					}
				}
			case *packet.CapGracefulRestart:
				o.GracefulRestart, o.Restarting = true, c.Flags&0x08 != 0
				o.RestartTime = time.Duration(c.Time) * time.Second
			}
		}
	}
	if !multiprotocol {
		o.V4 = true // RFC 4760, section 8: without the capability it is the BGP of old
	}
	return o
}

// encoder makes the bytes of messages. What it depends on is known once the
// router's OPEN is.
type encoder struct {
	localAS    uint32
	internal   bool
	fourByteAS bool
}

// encode appends the bytes of a message; some become several.
func (e *encoder) encode(buf []byte, m bgp.Message) ([]byte, int, error) {
	switch m := m.(type) {
	case bgp.Open:
		return appendMessages(buf, openBytes(m))
	case bgp.Keepalive:
		return appendMessages(buf, packet.NewBGPKeepAliveMessage())
	case bgp.Notification:
		return appendMessages(buf, packet.NewBGPNotificationMessage(m.Code, m.Subcode, m.Data))
	case bgp.EndOfRIB:
		return appendMessages(buf, packet.NewEndOfRib(routeFamily(m.Family)))
	case bgp.Withdrawal:
		return appendMessages(buf, withdrawals(m)...)
	case bgp.Announcement:
		return appendMessages(buf, e.announcements(m)...)
	}
	return buf, 0, fmt.Errorf("no bytes for a message of type %T", m)
}

func appendMessages(buf []byte, messages ...*packet.BGPMessage) ([]byte, int, error) {
	for _, m := range messages {
		b, err := m.Serialize()
		if err != nil {
			return buf, 0, fmt.Errorf("encode %s: %w", bgp.Type(m.Header.Type), err)
		}
		buf = append(buf, b...)
	}
	return buf, len(messages), nil
}

func openBytes(o bgp.Open) *packet.BGPMessage {
	var caps []packet.ParameterCapabilityInterface
	var restart []*packet.CapGracefulRestartTuple
	for _, f := range []struct {
		on     bool
		family packet.RouteFamily
	}{{o.V4, packet.RF_IPv4_UC}, {o.V6, packet.RF_IPv6_UC}} {
		if f.on {
			caps = append(caps, packet.NewCapMultiProtocol(f.family))
			// Forwarding goes on while the speaker restarts: it does none of it.
			restart = append(restart, packet.NewCapGracefulRestartTuple(f.family, true))
		}
	}
	if o.RouteRefresh {
		caps = append(caps, packet.NewCapRouteRefresh())
	}
	if o.FourByteAS {
		caps = append(caps, packet.NewCapFourOctetASNumber(o.AS))
	}
	if o.ExtendedNextHop {
		caps = append(caps, packet.NewCapExtendedNexthop([]*packet.CapExtendedNexthopTuple{
			packet.NewCapExtendedNexthopTuple(packet.RF_IPv4_UC, packet.AFI_IP6),
		}))
	}
	if o.GracefulRestart {
		caps = append(caps, packet.NewCapGracefulRestart(o.Restarting, false, uint16(o.RestartTime/time.Second), restart))
	}
	return packet.NewBGPOpenMessage(twoBytes(o.AS), uint16(o.Hold/time.Second), o.RouterID.String(),
		[]packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
}

func twoBytes(as uint32) uint16 {
	if as > math.MaxUint16 {
		return asTrans
	}
	return uint16(as)
}

func routeFamily(f lb.Family) packet.RouteFamily {
	if f == lb.IPv4 {
		return packet.RF_IPv4_UC
	}
	return packet.RF_IPv6_UC
}

// room is how many bytes of prefixes go into one message: what RFC 4271 allows
// less the header, the lengths, and the attributes of length n.
func room(n int) int {
	const lengths = 4
	return packet.BGP_MAX_MESSAGE_LENGTH - packet.BGP_HEADER_LENGTH - lengths - n
}

// chunks splits prefixes so that each part takes at most size bytes.
func chunks(prefixes []netip.Prefix, size int) [][]netip.Prefix {
	var out [][]netip.Prefix
	start, used := 0, 0
	for i, p := range prefixes {
		n := 1 + (p.Bits()+7)/8
		if used+n > size {
			out = append(out, prefixes[start:i])
			start, used = i, 0
		}
		used += n
	}
	return append(out, prefixes[start:])
}

func withdrawals(w bgp.Withdrawal) []*packet.BGPMessage {
	const attribute = 4 + 3 // header and family of MP_UNREACH_NLRI
	var out []*packet.BGPMessage
	for _, part := range chunks(w.Prefixes, room(attribute)) {
		if w.Family == lb.IPv4 {
			out = append(out, packet.NewBGPUpdateMessage(prefixes4(part), nil, nil))
			continue
		}
		out = append(out, packet.NewBGPUpdateMessage(nil, []packet.PathAttributeInterface{packet.NewPathAttributeMpUnreachNLRI(prefixes(lb.IPv6, part))}, nil))
	}
	return out
}

// announcements: IPv4 with an IPv4 next hop as in RFC 4271, everything else in
// MP_REACH_NLRI, which comes first (RFC 7606, section 5.1).
func (e *encoder) announcements(a bgp.Announcement) []*packet.BGPMessage {
	common := e.attributes(a.Attributes)
	size := 0
	for _, attr := range common {
		size += attr.Len()
	}
	var out []*packet.BGPMessage
	if a.Family == lb.IPv4 && a.NextHop.Is4() {
		attrs := append([]packet.PathAttributeInterface{common[0], common[1], packet.NewPathAttributeNextHop(a.NextHop.String())}, common[2:]...)
		for _, part := range chunks(a.Prefixes, room(size+7)) {
			out = append(out, packet.NewBGPUpdateMessage(nil, attrs, prefixes4(part)))
		}
		return out
	}
	const reach = 4 + 3 + 1 + 32 + 1 // header, family, next hops and their length, reserved
	for _, part := range chunks(a.Prefixes, room(size+reach)) {
		mp := packet.NewPathAttributeMpReachNLRI(a.NextHop.String(), prefixes(a.Family, part))
		if a.LinkLocal.IsValid() {
			mp.LinkLocalNexthop = a.LinkLocal.AsSlice()
		}
		attrs := append([]packet.PathAttributeInterface{mp}, common...)
		out = append(out, packet.NewBGPUpdateMessage(nil, attrs, nil))
	}
	return out
}

// attributes returns ORIGIN and AS_PATH, then the optional ones, by type.
func (e *encoder) attributes(a bgp.Attributes) []packet.PathAttributeInterface {
	attrs := []packet.PathAttributeInterface{
		packet.NewPathAttributeOrigin(packet.BGP_ORIGIN_ATTR_TYPE_IGP),
		packet.NewPathAttributeAsPath(e.path()),
	}
	if e.internal {
		attrs = append(attrs, packet.NewPathAttributeLocalPref(a.LocalPref))
	}
	if len(a.Communities) > 0 {
		attrs = append(attrs, packet.NewPathAttributeCommunities(a.Communities))
	}
	if a.Bandwidth > 0 {
		attrs = append(attrs, packet.NewPathAttributeExtendedCommunities([]packet.ExtendedCommunityInterface{e.bandwidth(a.Bandwidth)}))
	}
	if !e.internal && !e.fourByteAS && e.localAS > math.MaxUint16 {
		attrs = append(attrs, packet.NewPathAttributeAs4Path([]*packet.As4PathParam{packet.NewAs4PathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{e.localAS})}))
	}
	if len(a.Large) > 0 {
		large := make([]*packet.LargeCommunity, len(a.Large))
		for i, c := range a.Large {
			large[i] = packet.NewLargeCommunity(c.Global, c.Local1, c.Local2)
		}
		attrs = append(attrs, packet.NewPathAttributeLargeCommunities(large))
	}
	return attrs
}

func (e *encoder) path() []packet.AsPathParamInterface {
	switch {
	case e.internal:
		return nil
	case e.fourByteAS:
		return []packet.AsPathParamInterface{packet.NewAs4PathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{e.localAS})}
	}
	return []packet.AsPathParamInterface{packet.NewAsPathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, []uint16{twoBytes(e.localAS)})}
}

// bandwidth is the link bandwidth community. Its type says whether it may
// leave the AS: over an external session it has to be the transitive one, or a
// router may not accept it.
func (e *encoder) bandwidth(bytesPerSecond float32) packet.ExtendedCommunityInterface {
	if e.internal {
		return packet.NewLinkBandwidthExtended(twoBytes(e.localAS), bytesPerSecond)
	}
	value := make([]byte, 7)
	value[0] = byte(packet.EC_SUBTYPE_LINK_BANDWIDTH)
	binary.BigEndian.PutUint16(value[1:], twoBytes(e.localAS))
	binary.BigEndian.PutUint32(value[3:], math.Float32bits(bytesPerSecond))
	return packet.NewUnknownExtended(packet.EC_TYPE_TRANSITIVE_TWO_OCTET_AS_SPECIFIC, value)
}

func prefixes4(list []netip.Prefix) []*packet.IPAddrPrefix {
	out := make([]*packet.IPAddrPrefix, len(list))
	for i, p := range list {
		out[i] = packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
	}
	return out
}

func prefixes(f lb.Family, list []netip.Prefix) []packet.AddrPrefixInterface {
	out := make([]packet.AddrPrefixInterface, len(list))
	for i, p := range list {
		if f == lb.IPv4 {
			out[i] = packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
		} else {
			out[i] = packet.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String())
		}
	}
	return out
}
