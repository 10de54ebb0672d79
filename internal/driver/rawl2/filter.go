// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A busy network is full of questions for others, and each that reaches this process costs a wake-up. So the kernel
// drops them: a classic BPF program compares the address asked for, and the address that the sender says is its own,
// with the addresses we listen for. Many addresses become few spans, which then hold some that are not ours: those pass
// and are sorted out here. Of IPv6 addresses the last 32 bits are compared, in which neighbours differ.
//
// Replacing the program of a socket is atomic, and needs no capability.

// maxSpans bounds the program: 64 spans twice are about 400 instructions, of which six or seven run for each address. That
// fits into what old kernels allow a socket for such things (net.core.optmem_max, 20 KiB), also while one program
// replaces another.
const maxSpans = 64

// span is a run of addresses, by their last 32 bits.
type span struct{ low, high uint32 }

// everything is for a kernel that does not take the right program.
func everything() []span { return []span{{0, math.MaxUint32}} }

func lastBits(ip netip.Addr) uint32 {
	b := ip.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// spansOf covers values, which it sorts, with at most limit spans, so that few others are in them: it leaves out the
// widest gaps.
func spansOf(values []uint32, limit int) []span {
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) == 0 {
		return nil
	}
	type gap struct {
		before int // index of the value behind it
		width  uint32
	}
	var gaps []gap
	for i := 1; i < len(values); i++ {
		if width := values[i] - values[i-1]; width > 1 {
			gaps = append(gaps, gap{i, width})
		}
	}
	slices.SortStableFunc(gaps, func(a, b gap) int { return cmp.Compare(b.width, a.width) })
	gaps = gaps[:min(len(gaps), limit-1)]
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.before, b.before) })
	spans := make([]span, 0, len(gaps)+1)
	low := values[0]
	for _, g := range gaps {
		spans = append(spans, span{low, values[g.before-1]})
		low = values[g.before]
	}
	return append(spans, span{low, values[len(values)-1]})
}

const wholeFrame = 2048

// assemble returns the program for a socket.
func assemble(protocol int, spans []span) ([]bpf.RawInstruction, error) {
	program := filterNDP(spans)
	if protocol == unix.ETH_P_ARP {
		program = filterARP(spans)
	}
	filter, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble the packet filter: %w", err)
	}
	return filter, nil
}

// filterARP passes requests and replies for IPv4 over Ethernet that are about the spans, not those to other stations.
func filterARP(spans []span) []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 14, Size: 4}, // hardware and protocol type
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0001_0800, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 20, Size: 2}, // operation
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 2, SkipTrue: 2},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 38, Size: 4}, // target
	}, passWithin(spans), []bpf.Instruction{
		bpf.LoadAbsolute{Off: 28, Size: 4}, // sender
	}, passWithin(spans), []bpf.Instruction{
		bpf.RetConstant{Val: 0},
	})
}

// filterNDP passes neighbour solicitations and advertisements that are about the spans, not those to other stations. The
// socket gets to see all IPv6 packets for this host, so it rejects by the cheapest look first.
func filterNDP(spans []span) []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 2}, // next header and hop limit
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6<<8 | 255, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 54, Size: 1}, // ICMPv6 type
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 135, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 136, SkipTrue: 2},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 74, Size: 4}, // target
	}, passWithin(spans), []bpf.Instruction{
		bpf.LoadAbsolute{Off: 34, Size: 4}, // source
	}, passWithin(spans), []bpf.Instruction{
		bpf.RetConstant{Val: 0},
	})
}

// passWithin passes the packet if the value loaded last is in one of the spans; else it goes on behind. It is a binary
// search, written out.
func passWithin(spans []span) []bpf.Instruction {
	if len(spans) == 0 {
		return nil
	}
	search := passIn(spans, 0)
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[0].low, SkipTrue: uint8(len(search))},
	}, search...)
}

// passIn is passWithin for values from the first span's low on. behind is the number of instructions that follow it in
// passWithin.
func passIn(spans []span, behind int) []bpf.Instruction {
	if len(spans) == 1 {
		return []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: spans[0].high, SkipTrue: uint8(1 + behind)},
			bpf.RetConstant{Val: wholeFrame},
		}
	}
	middle := len(spans) / 2
	right := passIn(spans[middle:], behind)
	left := passIn(spans[:middle], behind+len(right))
	return slices.Concat([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[middle].low, SkipTrue: uint8(len(left))},
	}, left, right)
}
