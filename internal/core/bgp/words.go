// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// explain says in words what a NOTIFICATION of the router means. The local AS
// is the one that the router was shown.
func explain(n Notification, localAS uint32) string {
	switch n.Code {
	case codeHeader:
		return fmt.Sprintf("router closed the session: it could not read the header of a message (NOTIFICATION 1/%d)", n.Subcode)
	case codeOpen:
		return explainOpen(n, localAS)
	case codeUpdate:
		return fmt.Sprintf("router closed the session: it found an error in an UPDATE (NOTIFICATION 3/%d)", n.Subcode)
	case codeHold:
		return "router closed the session: it heard nothing from this node for its hold time"
	case codeFSM:
		return "router closed the session: it got a message that it did not expect in its state"
	case codeSendHold:
		return "router closed the session: this node did not read what it sent"
	case codeCease:
		return explainCease(n)
	}
	return fmt.Sprintf("router closed the session with NOTIFICATION %d/%d", n.Code, n.Subcode)
}

func explainOpen(n Notification, localAS uint32) string {
	switch n.Subcode {
	case subVersion:
		return "router does not speak BGP version 4"
	case subPeerAS:
		text := fmt.Sprintf("router says our AS %d is wrong", localAS)
		if as, ok := asIn(n.Data); ok && as != localAS && as != 0 && as != transAS {
			return text + fmt.Sprintf(", it expects %d: set myASN of the BGPPeer to it, or correct the router", as)
		}
		return text + ": set myASN of the BGPPeer to the AS that the router is configured for, or correct the router"
	case subRouterID:
		return "router does not accept our router ID: set routerID of the BGPPeer to one that no other router has"
	case subAuth:
		return "router asks for an authentication that BGP no longer has (NOTIFICATION 2/5)"
	case subHoldTime:
		return "router does not accept our hold time: change holdTime of the BGPPeer"
	case subCapability:
		return "router wants a capability that this session does not offer: is the address family the one it is configured for? (dualStackAddressFamily)"
	}
	return fmt.Sprintf("router does not accept our OPEN (NOTIFICATION 2/%d)", n.Subcode)
}

// asIn reads an AS number from the data of a NOTIFICATION. No RFC says what is
// in there; routers put one of the two AS numbers there, or nothing.
func asIn(data []byte) (uint32, bool) {
	switch len(data) {
	case 2:
		return uint32(binary.BigEndian.Uint16(data)), true
	case 4:
		return binary.BigEndian.Uint32(data), true
	}
	return 0, false
}

func explainCease(n Notification) string {
	switch n.Subcode {
	case subMaxPrefixes:
		return "router closed the session: we announce more prefixes than it allows"
	case subShutdown:
		return "router's operator shut the session down" + said(n.Data)
	case subDeconfigured:
		return "router's operator removed this node from its configuration"
	case subReset:
		return "router's operator reset the session" + said(n.Data)
	case subRejected:
		return "router rejected the connection: it has no neighbor configured with this node's address, or is not ready yet"
	case subConfigChanged:
		return "router closed the session because its configuration changed"
	case subCollision:
		return "router closed the session because it has another one with this node"
	case subResources:
		return "router closed the session: it is out of resources"
	case subBFDDown:
		return "router closed the session because its BFD session with this node is down"
	}
	return fmt.Sprintf("router closed the session (NOTIFICATION 6/%d)", n.Subcode)
}

// said quotes the sentence of RFC 9003, which comes from a stranger.
func said(data []byte) string {
	if len(data) == 0 || int(data[0]) > len(data)-1 || data[0] == 0 {
		return ""
	}
	text := data[1 : 1+int(data[0])]
	if !utf8.Valid(text) {
		return ""
	}
	clean := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(text))
	return fmt.Sprintf(" and says: %q", clean)
}
