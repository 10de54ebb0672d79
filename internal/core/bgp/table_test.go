// SPDX-License-Identifier: Apache-2.0

package bgp_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// peerTable is a router: it believes what it is told.
type peerTable map[netip.Prefix]string

func (p peerTable) take(messages []bgp.Message) (updates int) {
	for _, msg := range messages {
		switch msg := msg.(type) {
		case bgp.Withdrawal:
			for _, prefix := range msg.Prefixes {
				delete(p, prefix)
				updates++
			}
		case bgp.Announcement:
			for _, prefix := range msg.Prefixes {
				p[prefix] = text(msg.Attributes)
				updates++
			}
		}
	}
	return updates
}

func text(a bgp.Attributes) string {
	return fmt.Sprint(a.LocalPref, a.Communities, a.Large, a.Bandwidth)
}

// TestRandomTables: after each change the router has exactly what is wanted,
// and was told nothing that it knew already.
func TestRandomTables(t *testing.T) {
	t.Parallel()
	for n := range 200 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		cfg := config()
		cfg.Key.V6, cfg.Local.Interface6 = true, addr("2001:db8::1")
		router := peerTable{}
		m, sent := up(t, cfg, peerOpen())
		router.take(sent)
		before := map[netip.Prefix]string{}
		for range 30 {
			want := randomRoutes(r)
			after := map[netip.Prefix]string{}
			for _, x := range want {
				after[x.Prefix] = text(x.Attributes)
			}
			refreshed := r.IntN(8) == 0
			if refreshed {
				m.Receive(bgp.Refresh{Family: lb.IPv4}, begin)
			}
			m.Set(want)
			updates := router.take(m.Ready().Send)
			if diff := cmp.Diff(after, map[netip.Prefix]string(router), compare); diff != "" {
				t.Fatalf("run %d, seed %d: the router has something else (-want +got):\n%s", n, seed, diff)
			}
			if least := changes(before, after); !refreshed && updates != least {
				t.Fatalf("run %d, seed %d: %d updates, %d would do", n, seed, updates, least)
			}
			if m.Prefixes() != len(after) {
				t.Fatalf("run %d, seed %d: %d prefixes, want %d", n, seed, m.Prefixes(), len(after))
			}
			before = after
		}
	}
}

func changes(before, after map[netip.Prefix]string) int {
	n := 0
	for p, a := range after {
		if b, ok := before[p]; !ok || a != b {
			n++
		}
	}
	for p := range before {
		if _, ok := after[p]; !ok {
			n++
		}
	}
	return n
}

func randomRoutes(r *rand.Rand) []bgp.Route {
	routes := map[netip.Prefix]bgp.Route{}
	for range r.IntN(12) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(r.IntN(8))}), 31+r.IntN(2)).Masked()
		if r.IntN(3) == 0 {
			p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(r.IntN(4))}), 128)
		}
		x := bgp.Route{Prefix: p, Attributes: bgp.Attributes{LocalPref: uint32(r.IntN(2))}}
		if r.IntN(2) == 0 {
			x.Communities = []uint32{uint32(r.IntN(2))}
		}
		routes[p] = x
	}
	out := slices.Collect(maps.Values(routes))
	slices.SortFunc(out, func(a, b bgp.Route) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return out
}

// TestBatches: many routes are told in several batches, each when the one
// before is sent; a change in between counts at once; the end is told once.
func TestBatches(t *testing.T) {
	t.Parallel()
	var routes []bgp.Route
	for i := range 7000 {
		routes = append(routes, bgp.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32), Attributes: bgp.Attributes{Communities: []uint32{uint32(i % 3)}}})
	}
	router := peerTable{}
	ends := 0
	take := func(messages []bgp.Message) {
		for _, msg := range messages {
			if _, ok := msg.(bgp.EndOfRIB); ok {
				ends++
			}
		}
		if n := router.take(messages); n > 2001 {
			t.Errorf("a batch of %d routes", n)
		}
	}
	m, sent := up(t, config(), peerOpen(), routes...)
	take(sent)
	if ends != 0 {
		t.Error("the end was told before it")
	}
	changed := slices.Clone(routes[1:]) // the first is gone, the second is another
	changed[0].Communities = []uint32{99}
	m.Set(changed)
	for range 10 {
		take(m.Ready().Send)
	}
	m.Receive(bgp.Refresh{Family: lb.IPv4}, begin)
	for range 10 {
		take(m.Ready().Send)
	}
	want := peerTable{}
	for _, r := range changed {
		want[r.Prefix] = text(r.Attributes)
	}
	if diff := cmp.Diff(want, router, compare); diff != "" {
		t.Errorf("the router has something else (-want +got):\n%s", diff)
	}
	if ends != 2 || m.Prefixes() != len(changed) {
		t.Errorf("%d ends, %d prefixes; want 2, %d", ends, m.Prefixes(), len(changed))
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	type step struct {
		outcome bgp.Outcome
		took    time.Duration
		want    time.Duration
	}
	const ms = time.Millisecond
	tests := []struct {
		name  string
		steps []step
	}{
		{"never up: longer and longer, up to the limit", []step{
			{bgp.Unreachable, 0, 500 * ms}, {bgp.Unreachable, 0, 1000 * ms}, {bgp.Unreachable, 0, 2000 * ms}, {bgp.Unreachable, 0, 4000 * ms},
			{bgp.Unreachable, 0, 5000 * ms}, {bgp.Unreachable, 0, 5000 * ms},
		}},
		{"up before: once a second or more often, for ever", []step{
			{bgp.Lost, time.Hour, 50 * ms}, {bgp.Unreachable, 0, 850 * ms}, {bgp.Unreachable, 850 * ms, 50 * ms}, {bgp.Unreachable, 0, 850 * ms},
		}},
		{"a bad OPEN is not forgiven for a connection", []step{
			{bgp.Refused, 0, 500 * ms}, {bgp.Refused, 0, 1000 * ms}, {bgp.Unreachable, 0, 2000 * ms}, {bgp.Refused, 0, 4000 * ms}, {bgp.Refused, 0, 5000 * ms},
		}},
		{"a session that does not last is one more failure", []step{
			{bgp.Lost, time.Second, 500 * ms}, {bgp.Lost, time.Second, 1000 * ms}, {bgp.Refused, 0, 2000 * ms}, {bgp.Lost, time.Minute, 50 * ms}, {bgp.Lost, time.Second, 500 * ms},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := bgp.Backoff{Limit: 5 * time.Second}
			for i, s := range tt.steps {
				if got := b.Wait(s.outcome, s.took, 0); got != s.want {
					t.Errorf("step %d: wait %v, want %v", i, got, s.want)
				}
			}
		})
	}
	b := bgp.Backoff{Limit: 5 * time.Second}
	if got, want := b.Wait(bgp.Refused, 0, 1), 375*ms; got != want {
		t.Errorf("with jitter %v, want %v", got, want)
	}
}
