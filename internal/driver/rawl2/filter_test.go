// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	const top = math.MaxUint32
	tests := []struct {
		name   string
		values []uint32
		limit  int
		want   []span
	}{
		{"none", nil, 4, nil},
		{"one", []uint32{7}, 4, []span{{7, 7}}},
		{"a run, in disorder, one twice", []uint32{9, 7, 8, 8}, 4, []span{{7, 9}}},
		{"as many as may be", []uint32{1, 3, 5, 7}, 4, []span{{1, 1}, {3, 3}, {5, 5}, {7, 7}}},
		{"the widest gaps stay", []uint32{1, 3, 10, 12, 30, 33}, 3, []span{{1, 3}, {10, 12}, {30, 33}}},
		{"gaps of one width", []uint32{1, 3, 5, 7}, 3, []span{{1, 1}, {3, 3}, {5, 7}}},
		{"one span", []uint32{1, 1000}, 1, []span{{1, 1000}}},
		{"the ends", []uint32{0, top}, 4, []span{{0, 0}, {top, top}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := spansOf(slices.Clone(tt.values), tt.limit)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}

// machine loads a program, without what the interpreter does not know: the kind of receiver, which it takes to be us.
func machine(t *testing.T, program []bpf.Instruction) *bpf.VM {
	t.Helper()
	for i, ins := range program {
		if ins == (bpf.LoadExtension{Num: bpf.ExtType}) {
			program[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: unix.PACKET_HOST}
		}
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func passes(t *testing.T, vm *bpf.VM, frame []byte) bool {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// TestFilterAgainstSpans runs the program for random spans, many and few, with questions from and for random addresses,
// and compares with a look into the list.
func TestFilterAgainstSpans(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var values []uint32
		for range rng.IntN(200) {
			values = append(values, rng.Uint32N(500)+rng.Uint32N(2)*(math.MaxUint32-500))
		}
		spans := spansOf(slices.Clone(values), maxSpans)
		if len(spans) > maxSpans {
			t.Fatalf("seed %d: %d spans", seed, len(spans))
		}
		within := func(v uint32) bool {
			return slices.ContainsFunc(spans, func(s span) bool { return s.low <= v && v <= s.high })
		}
		for _, v := range values {
			if !within(v) {
				t.Fatalf("seed %d: %d is in none of %v", seed, v, spans)
			}
		}
		arp, ndp := machine(t, filterARP(spans)), machine(t, filterNDP(spans))
		for range 100 {
			target := rng.Uint32N(600) + rng.Uint32N(2)*(math.MaxUint32-600)
			sender := rng.Uint32N(600) + rng.Uint32N(2)*(math.MaxUint32-600)
			want := within(target) || within(sender)
			if got := passes(t, arp, arpFrame(ipv4(target), ipv4(sender))); got != want {
				t.Fatalf("seed %d: ARP for %d from %d passes %v: %v", seed, target, sender, spans, got)
			}
			if got := passes(t, ndp, ndpFrame(ipv6(target), ipv6(sender))); got != want {
				t.Fatalf("seed %d: NDP for %d from %d passes %v: %v", seed, target, sender, spans, got)
			}
		}
	}
}

func ipv4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func ipv6(v uint32) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 12: byte(v >> 24), 13: byte(v >> 16), 14: byte(v >> 8), 15: byte(v)})
}

func arpFrame(target, sender netip.Addr) []byte {
	return l2.AppendFrame(nil, &l2.Packet{Kind: l2.ARPRequest, Dst: broadcast(), Src: otherMAC, SenderMAC: otherMAC, SenderIP: sender, TargetIP: target})
}

func ndpFrame(target, sender netip.Addr) []byte {
	return l2.AppendFrame(nil, &l2.Packet{Kind: l2.Solicitation, Src: otherMAC, SenderMAC: otherMAC, SenderIP: sender, TargetIP: target, DestIP: target})
}

// TestFilterRejects: of what concerns our addresses, only ARP and neighbour discovery passes.
func TestFilterRejects(t *testing.T) {
	t.Parallel()
	edit := func(b []byte, at int, values ...byte) []byte { copy(b[at:], values); return b }
	all := []span{{0, math.MaxUint32}}
	arp, ndp := func() []byte { return arpFrame(vip4, far4.Addr()) }, func() []byte { return ndpFrame(vip6, far6.Addr()) }
	tests := []struct {
		name    string
		program []bpf.Instruction
		frame   []byte
		want    bool
	}{
		{"arp request", filterARP(all), arp(), true},
		{"arp reply", filterARP(all), edit(arp(), 21, 2), true},
		{"reverse arp", filterARP(all), edit(arp(), 21, 3), false},
		{"arp for another protocol", filterARP(all), edit(arp(), 16, 0x86), false},
		{"cut arp", filterARP(all), arp()[:41], false},
		{"no spans", filterARP(nil), arp(), false},
		{"solicitation", filterNDP(all), ndp(), true},
		{"advertisement", filterNDP(all), edit(ndp(), 54, 136), true},
		{"router advertisement", filterNDP(all), edit(ndp(), 54, 134), false},
		{"redirect", filterNDP(all), edit(ndp(), 54, 137), false},
		{"udp", filterNDP(all), edit(ndp(), 20, 17), false},
		{"through a router", filterNDP(all), edit(ndp(), 21, 254), false},
		{"cut solicitation", filterNDP(all), ndp()[:77], false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := passes(t, machine(t, tt.program), tt.frame); got != tt.want {
				t.Errorf("passes: %v", got)
			}
		})
	}
}

