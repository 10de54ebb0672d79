// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// services makes n Services, each in one of 100 namespaces.
func services(n int, edit func(i int, svc *lb.Service)) []lb.Service {
	out := make([]lb.Service, n)
	for i := range out {
		out[i] = lb.Service{
			Key:          lb.ServiceKey{Namespace: fmt.Sprintf("ns-%02d", i%100), Name: fmt.Sprintf("svc-%05d", i)},
			Created:      time.Unix(int64(i), 0),
			Families:     []lb.Family{lb.IPv4},
			FamilyPolicy: lb.SingleStack,
			Ports:        []lb.Port{{Protocol: "TCP", Number: 443}},
		}
		if edit != nil {
			edit(i, &out[i])
		}
	}
	return out
}

func namespaces() []lb.Namespace {
	var out []lb.Namespace
	for i := range 100 {
		out = append(out, lb.Namespace{Name: fmt.Sprintf("ns-%02d", i)})
	}
	return out
}

// pinnedPools makes n pools of 256 addresses, each for one namespace.
func pinnedPools(n int) []lb.Pool {
	var out []lb.Pool
	for i := range n {
		p, err := parsePool(fmt.Sprintf("pool-%03d", i), []string{
			fmt.Sprintf("10.1.%d.0/24", i), fmt.Sprintf("namespaces=ns-%02d", i%100), fmt.Sprintf("priority=%d", i%7),
		})
		must(err)
		out = append(out, p)
	}
	return out
}

func genericPool(ranges ...string) []lb.Pool {
	p, err := parsePool("zz-generic", ranges)
	must(err)
	return []lb.Pool{p}
}

func plan(b *testing.B, s lb.Snapshot, want int) {
	b.ReportAllocs()
	for b.Loop() {
		got := 0
		for _, d := range ipam.Plan(s).Services {
			got += len(d.Addresses)
		}
		if got != want {
			b.Fatalf("%d addresses, want %d", got, want)
		}
	}
}

const tenThousand = 10_000

// mixed is a cluster with pools for each namespace, which are too small, and a
// big one for everybody.
func mixed(edit func(i int, svc *lb.Service)) lb.Snapshot {
	return lb.Snapshot{
		Pools:      append(pinnedPools(100), genericPool("10.2.0.0/16", "2001:db8::/64")...),
		Namespaces: namespaces(),
		Services:   services(tenThousand, edit),
	}
}

// BenchmarkPlan10k plans 10,000 Services from nothing.
func BenchmarkPlan10k(b *testing.B) { plan(b, mixed(nil), tenThousand) }

// BenchmarkSettled10k plans 10,000 Services that have all they want.
func BenchmarkSettled10k(b *testing.B) {
	snap := mixed(nil)
	plan(b, after(snap, ipam.Plan(snap)), tenThousand)
}

// BenchmarkHard10k plans 10,000 Services that make more work than others.
func BenchmarkHard10k(b *testing.B) {
	const n = tenThousand
	dual := mixed(func(_ int, svc *lb.Service) {
		svc.Families, svc.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.PreferDualStack
	})
	b.Run("dual", func(b *testing.B) { plan(b, dual, 2*n) })

	full := lb.Snapshot{Pools: pinnedPools(100), Namespaces: namespaces(), Services: services(n, func(i int, svc *lb.Service) {
		svc.Key.Namespace = "ns-00"
	})}
	b.Run("waiting", func(b *testing.B) { plan(b, full, 256) })

	var many []lb.Pool
	for i := range 1000 {
		p, err := parsePool(fmt.Sprintf("p-%04d", i), []string{fmt.Sprintf("10.%d.%d.0/31", i/250, i%250)})
		must(err)
		many = append(many, p)
	}
	b.Run("waiting-1000-pools", func(b *testing.B) {
		plan(b, lb.Snapshot{Pools: many, Namespaces: namespaces(), Services: services(n, nil)}, 2000)
	})
	sharers := services(n, func(_ int, svc *lb.Service) { svc.SharingKey = "k" })
	b.Run("sharers-same-port", func(b *testing.B) {
		plan(b, lb.Snapshot{Pools: genericPool("10.2.0.0/16"), Namespaces: namespaces(), Services: sharers}, n)
	})
	b.Run("sharers-waiting-1000-pools", func(b *testing.B) {
		plan(b, lb.Snapshot{Pools: many, Namespaces: namespaces(), Services: sharers}, 2000)
	})
	oneAddress := services(n, func(i int, svc *lb.Service) {
		svc.SharingKey, svc.Ports = "k", []lb.Port{{Protocol: "TCP", Number: uint16(i + 1)}}
	})
	b.Run("sharers-one-address", func(b *testing.B) {
		plan(b, lb.Snapshot{Pools: genericPool("10.2.0.0/16"), Namespaces: namespaces(), Services: oneAddress}, n)
	})
}

// BenchmarkReserve10k plans 10,000 Services with quotas on every pool, and
// reservations in every namespace.
func BenchmarkReserve10k(b *testing.B) {
	limited := func(pools []lb.Pool, n int64) []lb.Pool {
		for i := range pools {
			pools[i].Quotas = []lb.Quota{{IPv4: n, IPv6: lb.NoLimit}}
		}
		return pools
	}
	reservations := func(n int) (out []lb.Reservation) {
		for i := range n {
			out = append(out, lb.Reservation{
				Key:  lb.ReservationKey{Namespace: fmt.Sprintf("ns-%02d", i%100), Name: fmt.Sprintf("r-%04d", i)},
				Pool: "zz-generic", IPv4: 10, Services: []string{fmt.Sprintf("svc-%05d", i)},
			})
		}
		return out
	}
	var generic []lb.Pool
	for i := range 100 {
		p, err := parsePool(fmt.Sprintf("p-%03d", i), []string{fmt.Sprintf("10.3.%d.0/24", i)})
		must(err)
		generic = append(generic, p)
	}
	quotas := lb.Snapshot{Pools: limited(generic, 1), Namespaces: namespaces(), Services: services(tenThousand, nil)}
	b.Run("quotas", func(b *testing.B) { plan(b, quotas, tenThousand) })
	waiting := quotas
	waiting.Services = services(tenThousand, func(_ int, svc *lb.Service) { svc.Key.Namespace = "ns-00" })
	b.Run("waiting-quotas", func(b *testing.B) { plan(b, waiting, 100) })
	reserved := mixed(nil)
	reserved.Reservations = reservations(1000)
	b.Run("1000-reservations", func(b *testing.B) { plan(b, reserved, tenThousand) })
	remembered := mixed(nil)
	for i := range tenThousand {
		a := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		remembered.Remembered = append(remembered.Remembered, lb.Remembered{Key: lb.ServiceKey{Namespace: "gone", Name: fmt.Sprintf("svc-%05d", i)}, Addresses: []netip.Addr{a}})
	}
	b.Run("10000-remembered", func(b *testing.B) { plan(b, remembered, tenThousand) })
}

// BenchmarkFill65k fills a /16 from nothing.
func BenchmarkFill65k(b *testing.B) {
	plan(b, lb.Snapshot{Pools: genericPool("10.2.0.0/16"), Namespaces: namespaces(), Services: services(1<<16, nil)}, 1<<16)
}
