// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/core/l2"
)

// findFresh looks for what is listened for now, and was not before. An address that was away, however short, is new.
func (r *runner) findFresh() {
	told := make(map[netip.Addr]uint64, len(r.told))
	for _, one := range r.reaches {
		before, was := r.told[one.IP]
		if was {
			told[one.IP] = max(told[one.IP], before)
		}
		if r.ports[portKey{one.Link.Index, protocolOf(one.IP)}] == nil || one.Number <= told[one.IP] {
			continue
		}
		told[one.IP] = one.Number
		r.fresh[one.IP] = true
	}
	for ip := range r.fresh {
		if _, still := told[ip]; !still {
			delete(r.fresh, ip)
		}
	}
	r.told = told
}

// takeBack takes back what was told and not heard yet of addresses that are gone, before their sockets and filters are.
func (r *runner) takeBack() {
	var waiting []netip.Addr
	select {
	case waiting = <-r.driver.started:
	default:
		return
	}
	still := map[netip.Addr]bool{}
	for _, one := range r.reaches {
		if one.Number == r.told[one.IP] {
			still[one.IP] = true
		}
	}
	waiting = slices.DeleteFunc(waiting, func(ip netip.Addr) bool { return !still[ip] })
	if len(waiting) > 0 {
		r.driver.started <- waiting
	}
}

// tellFresh tells the user of addresses whose first announcement is among the packets that were sent just now; when all
// is sent that was due, also of those that are not announced, as while somebody else may have them.
func (r *runner) tellFresh(sent []l2.Packet, all bool) {
	if len(r.fresh) == 0 {
		return
	}
	var ips []netip.Addr
	for i := range sent {
		if ip := sent[i].TargetIP; r.fresh[ip] {
			delete(r.fresh, ip)
			ips = append(ips, ip)
		}
	}
	if all {
		for ip := range r.fresh { // in any order: it is a set
			ips = append(ips, ip)
		}
		clear(r.fresh)
	}
	if len(ips) == 0 {
		return
	}
	select {
	case earlier := <-r.driver.started: // that nobody has taken
		ips = append(earlier, ips...)
	default:
	}
	r.driver.started <- ips
}
