// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/ownership"
)

// A node whose interface is up, but on which no socket can be opened, believes
// that it may own addresses, and so do the others. It answers for nothing. So it
// gives them away, if another node may have them, one attempt after the other:
// that one may have the same trouble.
const (
	// deafFor is how long an error must last: while an interface goes away, or a
	// socket is opened again, there is one for a moment.
	deafFor = 2 * time.Second
	// deafMax is the longest time between two attempts.
	deafMax = 5 * time.Minute
	// deafForget is how long an address is remembered that works, or is gone: two
	// nodes with the same trouble must not play ball with it.
	deafForget = 10 * time.Minute
)

// yielder decides which addresses this node gives away because it cannot answer
// for them.
type yielder struct {
	deaf map[netip.Addr]*deafness
}

type deafness struct {
	last time.Time // it was deaf
	next time.Time // when to give it away
	wait time.Duration
}

// step returns what to give away now, sorted, and when to look again (0: not before
// something changes).
func (y *yielder) step(state *l2.State, now time.Time) (away []netip.Addr, again time.Duration) {
	if len(state.Errors)+len(y.deaf) == 0 {
		return nil, 0
	}
	for ip, d := range y.deaf {
		if now.Sub(d.last) >= deafForget {
			delete(y.deaf, ip)
		}
	}
	for i := range state.Addresses {
		a := &state.Addresses[i]
		if interfaces, why := state.Heard(a); len(interfaces) > 0 || len(why) == 0 {
			continue
		}
		d := y.deaf[a.IP]
		if d == nil {
			d = &deafness{wait: deafFor, next: now.Add(deafFor)}
			if y.deaf == nil {
				y.deaf = map[netip.Addr]*deafness{}
			}
			y.deaf[a.IP] = d
		} else if now.Sub(d.last) > deafFor {
			d.next = now.Add(d.wait) // it was not, meanwhile
		}
		d.last = now
		if !now.Before(d.next) {
			away = append(away, a.IP)
			d.wait = min(2*d.wait, deafMax)
			d.next = now.Add(d.wait)
		}
		again = deafFor / 2 // so that last is right
	}
	if again == 0 && len(state.Errors) > 0 {
		again = deafFor // what is taken next may be for that interface alone, and nobody says so
	}
	slices.SortFunc(away, netip.Addr.Compare)
	return away, again
}

// watchResponder pokes the report loop when the responder noticed something, and
// gives away what it cannot answer for.
func (s *speaker) watchResponder(ctx context.Context, r responder) error {
	var y yielder
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	looking := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Changed():
			s.reportLoop.Poke()
			if !looking { // the state of thousands of addresses is not free
				looking = true
				timer.Reset(deafFor / 2)
			}
			continue
		case <-timer.C:
		}
		state := r.State()
		away, again := y.step(&state, time.Now())
		if len(away) > 0 {
			s.log.Warn("giving addresses away that this node cannot answer for", "addresses", len(away), "errors", state.Errors)
			s.engine.query(func(m *ownership.Machine) { m.Yield(away...) })
		}
		looking = again > 0
		if !looking {
			again = time.Hour
		}
		timer.Reset(again)
	}
}
