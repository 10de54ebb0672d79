// SPDX-License-Identifier: Apache-2.0

package bgpinterop

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// TestKeepalivesDoNotWaitForPlans: with plans of 10,000 Services being made all
// the time, on more goroutines than there are cores, and thousands of routes to
// be sent, a router with a hold time of 3 s has its KEEPALIVE every second.
func TestKeepalivesDoNotWaitForPlans(t *testing.T) { //nolint:paralleltest // it keeps all cores busy
	var longest atomic.Int64
	at := listen(t, func(c *net.TCPConn) {
		if shake(c, 3) != nil {
			return
		}
		go func() {
			for { // the router's own
				if _, err := c.Write(keepalive()); err != nil {
					return
				}
				time.Sleep(500 * time.Millisecond)
			}
		}()
		heard := time.Now()
		header := make([]byte, 19)
		for {
			if _, err := io.ReadFull(c, header); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(header[16:]))-19); err != nil {
				return
			}
			longest.Store(max(longest.Load(), int64(time.Since(heard))))
			heard = time.Now()
		}
	})
	snap := manyServices(10_000)
	s := sessionAt("tor", at)
	s.Timers.Hold = 3 * time.Second
	d := speak(t)
	d.Set(wanted(s))
	awaitState(t, d, "tor", 15*time.Second, established)
	end := time.Now().Add(6 * time.Second)
	done := make(chan struct{})
	workers := 4 * runtime.GOMAXPROCS(0)
	for range workers {
		go func() {
			for time.Now().Before(end) {
				plan := announce.Plan(snap, "n1")
				bgp.Plan(snap, "n1", plan.BGP, bgp.Inputs{})
			}
			done <- struct{}{}
		}()
	}
	plan := announce.Plan(snap, "n1")
	s.Routes = bgp.Plan(snap, "n1", plan.BGP, bgp.Inputs{}).Sessions[0].Routes
	if len(s.Routes) != 10_000 {
		t.Fatalf("%d routes are planned", len(s.Routes))
	}
	d.Set(wanted(s))
	for range workers {
		<-done
	}
	state := stateOf(d, "tor")
	gap := time.Duration(longest.Load())
	t.Logf("longest time without a message: %v", gap.Round(time.Millisecond))
	if !established(state) || state.Counters.OpensSent != 1 || gap > 3*time.Second {
		t.Errorf("longest time without a message: %v; session %+v", gap, state)
	}
}

// manyServices is a cluster with that many Services, all announced by n1.
func manyServices(n int) *lb.Snapshot {
	s := &lb.Snapshot{
		Nodes:             []lb.Node{{Name: "n1"}},
		Pools:             []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: netip.MustParseAddr("198.18.0.0"), To: netip.MustParseAddr("198.18.255.255")}}}},
		BGPAdvertisements: []lb.BGPAdvertisement{{Name: "all", Scope: lb.Scope{AllPools: true}, AggregationLength: 32, AggregationLengthV6: 128, Communities: []uint32{1, 2}}},
		Peers:             []lb.Peer{{Name: "tor", MyASN: 64512, PeerASN: 64600, Address: netip.MustParseAddr("127.0.0.1"), Port: 179}},
	}
	for i := range n {
		s.Services = append(s.Services, lb.Service{
			Key:      lb.ServiceKey{Namespace: "d", Name: "s" + netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String()},
			Assigned: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}, AssignedPools: []string{"p"},
			Endpoints: []lb.NodeEndpoints{{Node: "n1", Count: 1}},
		})
	}
	return s
}
