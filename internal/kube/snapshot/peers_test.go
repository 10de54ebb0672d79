// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

func TestPeer(t *testing.T) {
	t.Parallel()
	base := lb.Peer{
		Name: "x", MyASN: 64512, PeerASN: 64513, Address: netip.MustParseAddr("192.0.2.1"),
		Port: 179, HoldTime: 90 * time.Second, KeepaliveTime: 30 * time.Second,
	}
	const least = `myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1`
	tests := []struct {
		name, spec string
		want       func(*lb.Peer)
		problem    string
	}{
		{name: "defaults", spec: least, want: func(*lb.Peer) {}},
		{name: "all fields", spec: `myASN: 64512, dynamicASN: external, localASN: 64999, interface: eth1, sourceAddress: "2001:db8::2", peerPort: 1179,
			holdTime: 9s, keepaliveTime: 2s, connectTime: 5s, routerID: 192.0.2.9, passwordSecret: {name: s}, bfdProfile: fast, enableGracefulRestart: true,
			ebgpMultiHop: true, vrf: red, dualStackAddressFamily: true, nodeSelectors: [{matchLabels: {a: b}}]`,
			want: func(p *lb.Peer) {
				*p = lb.Peer{
					Name: "x", MyASN: 64512, DynamicASN: "external", LocalASN: 64999, Interface: "eth1", SourceAddress: netip.MustParseAddr("2001:db8::2"),
					Port: 1179, HoldTime: 9 * time.Second, KeepaliveTime: 2 * time.Second, ConnectTime: 5 * time.Second, RouterID: netip.MustParseAddr("192.0.2.9"),
					PasswordSecret: "s", BFDProfile: "fast", GracefulRestart: true, EBGPMultiHop: true, VRF: "red", DualStack: true,
					NodeSelectors: []lb.Selector{{Requirements: []lb.Requirement{{Key: "a", Op: lb.In, Values: []string{"b"}}}}},
				}
			}},
		{name: "no keepalives", spec: least + `, holdTime: 0s`, want: func(p *lb.Peer) { p.HoldTime, p.KeepaliveTime = 0, 0 }},
		{name: "keepalive follows hold", spec: least + `, holdTime: 9s`, want: func(p *lb.Peer) { p.HoldTime, p.KeepaliveTime = 9*time.Second, 3*time.Second }},
		{name: "password", spec: least + `, password: secret`, want: func(p *lb.Peer) { p.Password = "secret" }},
		{name: "no AS", spec: `peerASN: 1, peerAddress: 192.0.2.1`, problem: `BadField: spec.myASN "0": write the AS number of this cluster, 1 to 4294967295`},
		{name: "no peer AS", spec: `myASN: 1, peerAddress: 192.0.2.1`, problem: `BadField: spec.peerASN: set either peerASN or dynamicASN`},
		{name: "both", spec: least + `, dynamicASN: internal`, problem: `BadField: spec.dynamicASN "internal": peerASN is set too: remove one of the two`},
		{name: "bad dynamic", spec: `myASN: 1, dynamicASN: up, peerAddress: 192.0.2.1`, problem: `BadField: spec.dynamicASN "up": write internal or external`},
		{name: "no address", spec: `myASN: 1, peerASN: 2`, problem: `BadField: spec.peerAddress: set either peerAddress or interface`},
		{name: "address and interface", spec: least + `, interface: eth0`, problem: `BadField: spec.interface "eth0": peerAddress is set too: remove one of the two`},
		{name: "bad address", spec: `myASN: 1, peerASN: 2, peerAddress: router`, problem: `BadField: spec.peerAddress "router": it is no IP address: write 192.0.2.1 or 2001:db8::1`},
		{name: "two families", spec: least + `, sourceAddress: "2001:db8::1"`, problem: `BadField: spec.sourceAddress "2001:db8::1": it is IPv6 and peerAddress is IPv4: use one family`},
		{name: "port", spec: least + `, peerPort: 16385`, problem: `BadField: spec.peerPort "16385": it must be a number from 1 to 16384`},
		{name: "hold", spec: least + `, holdTime: 2s`, problem: `BadField: spec.holdTime "2s": it must be 0s (no keepalives) or from 3s to 18h12m15s`},
		{name: "keepalive", spec: least + `, holdTime: 9s, keepaliveTime: 10s`, problem: `BadField: spec.keepaliveTime "10s": it must not be longer than holdTime, which is 9s`},
		{name: "connect", spec: least + `, connectTime: 1500ms`, problem: `BadField: spec.connectTime "1.5s": it must be whole seconds from 1s to 18h12m15s`},
		{name: "router id", spec: least + `, routerID: "2001:db8::1"`, problem: `BadField: spec.routerID "2001:db8::1": a router ID is written as an IPv4 address`},
		{name: "multihop inside", spec: `myASN: 1, peerASN: 1, peerAddress: 192.0.2.1, ebgpMultiHop: true`, problem: `BadField: spec.ebgpMultiHop "true": the peer has the same AS number, and multihop is only for eBGP: remove it`},
		{name: "two passwords", spec: least + `, password: hush, passwordSecret: {name: s}`, problem: `BadField: spec.passwordSecret "s": password is set too: remove one of the two`},
		{name: "bfd", spec: least + `, bfdProfile: slow`, problem: `UnknownReference: spec.bfdProfile "slow": no valid BFDProfile has this name: create it, or use one of fast`},
		{name: "selector", spec: least + `, nodeSelectors: [{matchLabels: {"a b": c}}]`, problem: `BadSelector: spec.nodeSelectors[0]: key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'): correct the selector`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := build(snapshot.Objects{
				Peers:       []*v1beta2.BGPPeer{peer(t, "x", "{"+tt.spec+"}"), peer(t, "y", "{"+least+"}")},
				BFDProfiles: []*v1beta1.BFDProfile{bfd(t, "fast", `{}`)},
			})
			other := base
			other.Name = "y"
			want, problems := []lb.Peer{other}, []string{"BGPPeer x: " + tt.problem}
			if tt.want != nil {
				p := base
				tt.want(&p)
				want, problems = []lb.Peer{p, other}, nil
			}
			if diff := cmp.Diff(want, got.Peers, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(problems, lines(got.problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBFDProfile(t *testing.T) {
	t.Parallel()
	got := build(snapshot.Objects{BFDProfiles: []*v1beta1.BFDProfile{
		bfd(t, "default", `{}`),
		bfd(t, "all", `{receiveInterval: 50, transmitInterval: 60, detectMultiplier: 5, echoInterval: 70, echoMode: true, passiveMode: true, minimumTtl: 200}`),
		bfd(t, "bad", `{receiveInterval: 9, detectMultiplier: 256, minimumTtl: 255}`),
	}})
	const ms = time.Millisecond
	want := []lb.BFDProfile{
		{Name: "all", ReceiveInterval: 50 * ms, TransmitInterval: 60 * ms, DetectMultiplier: 5, EchoInterval: 70 * ms, EchoMode: true, Passive: true, MinimumTTL: 200},
		{Name: "default", ReceiveInterval: 300 * ms, TransmitInterval: 300 * ms, DetectMultiplier: 3, EchoInterval: 50 * ms, MinimumTTL: 254},
	}
	if diff := cmp.Diff(want, got.BFDProfiles); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	problems := []string{
		`BFDProfile bad: BadField: spec.detectMultiplier "256": it must be a number from 2 to 255`,
		`BFDProfile bad: BadField: spec.minimumTtl "255": it must be a number from 1 to 254`,
		`BFDProfile bad: BadField: spec.receiveInterval "9": it must be a number from 10 to 60000`,
	}
	if diff := cmp.Diff(problems, lines(got.problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
