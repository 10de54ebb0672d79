// SPDX-License-Identifier: Apache-2.0

package checker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/wire"
)

var (
	epoch = time.Unix(1000, 0)
	addr  = netip.MustParseAddr("192.168.2.128")
)

// history reads "A 0-2000" (A answers every 100 ms from 0 to 2000 ms) and "A! 500" (A announces at 500 ms).
func history(t *testing.T, text string) []Claim {
	t.Helper()
	var claims []Claim
	for part := range strings.SplitSeq(text, ",") {
		who, when, _ := strings.Cut(strings.TrimSpace(part), " ")
		var from, to int
		if n, _ := fmt.Sscanf(when, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n == 0 {
			t.Fatalf("bad history %q", part)
		}
		for ms := from; ms <= to; ms += 100 {
			claims = append(claims, Claim{At: epoch.Add(time.Duration(ms) * time.Millisecond), Answer: wire.Answer{
				Addr: addr, MAC: mac(who[:1]), Announcement: strings.HasSuffix(who, "!")}})
		}
	}
	return claims
}

func mac(name string) wire.MAC       { return wire.MAC{0: 2, 5: name[0]} }
func macName(m wire.MAC) string      { return string(m[5]) }
func ms(d time.Duration) string      { return fmt.Sprint(d.Milliseconds()) }
func describe(os []Overlap) []string { return describeWith(os, epoch) }

func describeWith(os []Overlap, start time.Time) []string {
	var out []string
	for _, o := range os {
		out = append(out, fmt.Sprintf("%s then %s, %s-%s", macName(o.Older), macName(o.Newer),
			ms(o.From.Sub(start)), ms(o.To.Sub(start))))
	}
	return out
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, history string
		want          []string
	}{
		{"one owner", "A! 0, A 50-5000, A! 1000", nil},
		{"the owner dies, another takes over", "A 0-2000, B! 2500, B 2550-5000", nil},
		{"a clean hand-over", "A 0-2000, B! 2010, B 2050-5000", nil},
		{"there and back", "A 0-2000, B! 2010, B 2050-5000, A! 5100, A 5150-9000", nil},
		{"there and back at once", "A 0-2000, B! 2010, B 2050-2350, A! 2400, A 2450-9000", nil},
		{"there and back, without stopping", "A 0-9000, B! 2010, B 2050-2350, A! 2400", []string{"A then B, 2010-2400"}},
		{"a hand-over with a short overlap", "A 0-2000, B! 1960, B 1980-5000", []string{"A then B, 1960-2000"}},
		{"the older owner does not stop", "A 0-3000, B! 2000, B 2050-5000", []string{"A then B, 2000-3000"}},
		{"it never stops", "A 0-5000, B! 2000, B 2050-5050", []string{"A then B, 2000-5000"}},
		{"a former owner answers once more", "A 0-2000, B! 2050, B 2100-9000, A 6000",
			[]string{"A then B, 2050-6000"}},
		{"a former owner's left-over announcement, corrected", "A 0-2000, B! 2050, B 2100-9000, A! 3000, B! 3020",
			[]string{"B then A, 3000-3020"}},
		{"a former owner's left-over announcement, never corrected", "A 0-2000, B! 2050, B 2100-9000, A! 3000",
			[]string{"B then A, 3000-9000"}},
		{"a stranger answers for a while", "A 0-9000, C 3000-4000", []string{"A then C, 3000-4000"}},
		{"three at once", "A 0-5000, B 1000-5050, C 2000-5100",
			[]string{"A then B, 1000-5000", "A then C, 2000-5000", "B then C, 2000-5000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := describe(Find(history(t, tc.history), silence))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("overlaps of %q (-want +got):\n%s", tc.history, diff)
			}
		})
	}
}

func TestFindKeepsAddressesApart(t *testing.T) {
	t.Parallel()
	claims := history(t, "A 0-5000, B 0-5000")
	for i := range claims {
		if claims[i].MAC == mac("B") {
			claims[i].Addr = claims[i].Addr.Next()
		}
	}
	if got := Find(claims, silence); len(got) != 0 {
		t.Errorf("two owners of two addresses are no overlap, got %v", describe(got))
	}
}

func TestLongest(t *testing.T) {
	t.Parallel()
	if _, ok := Longest(nil); ok {
		t.Error("no overlap has no longest")
	}
	o, ok := Longest(Find(history(t, "A 0-5000, B 1000-5050, C 2000-5100"), silence))
	if !ok || o.Duration() != 4*time.Second {
		t.Errorf("longest is %v, want 4s", o.Duration())
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	got := Timeline(history(t, "A 0-2000, B! 2010, B 2050-5000"), addr, silence, epoch, macName)
	want := []string{
		"   +0.000s to    +2.000s  A answered 21 times and announced it 0 times",
		"   +2.010s to    +4.950s  B answered 30 times and announced it 1 times",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
}

func TestClaimants(t *testing.T) {
	t.Parallel()
	claims := history(t, "A 0-500, B! 0, A! 600")
	claims = append(claims, Claim{Answer: wire.Answer{Addr: addr.Next(), MAC: mac("A")}})
	if diff := cmp.Diff("A 2\nB 1\n", Claimants(claims, macName)); diff != "" {
		t.Errorf("claimants (-want +got):\n%s", diff)
	}
}
