// SPDX-License-Identifier: Apache-2.0

// Package arpoffload lets the kernel answer ARP requests for the addresses of this node, where they come in: no thread
// has to be woken up, and none has to wait for a processor.
//
//	Put, Delete ──> table (eBPF map) <──── program on each interface: is it there? answer : pass it on
//	Lease ────────> cells (shared memory) <──┘ is it still allowed? count it
//
// The program answers only what needs no thought: a plain question about an address that is announced. Everything else
// goes where it would go without it. So rawl2 still hears of conflicts, and answers what the kernel does not.
//
// The kernel must not answer for a speaker that is not there. The program is attached by links (TCX, Linux 6.6), which
// the kernel removes when the process ends, and it answers only as long as Lease says. There is nothing to clean up,
// whatever happens.
//
// CAP_BPF and CAP_NET_ADMIN are all it needs.
package arpoffload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Capacity is how many addresses a Table holds. One on two interfaces counts twice.
const Capacity = 1<<16 - 1

// What a row of the table holds: the MAC to answer with, whether to answer at all, and the number of the cell that counts.
const (
	rowMAC     = 0
	rowAnswers = 6
	rowCell    = 8
	rowSize    = 12
)

// A cell is 8 bytes. The first holds the time until which is answered, by CLOCK_BOOTTIME in nanoseconds. The others
// count answers.
const (
	leaseCell = 0
	cellSize  = 8
)

// Table is what the kernel answers for. Put, Delete, Lease and Answered must not be called at the same time, nor Attach
// and Detach. Close comes last.
type Table struct {
	rows, cells *ebpf.Map
	program     *ebpf.Program
	links       map[int]link.Link // by the index of the interface

	memory *ebpf.Memory   // that of cells
	cellOf map[key]uint32 // of what is in rows
	free   []uint32       // cells that were in use before
	unused uint32         // the first of those that never were
}

type key struct {
	index int
	ip    netip.Addr
}

func (k key) bytes() []byte {
	ip := k.ip.As4()
	return append(binary.NativeEndian.AppendUint32(make([]byte, 0, 8), uint32(k.index)), ip[:]...)
}

// New brings the program into the kernel. Until Put and Attach it does nothing. New fails where the kernel does not know
// such programs, or a capability is missing.
func New() (*Table, error) {
	t := &Table{links: map[int]link.Link{}, cellOf: map[key]uint32{}, unused: leaseCell + 1}
	if err := t.load(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.Lease(time.Time{})
	return t, nil
}

func (t *Table) load() (err error) {
	t.rows, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "herald_arp", Type: ebpf.Hash, KeySize: 8, ValueSize: rowSize, MaxEntries: Capacity, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return fmt.Errorf("make the table of addresses (needs CAP_BPF): %w", err)
	}
	t.cells, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "herald_cells", Type: ebpf.Array, KeySize: 4, ValueSize: cellSize, MaxEntries: Capacity + 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return fmt.Errorf("make the shared memory: %w", err)
	}
	if t.memory, err = t.cells.Memory(); err != nil {
		return fmt.Errorf("map the shared memory: %w", err)
	}
	t.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "herald_arp", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, License: "Apache-2.0",
		Instructions: assemble(t.rows, t.cells),
	})
	if err != nil {
		return fmt.Errorf("load the program (needs CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	return nil
}

// Attach makes the kernel answer on an interface.
func (t *Table) Attach(index int) error {
	if t.links[index] != nil {
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: index, Program: t.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if err != nil {
		return fmt.Errorf("attach the program (needs Linux 6.6 and CAP_NET_ADMIN): %w", err)
	}
	t.links[index] = l
	return nil
}

// Detach is the opposite of Attach. The interface may be gone.
func (t *Table) Detach(index int) {
	if l := t.links[index]; l != nil {
		_ = l.Close() // the kernel has taken it away before, or does now
		delete(t.links, index)
	}
}

// Put takes up an address on an interface, or changes it. Questions about it are answered with this MAC; or, if answer is
// false, are not, but nobody who claims the address gets an answer either, and so is heard by others. It fails when the
// table is full.
func (t *Table) Put(index int, ip netip.Addr, mac [6]byte, answer bool) error {
	k := key{index, ip}
	cell, known := t.cellOf[k]
	if !known {
		if len(t.cellOf) == Capacity {
			return fmt.Errorf("the table of addresses has room for %d, and is full", Capacity)
		}
		cell = t.take()
	}
	row := make([]byte, rowSize)
	copy(row[rowMAC:], mac[:])
	if answer {
		row[rowAnswers] = 1
	}
	binary.NativeEndian.PutUint32(row[rowCell:], cell)
	if err := t.rows.Put(k.bytes(), row); err != nil {
		if !known {
			t.free = append(t.free, cell)
		}
		return fmt.Errorf("put %v into the table of addresses: %w", ip, err)
	}
	t.cellOf[k] = cell
	return nil
}

// take returns a cell that holds 0.
func (t *Table) take() uint32 {
	if n := len(t.free); n > 0 {
		cell := t.free[n-1]
		t.free = t.free[:n-1]
		t.set(cell, 0)
		return cell
	}
	t.unused++
	return t.unused - 1
}

// Delete forgets an address on an interface, and returns what Answered would. When it returns, no answer is begun any more.
func (t *Table) Delete(index int, ip netip.Addr) (answered uint64) {
	k := key{index, ip}
	cell, known := t.cellOf[k]
	if !known {
		return 0
	}
	delete(t.cellOf, k)
	t.free = append(t.free, cell)
	if err := t.rows.Delete(k.bytes()); err != nil {
		panic("arpoffload: delete a row that is there: " + err.Error())
	}
	return t.get(cell)
}

// Lease lets the kernel answer until then. The zero value is for ever.
func (t *Table) Lease(until time.Time) {
	end := uint64(math.MaxUint64)
	if !until.IsZero() {
		end = uint64(max(0, bootTime()+time.Until(until)))
	}
	t.set(leaseCell, end)
}

// bootTime is the time since the start of the machine, with that in which it slept.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("arpoffload: read CLOCK_BOOTTIME: " + err.Error()) // every Linux has it
	}
	return time.Duration(ts.Nano())
}

// Answered returns how many questions the kernel has answered since the address was taken up.
func (t *Table) Answered(index int, ip netip.Addr) uint64 {
	if cell, known := t.cellOf[key{index, ip}]; known {
		return t.get(cell)
	}
	return 0
}

func (t *Table) get(cell uint32) uint64 {
	var b [cellSize]byte
	if _, err := t.memory.ReadAt(b[:], int64(cell)*cellSize); err != nil {
		panic("arpoffload: read a cell: " + err.Error())
	}
	return binary.NativeEndian.Uint64(b[:])
}

func (t *Table) set(cell uint32, value uint64) {
	var b [cellSize]byte
	binary.NativeEndian.PutUint64(b[:], value)
	if _, err := t.memory.WriteAt(b[:], int64(cell)*cellSize); err != nil {
		panic("arpoffload: write a cell: " + err.Error())
	}
}

// Close takes the program away from all interfaces and out of the kernel.
func (t *Table) Close() error {
	var errs []error
	for index := range t.links {
		t.Detach(index)
	}
	if t.program != nil {
		errs = append(errs, t.program.Close())
	}
	for _, m := range []*ebpf.Map{t.rows, t.cells} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
