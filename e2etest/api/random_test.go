// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
)

// random: the API server and a plain second implementation agree on random pools. Addresses are taken from few bits,
// so that about half of the pools are wrong. SEED repeats a run.
func (s suite) random(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	r := rand.New(rand.NewPCG(seed, 0))
	count := map[bool]int{}
	for range 150 {
		var addresses []string
		for range 1 + r.IntN(6) {
			addresses = append(addresses, randomRange(r))
		}
		wrong := overlap(addresses)
		count[wrong]++
		err := dryCreate(t, s.client, fmt.Sprintf("{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: random}, spec: {addresses: [\"%s\"]}}",
			strings.Join(addresses, `", "`)))
		said := err != nil && strings.Contains(err.Error(), "overlaps with")
		if said != wrong || (err != nil && !said) {
			t.Errorf("SEED=%d: %q: overlap is %t, but the API server says %v", seed, addresses, wrong, err)
		}
	}
	if count[true] < 20 || count[false] < 20 {
		t.Errorf("SEED=%d: %d right and %d wrong pools: the choice is poor", seed, count[false], count[true])
	}
}

// randomRange is a prefix or range of either family in one of many spellings.
func randomRange(r *rand.Rand) string {
	bases := []string{"10.0.255.0", "203.0.113.0", "2001:db8::", "::", "fe80:0:0:1::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0", "1:2:3:4:5:6:7:8", "64:ff9b::"}
	base := netip.MustParseAddr(bases[r.IntN(len(bases))])
	at := func() netip.Addr {
		b := base.AsSlice()
		b[len(b)-1] = byte(r.IntN(256))
		if len(b) == 16 {
			b[7+r.IntN(2)] = byte(r.IntN(256)) // on both sides of the middle, where the numbers are cut
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	text := func(a netip.Addr) string {
		if r.IntN(4) == 0 {
			return strings.ToUpper(a.StringExpanded())
		}
		return a.String()
	}
	if r.IntN(2) == 0 {
		a := at()
		bits := a.BitLen() - r.IntN(9)
		if a.Is6() && r.IntN(4) == 0 {
			bits = 56 + r.IntN(17)
		}
		return fmt.Sprintf("%s/%d", text(a), bits)
	}
	a, b := at(), at()
	if b.Less(a) {
		a, b = b, a
	}
	return text(a) + []string{"-", " - "}[r.IntN(2)] + text(b)
}

// overlap compares all pairs.
func overlap(addresses []string) bool {
	type bounds struct{ first, last netip.Addr }
	var all []bounds
	for _, a := range addresses {
		if from, to, isRange := strings.Cut(a, "-"); isRange {
			all = append(all, bounds{netip.MustParseAddr(strings.TrimSpace(from)), netip.MustParseAddr(strings.TrimSpace(to))})
			continue
		}
		p := netip.MustParsePrefix(a).Masked()
		last := p.Addr().AsSlice()
		for bit := p.Bits(); bit < len(last)*8; bit++ {
			last[bit/8] |= 1 << (7 - bit%8)
		}
		to, _ := netip.AddrFromSlice(last)
		all = append(all, bounds{p.Addr(), to})
	}
	for i, x := range all {
		for _, y := range all[:i] {
			if x.first.BitLen() == y.first.BitLen() &&
				bytes.Compare(x.first.AsSlice(), y.last.AsSlice()) <= 0 && bytes.Compare(y.first.AsSlice(), x.last.AsSlice()) <= 0 {
				return true
			}
		}
	}
	return false
}
