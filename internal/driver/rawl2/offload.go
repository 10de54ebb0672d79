// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/driver/rawl2/arpoffload"
)

// offload tells the kernel what the machine decides.
type offload struct {
	table *arpoffload.Table
	log   *slog.Logger
	full  bool // said so
}

// Put implements l2.Offload. What the table does not take comes to Step, as without it.
func (o *offload) Put(r l2.Reach, answer bool) {
	if !r.IP.Is4() {
		return
	}
	if err := o.table.Put(r.Link.Index, r.IP, r.Link.MAC, answer); err != nil && !o.full {
		o.full = true
		o.log.Warn("the kernel does not answer ARP requests for all addresses, the speaker answers for the rest", "error", err)
	}
}

// Drop implements l2.Offload.
func (o *offload) Drop(r l2.Reach) (answered uint64) { return o.table.Delete(r.Link.Index, r.IP) }

// Answered implements l2.Offload.
func (o *offload) Answered(r l2.Reach) uint64 { return o.table.Answered(r.Link.Index, r.IP) }

// offloadLimit is how long the kernel answers after the last Lease. A process that was stopped cannot tell the kernel,
// and another node may own its addresses 225 ms later (core/liveness: Silence and Refute, less one Interval). One that
// works renews the lease every 100 ms; if it is late, it answers itself.
const offloadLimit = 150 * time.Millisecond

// offloadLease is the end of the kernel's lease, if the Driver's is until then.
func offloadLease(now, until time.Time) time.Time {
	if limit := now.Add(offloadLimit); until.IsZero() || until.After(limit) {
		return limit
	}
	return until
}

// attach makes the kernel answer on an interface. If it cannot, the socket hears all questions.
func (r *runner) attach(k portKey) {
	d := r.driver
	if d.offload == nil || k.protocol != unix.ETH_P_ARP {
		return
	}
	name := r.wanted[k].link.Name
	if err := d.offload.Attach(k.index); err != nil {
		d.log.Warn("the kernel cannot answer ARP requests on an interface, so the speaker does", "interface", name, "error", err)
		return
	}
	d.log.Info("the kernel answers ARP requests on an interface", "interface", name)
}

func (r *runner) detach(k portKey) {
	if d := r.driver; d.offload != nil && k.protocol == unix.ETH_P_ARP {
		d.offload.Detach(k.index)
	}
}
