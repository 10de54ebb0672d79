// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/lb"
)

// Health is what kube-proxy says at the health check node port of a Service.
type Health uint8

// What it can say.
const (
	HealthUnknown Health = iota // nobody has answered
	HealthNotServing
	HealthServing
)

// How long a route waits for kube-proxy at most. Nobody answers where something
// else does kube-proxy's work and has no such ports: then the time is that
// between two changes of its rules (1 s), and as much again to make them. While
// it says that it does not serve, a route would only lose traffic that other
// nodes can take; but nothing is held back for good because of what another
// program says.
const (
	SilenceLimit    = 2 * time.Second
	NotServingLimit = 10 * time.Second
)

// Settle holds new announcements back until kube-proxy can serve them: the node
// hears of a new endpoint at the same time as kube-proxy does, and kube-proxy
// needs longer to act on it than a router to send the first packet
// (docs/decisions/0007).
//
// With externalTrafficPolicy Local the Service has a port at which kube-proxy
// says whether it has made its rules. Others are held back for a moment only:
// nodes without endpoints serve them too.
//
// What was wanted in the first plan is announced at once: after a restart of
// the speaker, kube-proxy has known it for long.
type Settle struct {
	// Delay is for how long at least.
	Delay time.Duration
	// Health says what kube-proxy says at a port; nil: nobody asks.
	Health func(port uint16) Health

	entries map[settling]entry // of what was wanted last; nil before the first plan
	held    map[lb.ServiceKey]uint16
}

type settling struct {
	service lb.ServiceKey
	address netip.Addr
}

type entry struct {
	since time.Time // when it was first wanted
	due   bool
	// gone is when it was last not wanted any more; zero: never, or long ago.
	gone time.Time
}

// Step returns the announcements that are due, and when others will be (0:
// none are held back). The list is not changed.
func (s *Settle) Step(wanted []announce.Announcement, now time.Time) ([]announce.Announcement, time.Duration) {
	first := s.entries == nil
	entries := make(map[settling]entry, len(wanted))
	due := make([]announce.Announcement, 0, len(wanted))
	var again time.Duration
	s.held = nil
	for _, a := range wanted {
		key := settling{a.Service, a.Address}
		e, known := s.entries[key]
		if !known || e.absent() {
			e = entry{since: now, due: first, gone: e.gone}
		}
		if !e.due {
			left := e.since.Add(s.wait(a.HealthPort, &e)).Sub(now)
			e.due = left <= 0
			if left > 0 && (again == 0 || left < again) {
				again = left
			}
		}
		entries[key] = e
		if e.due {
			due = append(due, a)
			continue
		}
		if s.held == nil {
			s.held = map[lb.ServiceKey]uint16{}
		}
		s.held[a.Service] = a.HealthPort
	}
	for key, e := range s.entries {
		if _, still := entries[key]; still {
			continue
		}
		if !e.absent() {
			e = entry{gone: now}
		}
		if now.Sub(e.gone) < SilenceLimit {
			entries[key] = e
		}
	}
	s.entries = entries
	return due, again
}

// absent: it is not wanted, but was a moment ago.
func (e *entry) absent() bool { return e.since.IsZero() }

// wait is how long an announcement waits in all, by what is known now. Of one
// that was away for a moment only, kube-proxy may still say what was true before.
func (s *Settle) wait(port uint16, e *entry) time.Duration {
	switch {
	case port == 0 || s.Health == nil:
		return s.Delay
	case !e.gone.IsZero() && e.since.Sub(e.gone) < SilenceLimit:
		return max(s.Delay, SilenceLimit)
	}
	switch s.Health(port) {
	case HealthServing:
		return s.Delay
	case HealthNotServing:
		return max(s.Delay, NotServingLimit)
	default:
		return max(s.Delay, SilenceLimit)
	}
}

// Held are the Services of the last Step that are held back, each with its
// health check node port, or 0. It is not to be changed.
func (s *Settle) Held() map[lb.ServiceKey]uint16 { return s.held }

// Ports are those at which to ask kube-proxy, sorted.
func (s *Settle) Ports() []uint16 {
	var out []uint16
	for _, port := range s.held {
		if port != 0 && s.Health != nil {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
