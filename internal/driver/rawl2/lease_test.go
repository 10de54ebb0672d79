// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"log/slog"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
)

// TestLease answers as long as somebody says so.
func TestLease(t *testing.T) {
	t.Parallel()
	d := New(Config{Logger: slog.New(slog.DiscardHandler), L2: silent()})
	l := l2.Link{Name: "eth0", Index: 7, MAC: l2.MAC{2, 0, 0, 0, 0, 1}, Up: true}
	d.Set(own(l, vip4))
	q := l2.Packet{
		Kind: l2.ARPRequest, Src: l2.MAC{2, 0, 0, 0, 0, 9}, Dst: broadcast(),
		SenderMAC: l2.MAC{2, 0, 0, 0, 0, 9}, SenderIP: far4.Addr(), TargetIP: vip4,
	}
	answers := func() bool { return len(d.answer(l.Index, l2.AppendFrame(nil, &q), make([]byte, 0, 128))) > 0 }
	if !answers() {
		t.Fatal("no answer without a limit")
	}
	d.Lease(time.Now().Add(-time.Millisecond))
	if answers() {
		t.Error("it answers after the end of the lease")
	}
	r := &runner{driver: d}
	if r.announce(); r.pause() < time.Minute {
		t.Errorf("without a lease it is busy: %v", r.pause())
	}
	d.Lease(time.Now().Add(time.Hour))
	if !answers() {
		t.Error("no answer with a new lease")
	}
	select {
	case <-d.wake:
	default:
		t.Error("nobody is told that there is a lease again")
	}
}
