// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
)

// probes reports whether the responder is asked to probe an address first.
func (r *fakeResponder) probes(ip netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.wanted.Addresses {
		if a.IP == ip {
			return a.Probe
		}
	}
	return false
}

// An address that is new to the cluster is probed until it is announced without
// contest: also by whoever comes after this node.
func TestEngineProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, nodes := startCluster(t, 1)
		n := nodes[0]
		if n.responder.answers(vip) == nil || !n.responder.probes(vip) {
			t.Fatal("a new address is not probed")
		}
		for _, step := range []struct {
			name   string
			state  l2.AddressState
			probes bool
		}{
			{"somebody else has it", l2.AddressState{IP: vip, Phase: l2.PhaseContested, Contested: true}, true},
			{"announced on one link, contested on another", l2.AddressState{IP: vip, Phase: l2.PhaseAnnouncing, Contested: true}, true},
			{"announced", l2.AddressState{IP: vip, Phase: l2.PhaseAnnouncing}, false},
		} {
			n.responder.mu.Lock()
			n.responder.state = l2.State{Addresses: []l2.AddressState{step.state}}
			n.responder.mu.Unlock()
			settle(2 * time.Second)
			if got := n.responder.probes(vip); got != step.probes {
				t.Errorf("%s: probed %v, want %v", step.name, got, step.probes)
			}
		}
		n.stop()
		<-n.done
	})
}
