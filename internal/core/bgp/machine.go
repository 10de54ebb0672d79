// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Times of a Machine.
const (
	// openWait is how long the router may take for its OPEN, and for its first
	// KEEPALIVE if there is no hold time. RFC 4271 suggests minutes; a router
	// that accepts connections and says nothing should be noticed sooner.
	openWait = 20 * time.Second
	// RestartTime is how long a router keeps the routes of a speaker that
	// restarts (RFC 4724).
	RestartTime = 120 * time.Second
	// minHold is the shortest hold time (RFC 4271, section 4.2).
	minHold = 3 * time.Second
	// late is by how much Tick may come late. If it is more, this process was
	// stopped or had no processor, and what the router sent meanwhile may be
	// unread: grace is how long it gets to be read.
	late  = 200 * time.Millisecond
	grace = time.Second
)

// Config is what a Machine is made from.
type Config struct {
	Key    Key
	Timers Timers
	Local  Local
	// NextHop4 and NextHop6: see Session.
	NextHop4, NextHop6 netip.Addr
	// Restarting is set on the first session of a process: the router may have
	// kept the routes of the one before.
	Restarting bool
}

// Machine is one connection with a router. It begins by sending OPEN. After
// any call, Ready says what is to be done.
type Machine struct {
	cfg   Config
	state State
	peer  Open

	hold      time.Duration // negotiated; 0: none
	keepalive time.Duration
	heardBy   time.Time // something must have been heard by then; zero: no limit
	graced    bool      // heardBy was put off since the router was heard last
	sendAt    time.Time // the next KEEPALIVE; zero: none
	queue     []Message // to be sent before routes
	end       *End

	table table
}

// End is the end of a connection.
type End struct {
	// Send is what to tell the router first; nil: nothing.
	Send *Notification
	// Text is the reason in words; empty: it was wanted.
	Text string
}

// Ready is what is to be done now.
type Ready struct {
	Send []Message
	// End, when not nil: send its notification, close, and drop the machine.
	End *End
}

// NewMachine returns the machine of a connection that has just been made.
func NewMachine(cfg Config, now time.Time) *Machine {
	m := &Machine{cfg: cfg, state: OpenSent, heardBy: now.Add(openWait)}
	m.queue = append(m.queue, Open{
		AS: cfg.Key.LocalAS, Hold: cfg.Timers.Hold, RouterID: cfg.Key.RouterID, V4: cfg.Key.V4, V6: cfg.Key.V6,
		FourByteAS: true, RouteRefresh: true, ExtendedNextHop: cfg.Key.V4 && cfg.Local.Address.Is6(),
		GracefulRestart: cfg.Key.GracefulRestart, Restarting: cfg.Restarting, RestartTime: RestartTime,
	})
	return m
}

// State returns OpenSent, OpenConfirm or Established, or Idle after the end.
func (m *Machine) State() State { return m.state }

// Internal reports whether the router is of the same AS. It is known once the
// OPEN of the router is.
func (m *Machine) Internal() bool { return m.peer.AS == m.cfg.Key.LocalAS }

// FourByteAS reports whether AS numbers have four bytes on this session.
func (m *Machine) FourByteAS() bool { return m.peer.FourByteAS }

// Prefixes returns how many prefixes the router has from this node.
func (m *Machine) Prefixes() int { return m.table.len() }

// Notice says what does not work on an established session, or "".
func (m *Machine) Notice() string {
	if m.state != Established {
		return ""
	}
	return m.table.notice
}

// Set gives the routes that are wanted. They are sent once the session is
// established, and from then on only the differences.
func (m *Machine) Set(routes []Route) { m.table.set(routes) }

// SetTimers changes what can be changed of the timers of a live session.
func (m *Machine) SetTimers(t Timers, now time.Time) {
	m.cfg.Timers = t
	if m.state == OpenConfirm || m.state == Established {
		m.pace()
		if m.keepalive > 0 && m.sendAt.After(now.Add(m.keepalive)) {
			m.sendAt = now.Add(m.keepalive)
		}
	}
}

// Close ends the session with a notification, or without one.
func (m *Machine) Close(n *Notification, text string) { m.fail(n, text) }

