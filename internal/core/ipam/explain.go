// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/heraldlb/herald/internal/core/reason"
)

// maxText bounds every sentence. Conditions may have 32 KiB and events 1 KiB;
// nobody reads more than this.
const maxText = 1000

// bound cuts a text that is too long, between characters.
func bound(text string) string {
	if len(text) <= maxText {
		return text
	}
	n := maxText
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "..."
}

// reason puts the outcome into words. It is called when all addresses have
// been given, so that it says the same when nothing changes until next time.
func (p *planner) reason(w *work) reason.Reason {
	missing := w.missing()
	switch {
	case w.want.n == 0:
		return because(reason.HeadlessService, headless)
	case w.ask.refused() && !w.content(missing):
		return because(w.ask.bad.Code, w.ask.bad.Text+w.keeps())
	case missing.n == 0:
		return w.success()
	}
	code, why := p.shortage(w, missing)
	if missing.n < w.want.n && !w.bothOrNothing() {
		return because(reason.SecondFamilyMissing, w.describe()+"; "+why)
	}
	return because(code, why+w.keeps())
}

// content reports whether w has what it asks for although nobody could be
// given that now: its pool is frozen.
func (w *work) content(missing families) bool {
	req := &w.svc.Request
	if w.ask.bad.Code == reason.InvalidRequest || w.ask.bad.Code == reason.FamilyMismatch || missing.n == w.want.n {
		return false
	}
	if len(req.Addresses) > 0 && missing.n > 0 {
		return false
	}
	for _, f := range w.want.list() {
		h := &w.have[f]
		switch {
		case !h.addr.IsValid():
		case len(req.Addresses) > 0 && !slices.Contains(req.Addresses, h.addr):
			return false
		case req.Pool != "" && (h.home == nil || h.home.Name != req.Pool):
			return false
		}
	}
	return true
}

func (w *work) success() reason.Reason {
	for _, f := range w.want.list() {
		if w.have[f].frozen {
			return because(reason.AddressKept, w.describe())
		}
	}
	return because(reason.AddressAssigned, w.describe())
}

// describe lists what w has. It is written for every Service in every plan.
func (w *work) describe() string {
	text := make([]byte, 0, 64)
	for _, f := range w.want.list() {
		h := &w.have[f]
		if !h.addr.IsValid() {
			continue
		}
		if len(text) > 0 {
			text = append(text, " and "...)
		}
		text = h.addr.AppendTo(text)
		if h.home == nil {
			text = append(text, " from a pool that cannot be read now"...)
			continue
		}
		text = append(text, h.home.from...)
		if h.frozen {
			text = append(text, ", which is invalid now"...)
		}
	}
	return string(text)
}

// keeps is the end of a sentence of bad news.
func (w *work) keeps() string {
	if text := w.describe(); text != "" {
		return "; keeps " + text
	}
	return ""
}

// shortage says why w lacks addresses that it could have been given.
func (p *planner) shortage(w *work, missing families) (reason.Code, string) {
	if w.ask.refused() {
		return reason.DualStackUnavailable, w.ask.bad.Text
	}
	if w.ask.addrs != [2]netip.Addr{} {
		for _, f := range missing.list() {
			a := w.ask.addrs[f]
			if h := p.ledger.holds[a]; h != nil && !h.by.isFor(w) {
				return reason.AddressReserved, fmt.Sprintf("%s is reserved by IPReservation %s for other Services", a, h.by.Key)
			}
			if s := p.ledger.slots[a]; s != nil && !s.canShare(w) {
				r := s.refuses(w)
				if r.code == "" && s.clash != nil {
					r = refusal{reason.AddressInUse, s.clash, "is being deleted and cannot share it"}
				}
				if r.code == "" { // only because the pool of another sharer is frozen
					r = refusal{reason.AddressInUse, s.first, "has it from an invalid pool"}
				}
				return r.code, fmt.Sprintf("%s belongs to Service %s, which %s", a, r.by.svc.Key, r.why)
			}
			if x := p.pools.poolOf(a); !x.allows(w.ns, a) {
				return reason.QuotaExceeded, fmt.Sprintf("%s cannot be given: %s", a, x.overQuota(w.ns, f))
			}
		}
	}
	return p.explain(w, missing)
}

// explanation is what the text about all pools depends on. Many Services that
// wait share one.
type explanation struct {
	pools   string   // the ids of the pinned candidates
	short   families // that no candidate has an address of
	sharing bool
	asked   *pool
	ns      *namespace // only if a pool has quotas
}

// explained is a text about all pools with what follows from the pools.
type explained struct {
	text string
	any  bool // there is a candidate
	fits bool // and one that has addresses of a family that is short
	// quota: one has free addresses, which the namespace may not have.
	quota bool
}

// explain names each pool and says why it was of no use: first the candidates
// in the order of choice, then the others by name.
func (p *planner) explain(w *work, missing families) (reason.Code, string) {
	lists := p.candidates(w)
	k := explanation{sharing: w.sharers != nil, asked: w.ask.pool}
	for _, f := range missing.list() {
		if p.own(w, f).addr.IsValid() {
			continue
		}
		if _, ok := p.first(w, lists, only(f)); !ok {
			k.short.add(f)
		}
	}
	if k.asked == nil {
		k.pools = lists[0].ids()
	}
	if p.quotas {
		k.ns = w.ns
	}
	e, ok := p.texts[k]
	if !ok {
		e = p.explainPools(lists, k)
		p.texts[k] = e
	}
	text := e.text + p.reservedInVain(w, k.short)
	switch {
	case !e.any || (!e.fits && !w.bothOrNothing()):
		return reason.NoPoolFits, text
	case e.quota:
		return reason.QuotaExceeded, text
	case w.bothOrNothing():
		return reason.DualStackUnavailable, text
	}
	return reason.PoolsExhausted, text
}

func (p *planner) explainPools(lists [2]*candidates, k explanation) explained {
	var e explained
	t := tally{total: len(p.pools.all)}
	tried := map[*pool]bool{}
	for _, list := range lists {
		for _, x := range list.pools {
			tried[x] = true
			e.any = true
			e.fits = e.fits || slices.ContainsFunc(k.short.list(), func(f family) bool { return x.space[f].total > 0 })
			e.quota = e.quota || slices.ContainsFunc(k.short.list(), func(f family) bool { return x.refusesMore(k.ns, f) })
			t.add(func() string { return x.shortOf(k.short, k.sharing, k.ns) })
		}
	}
	if k.asked != nil {
		t.total = len(tried)
		e.text = t.text()
		return e
	}
	for _, x := range p.pools.all {
		if !tried[x] {
			t.add(x.passedOver)
		}
	}
	e.text = t.text()
	return e
}

// tally writes clauses until there is no more room, then counts.
type tally struct {
	b     strings.Builder
	total int
	done  int
	full  bool
}

func (t *tally) add(clause func() string) {
	if t.full {
		return
	}
	text := clause()
	if t.b.Len() > 0 && t.b.Len()+len(text) > maxText*4/5 {
		t.full = true
		return
	}
	if t.b.Len() > 0 {
		t.b.WriteString("; ")
	}
	t.b.WriteString(text)
	t.done++
}

func (t *tally) text() string {
	if t.done < t.total {
		fmt.Fprintf(&t.b, "; and %d more", t.total-t.done)
	}
	return t.b.String()
}