// TestFilterSize: the program for the most spans can be assembled, and few of its instructions run.
func TestFilterSize(t *testing.T) {
	t.Parallel()
	var values []uint32
	for i := range uint32(maxSpans) {
		values = append(values, 1000*i)
	}
	spans := spansOf(values, maxSpans)
	for _, protocol := range []int{unix.ETH_P_ARP, unix.ETH_P_IPV6} {
		program, err := assemble(protocol, spans)
		if err != nil || len(program) > 420 {
			t.Errorf("%s: %d instructions, %v", protocolName(protocol), len(program), err)
		}
	}
}

// TestFilterFollows: what passes follows the addresses, without a moment in which one that stays is not answered.
func TestFilterFollows(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "follow0")
	d, l := running(t, silent()), link(t, "follow0")
	var ips []netip.Addr
	for i := range 400 { // more gaps than spans
		ips = append(ips, netip.AddrFrom4([4]byte{198, 51, byte(i / 10), byte(i % 10 * (i%3 + 1))}))
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	ips = slices.Compact(ips)
	d.Set(own(l, ips[0]))
	w := newWire(t, far, arp)
	w.ready(t, ips[0])
	for n := 1; n <= len(ips); n += 37 {
		d.Set(own(l, ips[:n]...))
		w.send(t, w.request(ips[0]))
		w.await(t, l2.ARPReply, ips[0]) // to one question
		w.ready(t, ips[n-1])
	}
}

// TestFilterInKernel: what is not about our addresses does not reach the process, of either protocol; what is does, also
// when only the sender's address is ours.
func TestFilterInKernel(t *testing.T) {
	t.Parallel()
	_, far := cable(t, "inkernel0")
	l := link(t, "inkernel0")
	for _, tt := range []struct {
		protocol int
		own, not netip.Addr
		frame    func(target, sender netip.Addr) []byte
	}{
		{arp, vip4, vip4.Next(), arpFrame},
		{ip6, vip6, vip6.Next(), func(target, sender netip.Addr) []byte {
			frame := ndpFrame(target, sender)
			copy(frame, []byte{0x33, 0x33, 0, 0, 0, 1})
			return frame
		}},
	} {
		p, err := openPort(l, tt.protocol, spansOf([]uint32{lastBits(tt.own)}, maxSpans))
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan l2.Packet, 100)
		go p.serve(func(in, _ []byte) []byte {
			if p, err := l2.ParseFrame(in); err == nil {
				seen <- p
			}
			return nil
		}, func() {})
		w := newWire(t, far, tt.protocol)
		for range 50 {
			w.write(t, tt.frame(tt.not, tt.not))
		}
		w.write(t, tt.frame(tt.not, tt.own))
		w.write(t, tt.frame(tt.own, tt.not))
		for _, want := range []netip.Addr{tt.not, tt.own} {
			if got := <-seen; got.TargetIP != want {
				t.Errorf("%s: a question for %v passed, want %v", protocolName(tt.protocol), got.TargetIP, want)
			}
		}
		p.close()
	}
}

// TestFilterRefused: a kernel that has no room for the program costs time only.
func TestFilterRefused(t *testing.T) { //nolint:paralleltest // the limit is that of all tests
	host, far := cable(t, "refused0")
	host.Sysctl(t, "net/core/optmem_max", "2048")
	defer host.Sysctl(t, "net/core/optmem_max", "131072")
	var ips []netip.Addr
	for i := range 100 {
		ips = append(ips, netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 2*i)))
	}
	d, l := running(t, silent()), link(t, "refused0")
	d.Set(own(l, ips...))
	newWire(t, far, arp).ready(t, ips...)
	if errs := d.State().Errors; len(errs) > 0 {
		t.Errorf("errors: %+v", errs)
	}
	p, err := openPort(l, arp, spansOf([]uint32{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47}, maxSpans))
	if err != nil {
		t.Fatal(err)
	}
	go p.serve(func(_, _ []byte) []byte { return nil }, func() {})
	defer p.close()
	if p.spans != nil {
		t.Error("the kernel took a program of this size: the test tests nothing")
	}
}
