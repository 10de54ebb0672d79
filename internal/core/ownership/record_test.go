// SPDX-License-Identifier: Apache-2.0

package ownership_test

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
)

// deaf is n2, which believes that n1 answers for an address; and n1.
func deaf(t *testing.T) (n1, n2 *ownership.Machine) {
	t.Helper()
	g := group("192.0.2.2", "n1", "n2")
	n1, n2 = settled("n1", g), settled("n2", g)
	introduce(t, map[lb.NodeName]*ownership.Machine{"n1": n1, "n2": n2})
	post(t, n1.Ready(), n2)
	n2.Ready()
	n2.Published("n1", n1.Record())
	return n1, n2
}

// pass lets time go by on a machine, and reports whether it asked for states.
func pass(m *ownership.Machine, from, to time.Duration) (asked bool) {
	for at := from; at <= to; at += ownership.TickInterval {
		m.Tick(start.Add(at))
		asked = m.Ready().Resync || asked
	}
	return asked
}

// TestStaleRecord: n1 has lost its interface and can tell nobody, but is heard.
// Who does not get its newest record asks for it, and then takes what n1 had.
func TestStaleRecord(t *testing.T) {
	t.Parallel()
	n1, n2 := deaf(t)
	n1.SetInterfaces(nil)
	n1.Ready() // gets nowhere
	n2.Published("n1", n1.Record())
	if asked := pass(n2, 0, 300*time.Millisecond); !asked {
		t.Error("n2 does not ask for the record")
	}
	if len(n2.Answers()) != 0 {
		t.Error("n2 does not wait for a record that may be on its way")
	}
	pass(n2, 400*time.Millisecond, 500*time.Millisecond)
	if len(n2.Answers()) != 1 {
		t.Fatal("n2 goes on relying on the record of n1, which is out of date")
	}
	if asked := pass(n2, 600*time.Millisecond, 3*time.Second); asked {
		t.Error("n2 asks for ever")
	}

	n1.SetInterfaces([]string{"eth0"})
	n2.Published("n1", n1.Record())
	receive(t, n2, n1.State())
	n2.Ready()
	if why := n2.Why(addr("192.0.2.2"), "n1"); why.Code != reason.NodeNotElected {
		t.Errorf("with its newest record n1 is %v, want a candidate", why)
	}
}

// TestRecordOnTime: heartbeats are often faster than gossip, and a speaker that
// was restarted with its clock set back begins with a lower version. Neither
// moves anything.
func TestRecordOnTime(t *testing.T) {
	t.Parallel()
	n1, n2 := deaf(t)
	n1.SetInterfaces([]string{"eth0", "eth1"})
	n2.Published("n1", n1.Record())
	pass(n2, 0, 300*time.Millisecond)
	post(t, n1.Ready(), n2)
	pass(n2, 400*time.Millisecond, time.Second)
	if len(n2.Answers()) != 0 {
		t.Error("n2 takes the address though the record came")
	}

	n2.Published("n1", n1.Record()+1) // said by a life that ended before it told what
	n2.Published("n1", 1)
	pass(n2, 1100*time.Millisecond, 2*time.Second)
	if len(n2.Answers()) != 0 {
		t.Error("n2 waits for the record of a former life")
	}
}
