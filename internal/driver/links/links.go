// SPDX-License-Identifier: Apache-2.0

// Package links watches the network interfaces of this node and their addresses by netlink.
//
// Any message of the kernel leads to the same thing: everything is listed again, at once for the first message and
// then at most once per short interval. What the message says is not used, so a lost message costs time, never
// correctness; a slow listing without a message repairs even that.
package links

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/core/l2"
)

// Link is a network interface.
type Link struct {
	Name   string
	Index  int
	MAC    l2.MAC // zero if it has no Ethernet address
	Up     bool   // set up by the administrator, and has carrier
	Kind   string // what the kernel calls it: "device", "bridge", "veth", "bond", ...
	Master string // name of the bridge or bond it belongs to, if any
	Addrs  []netip.Prefix
}

// Config sets up a Watcher.
type Config struct {
	// Logger is required.
	Logger *slog.Logger
	// MinInterval is the time between two listings while the kernel reports changes. Default 50 ms.
	MinInterval time.Duration
	// Relist is the time between listings without any report. Default 60 s.
	Relist time.Duration
	// Retry is the time until netlink is opened again after an error. Default 1 s.
	Retry time.Duration
}

func (c Config) withDefaults() Config {
	c.MinInterval = cmp.Or(c.MinInterval, 50*time.Millisecond)
	c.Relist = cmp.Or(c.Relist, time.Minute)
	c.Retry = cmp.Or(c.Retry, time.Second)
	return c
}

// Watcher knows the links of this node. Its methods may be used concurrently.
type Watcher struct {
	cfg      Config
	changed  chan struct{}
	snapshot atomic.Pointer[[]Link]
}

// New returns a Watcher that does nothing until Run.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg.withDefaults(), changed: make(chan struct{}, 1)}
}

// Snapshot returns the links, sorted by name, or nil before the first listing. Callers share it and must not change
// it.
func (w *Watcher) Snapshot() []Link {
	if s := w.snapshot.Load(); s != nil {
		return *s
	}
	return nil
}

// Changed receives a value after Snapshot has changed. Several changes may come as one. It has one reader.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Run watches until ctx ends. It returns only then; errors of netlink are logged and tried again.
func (w *Watcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := w.watch(ctx)
		if err == nil {
			break // ctx has ended
		}
		w.cfg.Logger.Warn("watching the network interfaces failed, will retry", "error", err, "after", w.cfg.Retry)
		select {
		case <-ctx.Done():
		case <-time.After(w.cfg.Retry):
		}
	}
	return nil
}

// watch subscribes first and lists then, so that no change falls in between. It returns nil when ctx ends.
func (w *Watcher) watch(ctx context.Context) error {
	subscription, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to netlink: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		subscription.Close()
		return fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()

	poke := make(chan struct{}, 1)
	failed := make(chan error, 1)
	var receiver sync.WaitGroup
	receiver.Go(func() { failed <- receive(subscription, poke) })
	defer func() {
		subscription.Close() // ends receive
		receiver.Wait()
	}()

	relist := time.NewTicker(w.cfg.Relist)
	defer relist.Stop()
	for {
		switch err := w.list(handle); {
		case errors.Is(err, netlink.ErrDumpInterrupted):
			notify(poke) // something changed while the kernel was listing
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.cfg.MinInterval):
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-poke:
		case <-relist.C:
		}
	}
}

// receive pokes for every message until the subscription fails or is closed. Messages lost because they came too fast
// (ENOBUFS) are a reason to list as well.
func receive(subscription *nl.NetlinkSocket, poke chan<- struct{}) error {
	for {
		if _, _, err := subscription.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("receive from netlink: %w", err)
		}
		notify(poke)
	}
}

// notify leaves a value in a channel of capacity one.
func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (w *Watcher) list(handle *netlink.Handle) error {
	found, err := handle.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	addrs, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	links := convert(found, addrs)
	if old := w.snapshot.Load(); old != nil && slices.EqualFunc(*old, links, same) {
		return nil
	}
	w.snapshot.Store(&links)
	notify(w.changed)
	return nil
}

func same(a, b Link) bool {
	return a.Name == b.Name && a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up &&
		a.Kind == b.Kind && a.Master == b.Master && slices.Equal(a.Addrs, b.Addrs)
}

func convert(found []netlink.Link, addrs []netlink.Addr) []Link {
	names := make(map[int]string, len(found))
	for _, f := range found {
		names[f.Attrs().Index] = f.Attrs().Name
	}
	prefixes := make(map[int][]netip.Prefix, len(found))
	for _, a := range addrs {
		if a.IPNet == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			bits, _ := a.Mask.Size()
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	links := make([]Link, 0, len(found))
	for _, f := range found {
		attrs := f.Attrs()
		l := Link{
			Name: attrs.Name, Index: attrs.Index, Kind: f.Type(),
			Up: up(attrs), Master: names[attrs.MasterIndex], Addrs: prefixes[attrs.Index],
		}
		if len(attrs.HardwareAddr) == len(l.MAC) {
			l.MAC = l2.MAC(attrs.HardwareAddr)
		}
		slices.SortFunc(l.Addrs, comparePrefixes)
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	return links
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// up goes by the flags: IFF_RUNNING is the operational state, with "unknown" counted as up (many virtual devices
// never say more), IFF_LOWER_UP is the carrier.
func up(attrs *netlink.LinkAttrs) bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return attrs.RawFlags&all == all
}
