// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Type is the type of a message (RFC 4271, section 4.1; RFC 2918).
type Type uint8

// The types.
const (
	TypeOpen         Type = 1
	TypeUpdate       Type = 2
	TypeNotification Type = 3
	TypeKeepalive    Type = 4
	TypeRouteRefresh Type = 5
)

// String names the type as the RFCs do.
func (t Type) String() string {
	switch t {
	case TypeOpen:
		return "OPEN"
	case TypeUpdate:
		return "UPDATE"
	case TypeNotification:
		return "NOTIFICATION"
	case TypeKeepalive:
		return "KEEPALIVE"
	case TypeRouteRefresh:
		return "ROUTE-REFRESH"
	}
	return fmt.Sprintf("message of type %d", uint8(t))
}

// Raw is a message as it was received. The body of an UPDATE is dropped on the
// way: nobody looks at it.
type Raw struct {
	Type Type
	Body []byte // what follows the header
}

// Local is this end of a connection.
type Local struct {
	// Address of this end, and of the router, with their zones.
	Address, Remote netip.Addr
	// Interface4 and Interface6 are the first addresses that can be next hops
	// of the interface of Address, LinkLocal its link-local address. Any of
	// them may be invalid.
	Interface4, Interface6, LinkLocal netip.Addr
}

// Message is what a Machine gets (Open, Notification, Keepalive, Update,
// Refresh, Malformed) or wants to be sent.
type Message interface{ message() }

// Open is an OPEN message, sent or received.
type Open struct {
	Version  uint8 // of those received
	AS       uint32
	Hold     time.Duration
	RouterID netip.Addr
	// V4 and V6 are the families of the multiprotocol capability (RFC 4760).
	// A peer without the capability speaks IPv4.
	V4, V6 bool
	// FourByteAS (RFC 6793), RouteRefresh (RFC 2918).
	FourByteAS, RouteRefresh bool
	// ExtendedNextHop: IPv4 routes may have IPv6 next hops (RFC 8950).
	ExtendedNextHop bool
	// GracefulRestart (RFC 4724); Restarting is its flag R.
	GracefulRestart, Restarting bool
	RestartTime                 time.Duration
}

// Keepalive is a KEEPALIVE message.
type Keepalive struct{}

// Update is an UPDATE message that was received, and dropped.
type Update struct{}

// Refresh is a ROUTE-REFRESH message.
type Refresh struct{ Family lb.Family }

// Notification is a NOTIFICATION message.
type Notification struct {
	Code, Subcode uint8
	Data          []byte
}

// Malformed stands for a message that could not be read: the router is told
// the code, the user the text.
type Malformed struct {
	Code, Subcode uint8
	Text          string
}

// Error makes it an error, for those who read.
func (m Malformed) Error() string { return m.Text }

// Announcement is a group of routes with the same attributes, to be sent in as
// few messages as possible.
type Announcement struct {
	Attributes
	Family lb.Family
	// NextHop of the routes, and LinkLocal besides it (RFC 2545), or invalid.
	NextHop, LinkLocal netip.Addr
	Prefixes           []netip.Prefix
}

// Withdrawal is a group of routes that are no longer.
type Withdrawal struct {
	Family   lb.Family
	Prefixes []netip.Prefix
}

// EndOfRIB says that all routes of a family have been sent (RFC 4724).
type EndOfRIB struct{ Family lb.Family }

func (Open) message()         {}
func (Keepalive) message()    {}
func (Update) message()       {}
func (Refresh) message()      {}
func (Notification) message() {}
func (Malformed) message()    {}
func (Announcement) message() {}
func (Withdrawal) message()   {}
func (EndOfRIB) message()     {}

// Codes of NOTIFICATION messages (RFC 4271, section 4.5; RFC 4486; RFC 6608).
const (
	codeHeader    = 1
	codeOpen      = 2
	codeUpdate    = 3
	codeHold      = 4
	codeFSM       = 5
	codeCease     = 6
	codeSendHold  = 8 // RFC 9687
	subVersion    = 1
	subPeerAS     = 2
	subRouterID   = 3
	subAuth       = 5
	subHoldTime   = 6
	subCapability = 7

	subMaxPrefixes   = 1
	subShutdown      = 2
	subDeconfigured  = 3
	subReset         = 4
	subRejected      = 5
	subConfigChanged = 6
	subCollision     = 7
	subResources     = 8
	subBFDDown       = 10 // RFC 9384
)

// Shutdown is the NOTIFICATION of a speaker that ends or whose peer was
// removed, with a sentence for the router's operator (RFC 9003).
func Shutdown(text string) Notification {
	const limit = 255 // RFC 9003, section 2
	if len(text) > limit {
		text = text[:limit]
	}
	return Notification{codeCease, subShutdown, append([]byte{byte(len(text))}, text...)}
}

// Deconfigured is the NOTIFICATION for a peer that is no longer wanted.
func Deconfigured() Notification { return Notification{Code: codeCease, Subcode: subDeconfigured} }

// Reconfigured is the NOTIFICATION for a peer whose key changed.
func Reconfigured() Notification { return Notification{Code: codeCease, Subcode: subConfigChanged} }

// BFDDown is the NOTIFICATION for a peer that BFD has lost (RFC 9384).
func BFDDown() Notification { return Notification{Code: codeCease, Subcode: subBFDDown} }
