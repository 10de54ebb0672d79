// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/core/announce"
	"github.com/heraldlb/herald/internal/core/l2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
	"github.com/heraldlb/herald/internal/telemetry"
)

// patience is how long bad news must stay true before it is written. While a
// Service comes up it has no endpoints for a moment, and no speaker has
// claimed it: nobody needs to read about that, and the API server is spared a
// write per Service.
const patience = 2 * time.Second

// courtesy is how long one of several nodes that announce a Service leaves it to
// the first of them to say so. It is less than patience, so that good news comes
// before bad news of who does not know it.
const courtesy = patience / 2

// When nobody announces a Service, one speaker says so: the first one alive, as
// gossip has it. That it is heard does not mean that it can write: its
// connection to the API server may be stuck, its plan late. So the next ones in
// order are its deputies, each after that much longer. What they do not see they
// do not say: what an owner reports, nobody else can.
const (
	deputyWait = 5 * time.Second
	deputies   = 3
	// deputyLook is how often, at most, a report is made because a deputy's time
	// has come: after a burst of Services that is due for one after the other.
	deputyLook = 2 * time.Second
)

// turn says whether this speaker writes that nobody announces a Service, and as
// whose deputy.
func turn(m *ownership.Machine, key lb.ServiceKey) (write bool, deputy int) {
	n := m.LiveBefore(key.String())
	return n <= deputies, n
}

// planned is the last plan of the plan loop.
type planned struct {
	at       time.Time
	snapshot *lb.Snapshot
	problems []snapshot.Problem
	plan     announce.Result
}

// reporter tells the API server what became of the plan. It runs beside the
// plan loop, slower, so that writing never delays announcing.
type reporter struct {
	who     status.Speaker
	engine  *engine
	router  *router // nil without BGP
	watcher responder
	links   linkSource
	metrics *telemetry.Metrics
	// trusted reports whether what this speaker believes of others counts; see
	// apart.go. The engine's goroutine asks.
	trusted func() bool

	// The rest belongs to the goroutine of the report loop.
	bad  map[lb.ServiceKey]badNews
	calm calm
	// alone is since when no other speaker is heard; zero: some are, or there
	// are none. It says nothing until this speaker has met them, or has waited
	// for them long enough.
	alone time.Time
	met   bool
	mute  bool // not trusted
	// phrases are the good news of one report, which most Services share.
	phrases map[phrase]reason.Reason
}

type phrase struct {
	node     lb.NodeName
	protocol string
}

// announcing says that a node announces a Service.
func (r *reporter) announcing(node lb.NodeName, protocol string) reason.Reason {
	p := phrase{node, protocol}
	said, ok := r.phrases[p]
	if !ok {
		said = reason.New(reason.Announcing, "%s", status.AnnouncingText(node, protocol))
		if r.phrases == nil {
			r.phrases = map[phrase]reason.Reason{}
		}
		r.phrases[p] = said
	}
	return said
}

type badNews struct {
	code   reason.Code
	unsure bool
	since  time.Time
}

// seen is what the responder says, by address.
type seen struct {
	all       l2.State
	states    map[netip.Addr]l2.AddressState
	conflicts map[netip.Addr][]l2.Conflict
}

func see(state l2.State) seen {
	s := seen{all: state, states: make(map[netip.Addr]l2.AddressState, len(state.Addresses)), conflicts: map[netip.Addr][]l2.Conflict{}}
	for _, a := range state.Addresses {
		s.states[a.IP] = a
	}
	for _, c := range state.Conflicts {
		s.conflicts[c.Address] = append(s.conflicts[c.Address], c)
	}
	return s
}

// gather asks the engine about every Service of the plan. It reports false if
// the engine has ended.
func (r *reporter) gather(p *planned, x *routed) ([]status.ServiceReport, bool) {
	reports := make([]status.ServiceReport, 0, len(p.snapshot.Services))
	clear(r.phrases)
	s := see(r.watcher.State()) // what the engine changes meanwhile leads to another report
	ok := r.engine.query(func(m *ownership.Machine) {
		r.met, r.mute = r.met || m.Settled(), !r.trusted()
		switch {
		case !m.Alone():
			r.alone = time.Time{}
		case r.alone.IsZero():
			r.alone = time.Now()
		}
		for i := range p.snapshot.Services {
			reports = append(reports, r.reportOn(m, &p.plan, &p.snapshot.Services[i], s, x))
		}
	})
	if !ok {
		return nil, false
	}
	slices.SortFunc(reports, func(a, b status.ServiceReport) int { return a.Key.Compare(b.Key) })
	return reports, true
}

