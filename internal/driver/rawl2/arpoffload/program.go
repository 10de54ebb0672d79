// SPDX-License-Identifier: Apache-2.0

package arpoffload

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Where things are in an ARP frame (RFC 826) on Ethernet. All of it is read and written in pieces of at most four
// bytes, which begin at even places.
const (
	frameDst    = 0
	frameSrc    = 6
	arpTypes    = 14 // hardware and protocol type: Ethernet, IPv4
	arpLengths  = 18 // length of their addresses, and the operation: request
	arpReply    = 21 // low byte of the operation
	arpSender   = 22
	arpSenderIP = 28
	arpTarget   = 32
	arpTargetIP = 38
	arpEnd      = 42

	operationReply = 2
)

// Where things are in the context of the program (struct __sk_buff of Linux).
const (
	ctxPacketType = 4
	ctxProtocol   = 16
	ctxVLAN       = 20 // vlan_present
	ctxIndex      = 40 // ifindex
	ctxData       = 76
	ctxDataEnd    = 80
)

// assemble returns what runs for each packet that comes in on an interface. It answers a question about an address that
// it is to answer for, and leaves everything else as it is: what is not ARP after two instructions.
//
//	r6 context   r7 frame   r8 its end, then the end of the lease   r9 row of the table
func assemble(rows, cells *ebpf.Map) asm.Instructions {
	return slices.Concat(isRequest(),
		row(rows, arpTargetIP), asm.Instructions{
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Mov.Reg(asm.R9, asm.R0),
			asm.LoadMem(asm.R1, asm.R9, rowAnswers, asm.Byte),
			asm.JEq.Imm(asm.R1, 0, "pass"),
		},
		row(rows, arpSenderIP), asm.Instructions{
			asm.JNE.Imm(asm.R0, 0, "pass"), // whoever claims an address of ours, or announces it, must be heard by rawl2
			asm.StoreImm(asm.RFP, -8, leaseCell, asm.Word),
		},
		cell(cells), asm.Instructions{
			asm.LoadMem(asm.R8, asm.R0, 0, asm.DWord),
			asm.FnKtimeGetBootNs.Call(),
			asm.JGT.Reg(asm.R0, asm.R8, "pass"),
			asm.LoadMem(asm.R1, asm.R9, rowCell, asm.Word),
			asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word),
		},
		cell(cells), asm.Instructions{
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		},
		reply(),
	)
}

// row looks up the address at this place in the frame: r0 is its row, or 0.
func row(rows *ebpf.Map, ip int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, ctxIndex, asm.Word),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, ip, asm.Half),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R7, ip+2, asm.Half),
		asm.StoreMem(asm.RFP, -2, asm.R1, asm.Half),
		asm.LoadMapPtr(asm.R1, rows.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
	}
}

// cell finds the cell whose number is on the stack: r0 points to it.
func cell(cells *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, cells.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
	}
}

// isRequest goes on with the next instruction for an ARP request that is for this host or everybody, and passes others.
func isRequest() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, int32(hostOrder(unix.ETH_P_ARP)), "pass"),
		asm.LoadMem(asm.R1, asm.R6, ctxVLAN, asm.Word), // its tag is not in the frame: it belongs to another interface
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R6, ctxPacketType, asm.Word),
		asm.JGT.Imm(asm.R1, unix.PACKET_BROADCAST, "pass"), // PACKET_HOST is 0
		asm.LoadMem(asm.R7, asm.R6, ctxData, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, ctxDataEnd, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, arpEnd),
		asm.JGT.Reg(asm.R1, asm.R8, "pass"),
		asm.LoadMem(asm.R1, asm.R7, arpTypes, asm.Half),
		asm.JNE.Imm(asm.R1, int32(hostOrder(1)), "pass"),
		asm.LoadMem(asm.R1, asm.R7, arpTypes+2, asm.Half),
		asm.JNE.Imm(asm.R1, int32(hostOrder(unix.ETH_P_IP)), "pass"),
		asm.LoadMem(asm.R1, asm.R7, arpLengths, asm.Half),
		asm.JNE.Imm(asm.R1, int32(hostOrder(0x0604)), "pass"),
		asm.LoadMem(asm.R1, asm.R7, arpLengths+2, asm.Half),
		asm.JNE.Imm(asm.R1, int32(hostOrder(1)), "pass"),
	}
}

// reply turns the frame into the answer and sends it back where it came from.
func reply() asm.Instructions {
	p := asm.Instructions{asm.StoreImm(asm.R7, arpReply, operationReply, asm.Byte)}
	move := func(to int16, from asm.Register, at int16) { // a MAC
		for i := int16(0); i < 6; i += 2 {
			p = append(p, asm.LoadMem(asm.R1, from, at+i, asm.Half), asm.StoreMem(asm.R7, to+i, asm.R1, asm.Half))
		}
	}
	// The address asked for changes places with the asker's.
	for i := int16(0); i < 4; i += 2 {
		p = append(p,
			asm.LoadMem(asm.R1, asm.R7, arpSenderIP+i, asm.Half),
			asm.LoadMem(asm.R2, asm.R7, arpTargetIP+i, asm.Half),
			asm.StoreMem(asm.R7, arpTargetIP+i, asm.R1, asm.Half),
			asm.StoreMem(asm.R7, arpSenderIP+i, asm.R2, asm.Half))
	}
	move(arpTarget, asm.R7, arpSender)
	move(frameDst, asm.R7, arpSender)
	move(arpSender, asm.R9, rowMAC)
	move(frameSrc, asm.R9, rowMAC)
	return append(p,
		asm.LoadMem(asm.R1, asm.R6, ctxIndex, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
		asm.Return(),
	)
}

// tcxNext leaves the packet to the next program, or to the kernel.
const tcxNext = -1

// hostOrder is a number of the network's byte order as a load of two bytes gives it.
func hostOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(n >> 8), byte(n)})
}
