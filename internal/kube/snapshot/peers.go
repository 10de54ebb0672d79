// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Defaults of a BGPPeer.
const (
	defaultPort     = 179
	maxPort         = 16384
	defaultHoldTime = 90 * time.Second
	minHoldTime     = 3 * time.Second // RFC 4271, section 4.2
	maxHoldTime     = 65535 * time.Second
	maxConnectTime  = 65535 * time.Second
)

func (b *builder) bfdProfiles(objs []*v1beta1.BFDProfile) []lb.BFDProfile {
	var out []lb.BFDProfile
	for _, obj := range objs {
		sub := b.subject(KindBFDProfile, obj)
		spec := &obj.Spec
		ms := func(field string, v *int32, def int) time.Duration {
			return time.Duration(sub.number("spec."+field, v, def, 10, 60000)) * time.Millisecond
		}
		p := lb.BFDProfile{
			Name:             obj.Name,
			ReceiveInterval:  ms("receiveInterval", spec.ReceiveInterval, 300),
			TransmitInterval: ms("transmitInterval", spec.TransmitInterval, 300),
			DetectMultiplier: uint8(sub.number("spec.detectMultiplier", spec.DetectMultiplier, 3, 2, 255)),
			EchoMode:         spec.EchoMode != nil && *spec.EchoMode,
			EchoInterval:     ms("echoInterval", spec.EchoInterval, 50),
			Passive:          spec.PassiveMode != nil && *spec.PassiveMode,
			MinimumTTL:       uint8(sub.number("spec.minimumTtl", spec.MinimumTTL, 254, 1, 254)),
		}
		if !sub.bad {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b lb.BFDProfile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (b *builder) peers(objs []*v1beta2.BGPPeer, profiles []lb.BFDProfile) []lb.Peer {
	var out []lb.Peer
	for _, obj := range objs {
		sub := b.subject(KindPeer, obj)
		p := sub.peer(obj)
		if p.BFDProfile != "" && !slices.ContainsFunc(profiles, func(f lb.BFDProfile) bool { return f.Name == p.BFDProfile }) {
			have := make([]string, len(profiles))
			for i, f := range profiles {
				have[i] = f.Name
			}
			sub.fail(reason.UnknownReference, "spec.bfdProfile", p.BFDProfile, "%s", among("valid "+KindBFDProfile, have))
		}
		if !sub.bad {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b lb.Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *subject) peer(obj *v1beta2.BGPPeer) lb.Peer {
	spec := &obj.Spec
	p := lb.Peer{
		Name:            obj.Name,
		NodeSelectors:   s.selectors("spec.nodeSelectors", spec.NodeSelectors),
		MyASN:           spec.MyASN,
		PeerASN:         spec.PeerASN,
		DynamicASN:      string(spec.DynamicASN),
		LocalASN:        spec.LocalASN,
		Interface:       spec.Interface,
		SourceAddress:   s.address("spec.sourceAddress", spec.SourceAddress),
		Port:            defaultPort,
		RouterID:        s.address("spec.routerID", spec.RouterID),
		Password:        spec.Password,
		PasswordSecret:  spec.PasswordSecret.Name,
		BFDProfile:      spec.BFDProfile,
		GracefulRestart: spec.EnableGracefulRestart,
		EBGPMultiHop:    spec.EBGPMultiHop,
		VRF:             spec.VRF,
		DualStack:       spec.DualStackAddressFamily,
	}
	s.peerNumbers(&p, spec)
	s.peerTimers(&p, spec)
	if p.RouterID.Is6() {
		s.fail(reason.BadField, "spec.routerID", spec.RouterID, "a router ID is written as an IPv4 address")
	}
	switch {
	case spec.PeerAddress == "" && spec.Interface == "":
		s.fail(reason.BadField, "spec.peerAddress", "", "set either peerAddress or interface")
	case spec.PeerAddress != "" && spec.Interface != "":
		s.fail(reason.BadField, "spec.interface", spec.Interface, "peerAddress is set too: remove one of the two")
	default:
		p.Address = s.address("spec.peerAddress", spec.PeerAddress)
	}
	if p.Address.IsValid() && p.SourceAddress.IsValid() && p.Address.BitLen() != p.SourceAddress.BitLen() {
		s.fail(reason.BadField, "spec.sourceAddress", spec.SourceAddress, "it is %s and peerAddress is %s: use one family", lb.FamilyOf(p.SourceAddress), lb.FamilyOf(p.Address))
	}
	if spec.Password != "" && spec.PasswordSecret.Name != "" {
		s.fail(reason.BadField, "spec.passwordSecret", spec.PasswordSecret.Name, "password is set too: remove one of the two")
	}
	return p
}

// peerNumbers checks AS numbers and the port.
func (s *subject) peerNumbers(p *lb.Peer, spec *v1beta1.BGPPeerSpec) {
	if p.MyASN == 0 {
		s.fail(reason.BadField, "spec.myASN", "0", "write the AS number of this cluster, 1 to 4294967295")
	}
	switch {
	case p.PeerASN == 0 && p.DynamicASN == "":
		s.fail(reason.BadField, "spec.peerASN", "", "set either peerASN or dynamicASN")
	case p.PeerASN != 0 && p.DynamicASN != "":
		s.fail(reason.BadField, "spec.dynamicASN", p.DynamicASN, "peerASN is set too: remove one of the two")
	case p.DynamicASN != "" && spec.DynamicASN != v1beta1.DynamicASNInternal && spec.DynamicASN != v1beta1.DynamicASNExternal:
		s.fail(reason.BadField, "spec.dynamicASN", p.DynamicASN, "write internal or external")
	}
	if p.EBGPMultiHop && (p.PeerASN == p.MyASN || spec.DynamicASN == v1beta1.DynamicASNInternal) {
		s.fail(reason.BadField, "spec.ebgpMultiHop", "true", "the peer has the same AS number, and multihop is only for eBGP: remove it")
	}
	switch {
	case spec.PeerPort > maxPort:
		s.fail(reason.BadField, "spec.peerPort", strconv.Itoa(int(spec.PeerPort)), "it must be a number from 1 to %d", maxPort)
	case spec.PeerPort != 0:
		p.Port = spec.PeerPort
	}
}

// peerTimers checks the timers; the defaults depend on each other.
func (s *subject) peerTimers(p *lb.Peer, spec *v1beta1.BGPPeerSpec) {
	duration := func(d *metav1.Duration, def time.Duration) time.Duration {
		if d == nil {
			return def
		}
		return d.Duration
	}
	p.HoldTime = duration(spec.HoldTime, defaultHoldTime)
	if p.HoldTime != 0 && (p.HoldTime < minHoldTime || p.HoldTime > maxHoldTime) {
		s.fail(reason.BadField, "spec.holdTime", p.HoldTime.String(), "it must be 0s (no keepalives) or from %s to %s", minHoldTime, maxHoldTime)
	}
	p.KeepaliveTime = duration(spec.KeepaliveTime, p.HoldTime/3)
	if p.KeepaliveTime < 0 || p.KeepaliveTime > p.HoldTime {
		s.fail(reason.BadField, "spec.keepaliveTime", p.KeepaliveTime.String(), "it must not be longer than holdTime, which is %s", p.HoldTime)
	}
	p.ConnectTime = duration(spec.ConnectTime, 0)
	if spec.ConnectTime != nil && (p.ConnectTime < time.Second || p.ConnectTime > maxConnectTime || p.ConnectTime%time.Second != 0) {
		s.fail(reason.BadField, "spec.connectTime", p.ConnectTime.String(), "it must be whole seconds from 1s to %s", maxConnectTime)
	}
}

// address parses an optional address.
func (s *subject) address(field, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		s.fail(reason.BadField, field, text, "it is no IP address: write 192.0.2.1 or 2001:db8::1")
		return netip.Addr{}
	}
	return a.Unmap()
}