// Receive takes a message of the router.
func (m *Machine) Receive(msg Message, now time.Time) {
	if m.end != nil {
		return
	}
	switch msg := msg.(type) {
	case Notification:
		m.fail(nil, explain(msg, m.cfg.Key.LocalAS))
		return
	case Malformed:
		m.fail(&Notification{Code: msg.Code, Subcode: msg.Subcode}, msg.Text)
		return
	}
	switch m.state {
	case OpenSent:
		if open, ok := msg.(Open); ok {
			m.open(open, now)
			return
		}
	case OpenConfirm:
		if _, ok := msg.(Keepalive); ok {
			m.establish(now)
			return
		}
	case Established:
		switch msg := msg.(type) {
		case Keepalive, Update:
			m.heard(now)
			return
		case Refresh:
			m.heard(now)
			m.table.refresh(msg.Family)
			return
		}
	}
	// RFC 6608: the subcode is the state.
	sub := map[State]uint8{OpenSent: 1, OpenConfirm: 2, Established: 3}[m.state]
	m.fail(&Notification{Code: codeFSM, Subcode: sub}, fmt.Sprintf("router sent %s, which does not belong there (state %s)", nameOf(msg), m.state))
}

func nameOf(m Message) string {
	switch m.(type) {
	case Open:
		return "a second OPEN"
	case Keepalive:
		return "KEEPALIVE"
	case Refresh:
		return "ROUTE-REFRESH"
	}
	return "UPDATE"
}

// Tick tells the time. It must be called at Next, and may be called any time.
func (m *Machine) Tick(now time.Time) {
	if m.end != nil {
		return
	}
	if !m.heardBy.IsZero() && !now.Before(m.heardBy) {
		if m.graced || now.Sub(m.heardBy) < late {
			m.silent()
			return
		}
		m.graced, m.heardBy = true, now.Add(grace)
	}
	if !m.sendAt.IsZero() && !now.Before(m.sendAt) {
		m.queue = append(m.queue, Keepalive{})
		m.sendAt = now.Add(m.keepalive)
	}
}

func (m *Machine) silent() {
	n := &Notification{Code: codeHold}
	switch m.state {
	case OpenSent:
		m.fail(n, fmt.Sprintf("router accepted the connection and then sent no OPEN for %s", openWait))
	case OpenConfirm:
		m.fail(n, fmt.Sprintf("router sent OPEN and then no KEEPALIVE for %s", m.patience()))
	default:
		m.fail(n, fmt.Sprintf("nothing was heard of the router for the hold time of %s", m.hold))
	}
}

// Next returns when Tick is due, or the zero time.
func (m *Machine) Next() time.Time {
	if m.heardBy.IsZero() || !m.sendAt.IsZero() && m.sendAt.Before(m.heardBy) {
		return m.sendAt
	}
	return m.heardBy
}

// Ready returns what is to be done, once. It is to be called when everything
// that was returned before has been sent: then the differences of the routes
// are as small as they can be, and nothing piles up for a router that does not
// read.
func (m *Machine) Ready() Ready {
	if m.end != nil {
		r := Ready{End: m.end}
		return r
	}
	r := Ready{Send: m.queue}
	m.queue = nil
	if m.state == Established {
		r.Send = append(r.Send, m.table.changes()...)
	}
	return r
}

// open judges the OPEN of the router.
func (m *Machine) open(o Open, now time.Time) {
	if n, text := m.judge(o); n != nil {
		m.fail(n, text)
		return
	}
	m.peer = o
	m.hold = min(m.cfg.Timers.Hold, o.Hold)
	m.pace()
	m.state = OpenConfirm
	m.queue = append(m.queue, Keepalive{})
	if m.keepalive > 0 {
		m.sendAt = now.Add(m.keepalive)
	}
	m.heardBy, m.graced = now.Add(m.patience()), false
}

// pace works out the interval of KEEPALIVEs: as configured, but never longer
// than a third of the hold time that was agreed on.
func (m *Machine) pace() {
	m.keepalive = m.hold / 3
	if k := m.cfg.Timers.Keepalive; k > 0 {
		m.keepalive = min(m.keepalive, k)
	}
}

// patience is how long the router may be silent before it is established.
func (m *Machine) patience() time.Duration {
	if m.hold == 0 {
		return openWait
	}
	return min(m.hold, openWait)
}