// reportOn says who announces one Service, with whatever protocol, or why nobody
// does.
func (r *reporter) reportOn(m *ownership.Machine, plan *announce.Result, svc *lb.Service, s seen, x *routed) status.ServiceReport {
	rep := status.ServiceReport{Key: svc.Key}
	byBGP := plan.CoveredByBGP(svc.Key)
	if _, grouped := plan.Group(svc.Key); grouped || !byBGP { // else it is no news that no L2Advertisement covers it
		rep = r.report(m, plan, svc, s)
		if rep.Reason.Good() || ofOwner(rep.Reason) || !byBGP {
			return rep
		}
	}
	r.reportBGP(m, plan, &rep, x)
	return rep
}

// report says which node answers for one Service, or why none does.
func (r *reporter) report(m *ownership.Machine, plan *announce.Result, svc *lb.Service, s seen) status.ServiceReport {
	out := status.ServiceReport{Key: svc.Key}
	var owner lb.NodeName
	out.Reason = plan.Verdict(svc.Key)
	if out.Reason.Code == "" {
		if group, ok := plan.Group(svc.Key); ok {
			owner, _ = m.Owner(group.Key)
			out.Reason = m.Verdict(group.Key)
		}
	}
	if owner == "" {
		out.Write, out.Deputy = turn(m, svc.Key)
		return out
	}
	out.Reason = r.announcing(owner, status.ProtocolL2)
	if but := uncovered(plan, svc); but != "" {
		out.Reason = reason.New(reason.Announcing, "%s%s", out.Reason.Text, but)
	}
	if owner != r.who.Node {
		return out
	}
	for _, a := range svc.Assigned {
		state := s.states[a]
		interfaces, why := s.all.Heard(&state)
		switch {
		case len(interfaces) > 0:
			out.Addresses = append(out.Addresses, a)
			out.Interfaces = append(out.Interfaces, interfaces...)
		case len(why) > 0:
			out.Reason, out.Write = r.deafReason(a, why), true
		}
	}
	slices.Sort(out.Interfaces)
	out.Interfaces = slices.Compact(out.Interfaces)
	// Elected, but not answering yet: the batch that starts it is under way, or
	// it is being found out whether somebody else has the address.
	out.Write = out.Write || len(out.Interfaces) > 0
	for _, a := range svc.Assigned {
		if len(s.conflicts[a]) > 0 {
			out.Reason, out.Write = r.conflictReason(m, s.states[a], s.conflicts[a]), true
			break
		}
	}
	return out
}

// ofOwner reports whether a reason is about a node that owns the addresses, and
// has trouble with them.
func ofOwner(why reason.Reason) bool {
	return why.Code == reason.AddressConflict || why.Code == reason.InterfaceError
}

// deafReason says why this node cannot answer for an address that it owns.
func (r *reporter) deafReason(a netip.Addr, why []l2.InterfaceError) reason.Reason {
	texts := make([]string, len(why))
	for i, e := range why {
		texts[i] = e.Interface + ": " + e.Message
	}
	return reason.New(reason.InterfaceError, "node %q should answer for %s, and cannot: %s", r.who.Node, a, strings.Join(texts, "; "))
}

// uncovered names the addresses of a Service that no L2Advertisement covers,
// though one covers another address of it.
func uncovered(plan *announce.Result, svc *lb.Service) string {
	group, ok := plan.Group(svc.Key)
	if !ok {
		return ""
	}
	var left []string
	for _, a := range svc.Assigned {
		if !group.Has(a) {
			left = append(left, a.String())
		}
	}
	if len(left) == 0 {
		return ""
	}
	return fmt.Sprintf("; but not %s, which no L2Advertisement covers", strings.Join(left, ", "))
}

// conflictReason names the other stations, and this node, which heard them.
func (r *reporter) conflictReason(m *ownership.Machine, a l2.AddressState, conflicts []l2.Conflict) reason.Reason {
	var others []string
	var nodes bool
	for _, c := range conflicts {
		other := fmt.Sprintf("%s (seen on %s)", c.MAC, c.Interface)
		if node, ok := m.NodeOf(c.MAC); ok {
			nodes = true
			other = fmt.Sprintf("node %q of this cluster, %s", node, other)
		}
		others = append(others, other)
	}
	text := fmt.Sprintf("node %q does not announce %s, because somebody else has it: %s", r.who.Node, a.IP, strings.Join(others, "; "))
	if a.Phase == l2.PhaseAnnouncing {
		text = fmt.Sprintf("node %q announces %s, but somebody else answers for it too: %s", r.who.Node, a.IP, strings.Join(others, "; "))
	}
	return reason.New(reason.AddressConflict, "%s; %s", text, r.conflictFix(a.IP, nodes))
}

