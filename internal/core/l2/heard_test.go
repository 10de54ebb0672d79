// SPDX-License-Identifier: Apache-2.0

package l2_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/l2"
)

func TestHeard(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	arp := l2.InterfaceError{Interface: "eth0", Message: "ARP: no", NoIPv4: true}
	ndp := l2.InterfaceError{Interface: "eth0", Message: "NDP: no", NoIPv6: true}
	groups := l2.InterfaceError{Interface: "eth0", Message: "groups: no"}
	announced := func(ip netip.Addr, names ...string) l2.AddressState {
		return l2.AddressState{IP: ip, Phase: l2.PhaseAnnouncing, Interfaces: names}
	}
	probed := func(names ...string) l2.AddressState {
		return l2.AddressState{IP: v4, Phase: l2.PhaseProbing, Probing: names}
	}
	for _, tt := range []struct {
		name       string
		errors     []l2.InterfaceError
		address    l2.AddressState
		interfaces []string
		why        []l2.InterfaceError
	}{
		{"all is well", nil, announced(v4, "eth0"), []string{"eth0"}, nil},
		{"deaf", []l2.InterfaceError{arp}, announced(v4, "eth0"), nil, []l2.InterfaceError{arp}},
		{"the other family", []l2.InterfaceError{ndp}, announced(v4, "eth0"), []string{"eth0"}, nil},
		{"IPv6", []l2.InterfaceError{arp, ndp}, announced(v6, "eth0"), nil, []l2.InterfaceError{ndp}},
		{"only some groups", []l2.InterfaceError{groups}, announced(v6, "eth0"), []string{"eth0"}, nil},
		{"one of two", []l2.InterfaceError{arp}, announced(v4, "eth0", "eth1"), []string{"eth1"}, nil},
		{"another interface", []l2.InterfaceError{arp}, announced(v4, "eth1"), []string{"eth1"}, nil},
		{"questions that nobody can ask", []l2.InterfaceError{arp}, probed("eth0"), nil, []l2.InterfaceError{arp}},
		{"questions asked elsewhere", []l2.InterfaceError{arp}, probed("eth0", "eth1"), nil, nil},
		{"not wanted anywhere", []l2.InterfaceError{arp}, announced(v4), nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := l2.State{Errors: tt.errors}
			interfaces, why := s.Heard(&tt.address)
			if diff := cmp.Diff(tt.interfaces, interfaces); diff != "" {
				t.Errorf("interfaces (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.why, why); diff != "" {
				t.Errorf("why (-want +got):\n%s", diff)
			}
		})
	}
}
