// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// probes starts an answer and says whether it is to be probed.
func probes(t *testing.T, m *ownership.Machine) bool {
	t.Helper()
	r := m.Ready()
	if len(r.Start) != 1 {
		t.Fatalf("starts %v, want one address", r.Start)
	}
	return r.Start[0].Probe
}

// TestProbe has a new address probed by whoever is to announce it, until it was
// announced once.
func TestProbe(t *testing.T) {
	t.Parallel()
	ip := "192.0.2.2" // n1 comes first
	for _, proven := range []bool{false, true} {
		n1, n2 := settled("n1"), settled("n2")
		introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
		g := group(ip, "n1", "n2")
		n1.SetGroups(groups(g))
		n2.SetGroups(groups(g))
		if !probes(t, n1) {
			t.Error("an address that nobody had is not probed")
		}
		n2.Proven(addr(ip)) // it is not n2's to say
		if proven {
			n1.Proven(addr(ip))
			for _, b := range n1.Ready().Send {
				receive(t, n2, b.Data)
			}
		} else {
			receive(t, n2, n1.State())
		}
		n2.Ready()
		n1.SetInterfaces(nil)
		n1.Ready()
		n1.SetInterfaces([]string{"eth0"})
		if probes(t, n1) == proven {
			t.Errorf("after its link was down: probed %v, proven %v", !proven, proven)
		}
		n2.Down("n1")
		if probes(t, n2) == proven {
			t.Errorf("the successor probes %v, proven %v", !proven, proven)
		}
	}
}

// TestHardware finds the node of a MAC address, also when its record came by a
// node that does not pass on MAC addresses.
func TestHardware(t *testing.T) {
	t.Parallel()
	mac, other := ownership.MAC{2, 0, 0, 0, 0, 1}, ownership.MAC{2, 0, 0, 0, 0, 2}
	n1, n2 := settled("n1"), settled("n2")
	n1.SetHardware([]ownership.MAC{mac, mac})
	n1.Ready()
	receive(t, n2, n1.State())
	if name, ok := n2.NodeOf(mac); !ok || name != "n1" {
		t.Errorf("node of %v is %q, %v; want n1", mac, name, ok)
	}
	n1.SetHardware([]ownership.MAC{other})
	for _, b := range n1.Ready().Send {
		receive(t, n2, b.Data)
	}
	if name, ok := n2.NodeOf(mac); ok {
		t.Errorf("node of %v is still %q", mac, name)
	}
	if name, _ := n2.NodeOf(other); name != "n1" {
		t.Errorf("node of %v is %q, want n1", other, name)
	}
}
