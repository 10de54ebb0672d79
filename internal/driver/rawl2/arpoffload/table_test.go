// SPDX-License-Identifier: Apache-2.0

package arpoffload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/netnstest"
)

func TestMain(m *testing.M) {
	if code, done := netnstest.Enter(); done {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

var (
	vip     = netip.MustParseAddr("192.0.2.1")
	quiet   = netip.MustParseAddr("192.0.2.2")
	unknown = netip.MustParseAddr("192.0.2.3")
	asker   = netip.MustParseAddr("192.0.2.200")

	ourMAC   = l2.MAC{2, 0, 0, 0, 0, 1}
	otherMAC = l2.MAC{2, 0, 0, 0, 0, 0xf}
	everyone = l2.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// ends are bare sockets at both ends of a cable. The near one hears what the program leaves to others.
type ends struct {
	index     int
	near, far *packet.Conn
	mac       l2.MAC // of the far end
}

func cable(t *testing.T, name string) *ends {
	t.Helper()
	host, far := netnstest.Host(t), netnstest.New(t)
	netnstest.Veth(t, host, name, far, "eth0")
	host.SetMAC(t, name, ourMAC)
	var e ends
	open := func(name string) (conn *packet.Conn, ifi *net.Interface) {
		ifi, err := net.InterfaceByName(name)
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, ifi
	}
	near, ifi := open(name)
	e.near, e.index = near, ifi.Index
	far.Do(t, func() error {
		conn, ifi := open("eth0")
		e.far, e.mac = conn, l2.MAC(ifi.HardwareAddr)
		return nil
	})
	return &e
}

func (e *ends) question(ip netip.Addr) l2.Packet {
	return l2.Packet{Kind: l2.ARPRequest, Src: e.mac, Dst: everyone, SenderMAC: e.mac, SenderIP: asker, TargetIP: ip}
}

// send sends a frame from the far end and returns what came back, or nil if it got through to the near end instead.
func (e *ends) send(t *testing.T, frame []byte) (answer []byte) {
	t.Helper()
	if _, err := e.far.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		for _, conn := range []*packet.Conn{e.far, e.near} {
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			n, _, err := conn.ReadFrom(buf)
			switch {
			case err == nil && conn == e.near && !bytes.Equal(buf[:n], frame):
				t.Errorf("the near end got % x\ninstead of    % x", buf[:n], frame)
				return nil
			case err == nil && conn == e.near:
				return nil
			case err == nil:
				return buf[:n]
			case !errors.Is(err, os.ErrDeadlineExceeded):
				t.Fatal(err)
			}
		}
	}
	t.Fatalf("a frame came through neither as an answer nor as it was: % x", frame)
	return nil
}

func (e *ends) ask(t *testing.T, ip netip.Addr) bool {
	t.Helper()
	q := e.question(ip)
	return e.send(t, l2.AppendFrame(nil, &q)) != nil
}

// empty returns a table with nothing in it.
func empty(t *testing.T) *Table {
	t.Helper()
	tab, err := New()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		netnstest.Skip(t, "no eBPF: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

// table returns one that answers for vip, and knows quiet.
func table(t *testing.T, e *ends) *Table {
	t.Helper()
	tab := empty(t)
	if err := errors.Join(tab.Put(e.index, vip, ourMAC, true), tab.Put(e.index, quiet, ourMAC, false), tab.Attach(e.index)); err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestAnswer compares what the kernel says with what core/l2 would.
func TestAnswer(t *testing.T) {
	t.Parallel()
	e := cable(t, "answer0")
	tab := table(t, e)
	machine := l2.New(l2.Config{})
	machine.Set(time.Now(), l2.Wanted{
		Links:     []l2.Link{{Name: "eth0", Index: e.index, MAC: ourMAC, Up: true}},
		Addresses: []l2.Address{{IP: vip, Interfaces: []string{"eth0"}}},
	})
	change := func(how func(*l2.Packet)) l2.Packet {
		q := e.question(vip)
		how(&q)
		return q
	}
	for name, q := range map[string]struct { //nolint:paralleltest // they share the cable
		packet l2.Packet
		edit   func([]byte) []byte
		pass   bool // it needs thought, or is for others
	}{
		"broadcast":            {packet: e.question(vip)},
		"to our MAC":           {packet: change(func(p *l2.Packet) { p.Dst = ourMAC })},
		"probe":                {packet: change(func(p *l2.Packet) { p.SenderIP = netip.IPv4Unspecified() })},
		"padded":               {packet: e.question(vip), edit: func(b []byte) []byte { return append(b, make([]byte, 18)...) }},
		"to another station":   {packet: change(func(p *l2.Packet) { p.Dst = otherMAC }), pass: true},
		"announcement":         {packet: change(func(p *l2.Packet) { p.SenderIP = vip }), pass: true},
		"asker claims another": {packet: change(func(p *l2.Packet) { p.SenderIP = quiet }), pass: true},
		"not announced yet":    {packet: e.question(quiet), pass: true},
		"unknown":              {packet: e.question(unknown), pass: true},
		"same end":             {packet: change(func(p *l2.Packet) { p.SenderIP = netip.MustParseAddr("198.51.2.1") })},
		"same beginning":       {packet: change(func(p *l2.Packet) { p.SenderIP = netip.MustParseAddr("192.0.9.9") })},
		"an answer":            {packet: change(func(p *l2.Packet) { p.Kind = l2.ARPReply }), pass: true},
		"other hardware":       {packet: e.question(vip), edit: func(b []byte) []byte { b[15] = 6; return b }, pass: true},
		"other protocol":       {packet: e.question(vip), edit: func(b []byte) []byte { b[17] = 6; return b }, pass: true},
		"other lengths":        {packet: e.question(vip), edit: func(b []byte) []byte { b[18] = 8; return b }, pass: true},
		"other operation":      {packet: e.question(vip), edit: func(b []byte) []byte { b[21] = 3; return b }, pass: true},
		"cut off":              {packet: e.question(vip), edit: func(b []byte) []byte { return b[:41] }, pass: true},
	} {
		t.Run(name, func(t *testing.T) {
			frame := l2.AppendFrame(nil, &q.packet)
			if q.edit != nil {
				frame = q.edit(frame)
			}
			before := tab.Answered(e.index, vip)
			got := e.send(t, frame)
			if q.pass {
				if got != nil || tab.Answered(e.index, vip) != before {
					t.Errorf("answered: % x", got)
				}
				return
			}
			p, err := l2.ParseFrame(frame)
			if err != nil {
				t.Fatal(err)
			}
			p.Interface = e.index
			reply, ok := machine.Step(time.Now(), p)
			want := l2.AppendFrame(nil, &reply)
			want = append(want, make([]byte, len(frame)-len(want))...)
			if !ok || !bytes.Equal(got, want) {
				t.Errorf("the kernel says  % x\ncore/l2 would say % x (%v)", got, want, ok)
			}
			if n := tab.Answered(e.index, vip); n != before+1 {
				t.Errorf("%d answers are counted, want %d", n, before+1)
			}
		})
	}
}

// TestTagged: a question on a VLAN is for another interface.
func TestTagged(t *testing.T) {
	t.Parallel()
	e := cable(t, "tagged0")
	tab := table(t, e)
	q := e.question(vip)
	frame := l2.AppendFrame(nil, &q)
	frame = append(binary.BigEndian.AppendUint32(frame[:12:12], unix.ETH_P_8021Q<<16|7), frame[12:]...)
	if _, err := e.far.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		t.Fatal(err)
	}
	if !e.ask(t, vip) { // it came after the other
		t.Error("no answer without a tag")
	}
	if n := tab.Answered(e.index, vip); n != 1 {
		t.Errorf("%d answers, want one, to the question without a tag", n)
	}
}

// TestWhileItLasts: nothing is answered without a lease, after Delete, after Detach, and on an interface that the address
// is not on.
func TestWhileItLasts(t *testing.T) {
	t.Parallel()
	e := cable(t, "lasts0")
	tab := table(t, e)
	want := func(answered bool, what string) {
		t.Helper()
		if e.ask(t, vip) != answered {
			t.Errorf("%s: answered: %v", what, !answered)
		}
	}
	want(true, "in the beginning")
	tab.Lease(time.Now().Add(-time.Millisecond))
	want(false, "the lease is over")
	tab.Lease(time.Now().Add(time.Hour))
	want(true, "the lease is renewed")
	tab.Lease(time.Now().Add(20 * time.Millisecond))
	netnstest.Eventually(t, func() error {
		if e.ask(t, vip) {
			return errors.New("the lease of 20 ms does not end")
		}
		return nil
	})
	tab.Lease(time.Time{})
	want(true, "no limit")
	if err := tab.Put(e.index, vip, ourMAC, false); err != nil {
		t.Fatal(err)
	}
	want(false, "not announced any more")
	if err := tab.Put(e.index, vip, ourMAC, true); err != nil {
		t.Fatal(err)
	}
	want(true, "announced again")
	if n := tab.Delete(e.index, vip); n < 4 {
		t.Errorf("%d answers are counted, want 4 or more", n)
	}
	want(false, "deleted")
	if err := tab.Put(e.index+1, vip, ourMAC, true); err != nil {
		t.Fatal(err)
	}
	want(false, "on another interface")
	if err := tab.Put(e.index, vip, ourMAC, true); err != nil {
		t.Fatal(err)
	}
	if n := tab.Answered(e.index, vip); n != 0 {
		t.Errorf("a new address begins with %d answers", n)
	}
	want(true, "put again")
	tab.Detach(e.index)
	want(false, "detached")
	if err := errors.Join(tab.Attach(e.index), tab.Attach(e.index)); err != nil {
		t.Fatal(err)
	}
	want(true, "attached again")
}

// TestFull: the table says when it is, and has room again.
func TestFull(t *testing.T) {
	t.Parallel()
	tab := empty(t)
	ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range Capacity {
		if err := tab.Put(1, ip(i), ourMAC, true); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	for range 2 {
		if err := tab.Put(1, ip(Capacity), ourMAC, true); err == nil || !strings.Contains(err.Error(), fmt.Sprint(Capacity)) {
			t.Errorf("one more: %v", err)
		}
	}
	tab.Delete(1, ip(7))
	if err := tab.Put(1, ip(Capacity), ourMAC, true); err != nil {
		t.Errorf("there is room: %v", err)
	}
}

const envLink = "HERALD_TEST_OFFLOAD_LINK"

// TestDeath: the kernel stops when the process is killed. The process has no capability but those of a speaker with an
// offload.
func TestDeath(t *testing.T) {
	t.Parallel()
	if name := os.Getenv(envLink); name != "" {
		answerUntilKilled(t, name)
		return
	}
	e := cable(t, "death0")
	empty(t) // or skip
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDeath$")
	cmd.Env = append(os.Environ(), envLink+"=death0")
	stdin, err := cmd.StdinPipe() // it ends should the test end without killing it
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startWith(cmd, unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW); err != nil {
		t.Fatal(err)
	}
	netnstest.Eventually(t, func() error {
		if !e.ask(t, vip) {
			return errors.New("no answer")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if e.ask(t, vip) {
		t.Error("the kernel answers for a dead process")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func answerUntilKilled(t *testing.T, name string) {
	t.Helper()
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	table(t, &ends{index: ifi.Index})
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestRights: what is missing is named.
func TestRights(t *testing.T) {
	t.Parallel()
	if os.Getenv(envLink) != "" {
		if _, err := New(); err == nil || !strings.Contains(err.Error(), "CAP_BPF") {
			t.Errorf("without capabilities: %v", err)
		}
		return
	}
	netnstest.Host(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRights$")
	cmd.Env = append(os.Environ(), envLink+"=none")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startWith(cmd, unix.CAP_NET_RAW); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// startWith takes all other capabilities from the bounding set of a thread, which the new process inherits. The thread
// ends with the goroutine.
func startWith(cmd *exec.Cmd, caps ...uintptr) error {
	keep := map[uintptr]bool{}
	for _, c := range caps {
		keep[c] = true
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if keep[c] {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				result <- fmt.Errorf("drop capability %d: %w", c, err)
				return
			}
		}
		result <- cmd.Start()
	}()
	return <-result
}