// conflictFix says what is probably wrong. An address that is also configured
// on an interface of this node is most likely on every node: kube-proxy in
// IPVS mode puts it there, and every kernel answers for it.
func (r *reporter) conflictFix(a netip.Addr, nodes bool) string {
	for _, l := range r.links.Snapshot() {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return fmt.Sprintf("the address is configured on interface %s of this node, so probably on every node: "+
				"with kube-proxy in IPVS mode set strictARP: true, else remove it there", l.Name)
		}
	}
	if nodes {
		return "that node has the address on an interface (with kube-proxy in IPVS mode set strictARP: true, else remove it there), " +
			"or another load balancer runs there, or its speaker cannot be reached on the memberlist port or has another key"
	}
	return "find the machine with that MAC address, or take the address out of the pool"
}

// wait holds back bad news that may pass by itself, and says when to look
// again (0: nothing is held back).
func (r *reporter) wait(reports []status.ServiceReport, now time.Time) time.Duration {
	var again time.Duration
	still := make(map[lb.ServiceKey]badNews)
	for i := range reports {
		rep := &reports[i]
		if rep.Reason.Good() && !rep.Patient || rep.Reason.Code == reason.AddressConflict || !rep.Write {
			continue
		}
		news, known := r.bad[rep.Key]
		if !known || news.code != rep.Reason.Code || news.unsure != rep.Unsure {
			news = badNews{code: rep.Reason.Code, unsure: rep.Unsure, since: now}
		}
		still[rep.Key] = news
		hold := patience + rep.Extra
		if rep.Reason.Good() {
			hold = courtesy
		}
		if left := hold + time.Duration(rep.Deputy)*deputyWait - now.Sub(news.since); left > 0 {
			rep.Write = false
			if rep.Deputy > 0 {
				left = max(left, deputyLook)
			}
			if again == 0 || left < again {
				again = left
			}
		}
	}
	r.bad = still
	return again
}

// sync makes one report: what is to be written, and when to look again. It
// reports false if the engine has ended.
func (r *reporter) sync(p *planned, objs snapshot.Objects, now time.Time) ([]status.Write, time.Duration, bool) {
	x := newRouted(r.router, objs.Services, p.snapshot.BGPAdvertisements)
	reports, ok := r.gather(p, &x)
	if !ok {
		return nil, 0, false
	}
	r.measure(reports, &x)
	writes, again := r.onServices(objs, reports, now)
	writes = append(writes, r.bgpWrites(objs, &x)...)
	contact, look := r.contact(now)
	if look > 0 && (again == 0 || look < again) {
		again = look
	}
	if w, ok := status.SpeakerState(r.who, objs.ConfigurationStates, p.problems, nil, contact, now); ok {
		writes = append(writes, w)
	}
	return writes, again, true
}

// onServices is what to write on Services, and when to look again.
func (r *reporter) onServices(objs snapshot.Objects, reports []status.ServiceReport, now time.Time) ([]status.Write, time.Duration) {
	if r.mute {
		r.bad = nil // what was bad news then has to last from now on
		return nil, 0
	}
	again := r.wait(reports, now)
	writes, calmed := r.calm.filter(status.SpeakerReports(r.who, objs, reports, now), reports, now)
	if calmed > 0 && (again == 0 || calmed < again) {
		again = calmed
	}
	return writes, again
}

// alonePatience is how long a speaker must hear nobody before it says so: when it
// starts, it has not met the others yet.
const alonePatience = 5 * time.Second

// contact says whether other speakers are heard, and when to look again (0: not
// before something changes).
func (r *reporter) contact(now time.Time) (status.Contact, time.Duration) {
	if !r.met {
		return 0, 0 // it is not known yet whether there are others
	}
	if r.alone.IsZero() {
		return status.Connected, 0
	}
	if left := alonePatience - now.Sub(r.alone); left > 0 {
		return 0, left
	}
	return status.CutOff, 0
}

// measure fills metallb_speaker_announced: one series per Service and address
// that this node answers for or announces.
func (r *reporter) measure(reports []status.ServiceReport, x *routed) {
	rows := r.bgpRows(x)
	for _, rep := range reports {
		for _, a := range rep.Addresses {
			rows = append(rows, telemetry.Row{Labels: []string{rep.Key.String(), status.ProtocolL2, string(r.who.Node), a.String()}, Value: 1})
		}
	}
	r.metrics.L2.Announced.Set(rows)
}
