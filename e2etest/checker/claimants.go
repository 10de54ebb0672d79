// SPDX-License-Identifier: Apache-2.0

package checker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/e2etest/wire"
)

// Claimants writes one line for each machine that claimed addresses: its name and how many. name translates a MAC.
func Claimants(claims []Claim, name func(wire.MAC) string) string {
	addrs := map[wire.MAC]map[netip.Addr]bool{}
	for _, c := range claims {
		if addrs[c.MAC] == nil {
			addrs[c.MAC] = map[netip.Addr]bool{}
		}
		addrs[c.MAC][c.Addr] = true
	}
	lines := make([]string, 0, len(addrs))
	for mac, of := range addrs {
		lines = append(lines, fmt.Sprintf("%s %d\n", name(mac), len(of)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Claimants returns the machines that claimed addresses so far, see the function of the same name.
func (w *Watcher) Claimants() (string, error) {
	claims, err := w.snapshot()
	return Claimants(claims, w.cfg.Name), err
}
