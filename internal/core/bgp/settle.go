// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// Settle holds new announcements back for a moment: the node hears of a new
// endpoint at the same time as kube-proxy does, and kube-proxy needs longer to
// act on it than a router to send the first packet (docs/decisions/0007).
//
// What was wanted in the first plan is announced at once: after a restart of
// the speaker, kube-proxy has known it for long.
type Settle struct {
	// Delay is for how long.
	Delay time.Duration

	since map[settling]time.Time // when each was first wanted; nil before the first plan
}

type settling struct {
	service lb.ServiceKey
	address netip.Addr
}

// Step returns the announcements that are due, and when others will be (0:
// none are held back). The list is not changed.
func (s *Settle) Step(wanted []announce.Announcement, now time.Time) ([]announce.Announcement, time.Duration) {
	first := s.since == nil
	since := make(map[settling]time.Time, len(wanted))
	due := make([]announce.Announcement, 0, len(wanted))
	var again time.Duration
	for _, a := range wanted {
		key := settling{a.Service, a.Address}
		at, known := s.since[key]
		switch {
		case first:
			at = now.Add(-s.Delay)
		case !known:
			at = now
		}
		since[key] = at
		if left := s.Delay - now.Sub(at); left > 0 {
			if again == 0 || left < again {
				again = left
			}
			continue
		}
		due = append(due, a)
	}
	s.since = since
	return due, again
}
