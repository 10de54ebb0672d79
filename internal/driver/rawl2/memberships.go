// SPDX-License-Identifier: Apache-2.0

package rawl2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// memberships keeps this host in the solicited-node groups of its addresses: so that switches with MLD snooping bring
// us the questions, and the network card passes them on. It has a goroutine of its own, because joining a thousand
// groups takes a tenth of a second and must not hold up announcements.
type memberships struct {
	driver *Driver
	wanted chan []l2.Reach // the latest only
	links  map[int]*membership
}

// membership is what one link has joined.
type membership struct {
	name    string
	index   int
	joined  map[netip.Addr]*groupSocket
	sockets []*groupSocket
}

// groupSocket carries memberships; the kernel limits how many (net.core.optmem_max), so there may be several. It is
// a UDP socket that is bound to nothing and receives nothing.
type groupSocket struct {
	fd     int
	groups int
	full   bool
}

func newMemberships(d *Driver) *memberships {
	return &memberships{driver: d, wanted: make(chan []l2.Reach, 1), links: map[int]*membership{}}
}

// set gives the whole wanted state. It has one caller.
func (m *memberships) set(reaches []l2.Reach) {
	select {
	case <-m.wanted: // outdated
	default:
	}
	m.wanted <- reaches
}

func (m *memberships) run(ctx context.Context) {
	defer m.close()
	var groups map[l2.Link]map[netip.Addr]struct{}
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case reaches := <-m.wanted:
			groups = groupsOf(reaches)
		case <-again:
		}
		again = nil
		if !m.apply(groups) {
			again = time.After(10 * m.driver.retry)
		}
	}
}

// groupsOf lists per link the groups to be in. Addresses with the same last 24 bits share one.
func groupsOf(reaches []l2.Reach) map[l2.Link]map[netip.Addr]struct{} {
	groups := map[l2.Link]map[netip.Addr]struct{}{}
	for _, r := range reaches {
		if !r.IP.Is6() {
			continue
		}
		if groups[r.Link] == nil {
			groups[r.Link] = map[netip.Addr]struct{}{}
		}
		groups[r.Link][l2.SolicitedNode(r.IP)] = struct{}{}
	}
	return groups
}

// apply leaves and joins what is needed, and reports whether all went well.
func (m *memberships) apply(groups map[l2.Link]map[netip.Addr]struct{}) bool {
	wanted := map[int]bool{}
	for link := range groups {
		wanted[link.Index] = true
	}
	for index, ms := range m.links {
		if !wanted[index] {
			ms.close()
			delete(m.links, index)
			m.driver.report(ms.name, whatGroups, nil)
		}
	}
	ok := true
	for link, want := range groups {
		ms := m.links[link.Index]
		if ms == nil {
			ms = &membership{name: link.Name, index: link.Index, joined: map[netip.Addr]*groupSocket{}}
			m.links[link.Index] = ms
		}
		err := ms.apply(want)
		m.driver.report(link.Name, whatGroups, err)
		ok = ok && err == nil
	}
	return ok
}

const whatGroups = "IPv6 multicast groups"

func (m *memberships) close() {
	for _, ms := range m.links {
		ms.close()
	}
}

func (ms *membership) apply(want map[netip.Addr]struct{}) error {
	for group := range ms.joined {
		if _, still := want[group]; !still {
			ms.leave(group)
		}
	}
	var failed int
	var first error
	for _, group := range slices.SortedFunc(maps.Keys(want), netip.Addr.Compare) {
		if ms.joined[group] != nil {
			continue
		}
		if err := ms.join(group); err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	if first != nil {
		return fmt.Errorf("%d of %d not joined, is IPv6 enabled on the interface?: %w", failed, len(want), first)
	}
	return nil
}

// join uses a socket with room, or a new one.
func (ms *membership) join(group netip.Addr) error {
	for _, s := range ms.sockets {
		if s.full {
			continue
		}
		err := s.option(unix.IPV6_JOIN_GROUP, ms.index, group)
		if err == nil {
			ms.joined[group] = s
			s.groups++
			return nil
		}
		if s.groups == 0 || !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("join %v: %w", group, err)
		}
		s.full = true
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for groups: %w", err)
	}
	ms.sockets = append(ms.sockets, &groupSocket{fd: fd})
	return ms.join(group)
}

func (ms *membership) leave(group netip.Addr) {
	s := ms.joined[group]
	delete(ms.joined, group)
	// An error means that the kernel has left already, with the link.
	_ = s.option(unix.IPV6_LEAVE_GROUP, ms.index, group)
	s.groups--
	s.full = false
	if s.groups == 0 {
		_ = unix.Close(s.fd)
		ms.sockets = slices.DeleteFunc(ms.sockets, func(other *groupSocket) bool { return other == s })
	}
}

func (ms *membership) close() {
	for _, s := range ms.sockets {
		_ = unix.Close(s.fd) // leaves its groups
	}
}

func (s *groupSocket) option(option, index int, group netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{
		Multiaddr: group.As16(),
		Interface: uint32(index),
	})
}
