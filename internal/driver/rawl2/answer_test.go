// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// answering returns a driver without sockets that owns n addresses of each family, and the questions for the last ones.
func answering(n int) (d *Driver, questions [][]byte) {
	d = New(Config{Logger: slog.New(slog.DiscardHandler), L2: silent()})
	l := l2.Link{Name: "eth0", Index: 7, MAC: l2.MAC{2, 0, 0, 0, 0, 1}, Up: true}
	var ips []netip.Addr
	for i := range n {
		ips = append(ips, scattered4(i), scattered6(i))
	}
	d.Set(own(l, ips...))
	d.Lease(time.Now().Add(time.Hour))
	last4, last6 := scattered4(n-1), scattered6(n-1)
	ndp := ndpFrame(last6, far6.Addr())
	copy(ndp, l.MAC[:])
	return d, [][]byte{arpFrame(last4, far4.Addr()), ndp}
}

// Two apart, so that no two of them are in one span of the filter.
func scattered4(i int) netip.Addr { return ipv4(0x0a00_0000 + 2*uint32(i)) }
func scattered6(i int) netip.Addr { return ipv6(0x0a00_0000 + 2*uint32(i)) }

// TestAnswerAllocatesNothing: from the bytes that the socket gave to those that it is given, and for what is not ours.
func TestAnswerAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all goroutines
	d, questions := answering(1000)
	out := make([]byte, 0, l2.MaxFrame)
	for _, q := range questions {
		if n := testing.AllocsPerRun(1000, func() {
			if len(d.answer(7, q, out)) == 0 {
				t.Fatal("no answer")
			}
		}); n != 0 {
			t.Errorf("%v allocations for % x", n, q)
		}
	}
	foreign := arpFrame(far4.Addr().Next(), far4.Addr())
	if n := testing.AllocsPerRun(1000, func() { d.answer(7, foreign, out) }); n != 0 {
		t.Errorf("%v allocations for a question to somebody else", n)
	}
}

// TestAnswerCost: an answer costs the same whether this node has ten addresses or 20,000. Of many runs the fastest counts,
// which a busy machine does not change.
func TestAnswerCost(t *testing.T) { //nolint:paralleltest // it measures time
	cost := func(n int) time.Duration {
		d, questions := answering(n)
		out := make([]byte, 0, l2.MaxFrame)
		best := time.Duration(math.MaxInt64)
		for range 200 {
			begun := time.Now()
			for range 100 {
				for _, q := range questions {
					d.answer(7, q, out)
				}
			}
			best = min(best, time.Since(begun)/200)
		}
		return best
	}
	few, many := cost(10), cost(10_000)
	t.Logf("with 20 addresses %v, with 20,000 %v", few, many)
	if many > 4*few {
		t.Errorf("an answer takes %v with 20 addresses, %v with 20,000", few, many)
	}
}

// TestFilterCost counts the instructions that the kernel runs for one packet, whatever the number of addresses.
func TestFilterCost(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 64, 10_000} {
		var values []uint32
		for i := range n {
			values = append(values, lastBits(scattered4(i)))
		}
		spans := spansOf(values, maxSpans)
		for protocol, program := range map[int][]bpf.Instruction{unix.ETH_P_ARP: filterARP(spans), unix.ETH_P_IPV6: filterNDP(spans)} {
			worst := 0
			for _, at := range []uint32{0, spans[0].low, spans[len(spans)/2].low, spans[len(spans)-1].high, math.MaxUint32} {
				worst = max(worst, steps(t, program, at))
			}
			// Eight to come to the address, then twice a load and eight for a search in 64 spans, and the verdict.
			if worst > 27 {
				t.Errorf("%s with %d addresses: %d instructions run", protocolName(protocol), n, worst)
			}
		}
	}
}

// steps counts the instructions on the longest way through the program for one value in place of both addresses. It follows
// the jumps; all checks of the packet's kind before are taken to succeed.
func steps(t *testing.T, program []bpf.Instruction, value uint32) int {
	t.Helper()
	count := 0
	at := slices.IndexFunc(program, func(ins bpf.Instruction) bool {
		load, ok := ins.(bpf.LoadAbsolute)
		return ok && (load.Off == 38 || load.Off == 74)
	})
	count += at
	for ; at < len(program); at++ {
		count++
		switch ins := program[at].(type) {
		case bpf.RetConstant:
			return count
		case bpf.JumpIf:
			holds := map[bpf.JumpTest]bool{
				bpf.JumpLessThan: value < ins.Val, bpf.JumpGreaterThan: value > ins.Val, bpf.JumpGreaterOrEqual: value >= ins.Val,
			}[ins.Cond]
			if holds {
				at += int(ins.SkipTrue)
			} else {
				at += int(ins.SkipFalse)
			}
		}
	}
	t.Fatal("the program has no end")
	return 0
}