func (m *Machine) judge(o Open) (*Notification, string) {
	key := &m.cfg.Key
	refuse := func(sub uint8, format string, args ...any) (*Notification, string) {
		return &Notification{Code: codeOpen, Subcode: sub}, fmt.Sprintf(format, args...)
	}
	switch {
	case o.Version != 4:
		return &Notification{Code: codeOpen, Subcode: subVersion, Data: []byte{0, 4}}, fmt.Sprintf("router speaks BGP version %d, not 4", o.Version)
	case key.PeerAS != 0 && o.AS != key.PeerAS:
		return refuse(subPeerAS, "router says it is AS %d, but peerASN of the BGPPeer is %d: correct one of the two", o.AS, key.PeerAS)
	case key.PeerAS == 0 && key.Dynamic == "internal" && o.AS != key.LocalAS:
		return refuse(subPeerAS, "router says it is AS %d, but dynamicASN internal wants our own, %d: set dynamicASN to external, or correct the router", o.AS, key.LocalAS)
	case key.PeerAS == 0 && key.Dynamic == "external" && o.AS == key.LocalAS:
		return refuse(subPeerAS, "router says it is AS %d, which is our own, but dynamicASN is external: set it to internal, or correct the router", o.AS)
	case o.AS == 0:
		return refuse(subPeerAS, "router says it is AS 0")
	case o.RouterID.IsUnspecified() || !o.RouterID.Is4():
		return refuse(subRouterID, "router has no router ID")
	case o.RouterID == key.RouterID && o.AS == key.LocalAS:
		return refuse(subRouterID, "router has the same router ID as this node, %s: set routerID of the BGPPeer, or correct the router", o.RouterID)
	case o.Hold != 0 && o.Hold < minHold:
		return refuse(subHoldTime, "router wants a hold time of %s; 3 s is the shortest there is", o.Hold)
	case !(key.V4 && o.V4) && !(key.V6 && o.V6):
		return refuse(subCapability, "router speaks %s on this session, and we want %s: activate the address family for this neighbor, or set dualStackAddressFamily", families(o.V4, o.V6), families(key.V4, key.V6))
	}
	return nil, ""
}

func families(v4, v6 bool) string {
	switch {
	case v4 && v6:
		return "IPv4 and IPv6"
	case v4:
		return "only IPv4"
	case v6:
		return "only IPv6"
	}
	return "neither IPv4 nor IPv6"
}

func (m *Machine) establish(now time.Time) {
	m.state = Established
	m.heard(now)
	m.table.open(m.exits())
}

func (m *Machine) heard(now time.Time) {
	m.heardBy, m.graced = time.Time{}, false
	if m.hold > 0 {
		m.heardBy = now.Add(m.hold)
	}
}

func (m *Machine) fail(n *Notification, text string) {
	if m.end == nil {
		m.state = Idle
		m.end = &End{Send: n, Text: text}
	}
}

// exits says for each family whether routes can be sent, and with which next
// hop.
func (m *Machine) exits() []exit {
	var out []exit
	if m.cfg.Key.V4 {
		out = append(out, m.exit4())
	}
	if m.cfg.Key.V6 {
		out = append(out, m.exit6())
	}
	return out
}

// exit4: over an IPv4 session the session's own address. Over an IPv6 session
// an IPv6 next hop if the router can do that (RFC 8950), else an IPv4 address
// of the interface or the node.
func (m *Machine) exit4() exit {
	local := m.cfg.Local
	x := exit{family: lb.IPv4}
	switch {
	case !m.peer.V4:
		x.closed = "router does not take IPv4 routes on this session"
	case local.Address.IsLoopback() && m.cfg.NextHop4.IsValid():
		x.nextHop = m.cfg.NextHop4 // a router on the same host tells others
	case local.Address.Is4():
		x.nextHop = local.Address
	case m.peer.ExtendedNextHop:
		x.nextHop, x.linkLocal = m.hop6()
	case local.Interface4.IsValid():
		x.nextHop = local.Interface4
	case m.cfg.NextHop4.IsValid():
		x.nextHop = m.cfg.NextHop4
	default:
		x.closed = "router does not take IPv4 routes with an IPv6 next hop (RFC 8950), and this node has no IPv4 address"
	}
	return x
}

func (m *Machine) exit6() exit {
	x := exit{family: lb.IPv6}
	if !m.peer.V6 {
		x.closed = "router does not take IPv6 routes on this session"
		return x
	}
	x.nextHop, x.linkLocal = m.hop6()
	if !x.nextHop.IsValid() {
		x.closed = "this node has no IPv6 address that could be the next hop of IPv6 routes"
	}
	return x
}

// hop6 is the next hop of this node for IPv6 (RFC 2545, section 3): the
// link-local address goes along only with a router on the same link, which is
// certain when the session itself uses such addresses.
func (m *Machine) hop6() (global, linkLocal netip.Addr) {
	local := m.cfg.Local
	switch {
	case local.Address.IsLoopback():
	case local.Address.IsLinkLocalUnicast() && local.Address.Is6():
		linkLocal = local.Address.WithZone("")
		if local.Interface6.IsValid() {
			return local.Interface6, linkLocal
		}
		return linkLocal, netip.Addr{}
	case local.Address.Is6():
		return local.Address.WithZone(""), netip.Addr{}
	case local.Interface6.IsValid():
		return local.Interface6, netip.Addr{}
	}
	return m.cfg.NextHop6, netip.Addr{}
}
