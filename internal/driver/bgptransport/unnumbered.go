// SPDX-License-Identifier: Apache-2.0

package bgptransport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
)

// finder finds the router at the other end of a link, for sessions without
// configured addresses: routers announce themselves with Router Advertisements
// (RFC 4861), and some (FRR) accept a neighbour only once they have heard it
// doing so. Our own advertisements have the lifetime 0: this node is no
// router for anybody.
//
//	we: Router Solicitation, Router Advertisement ---> router
//	we: learn its address <--------------------------- Router Advertisement
//	we: connect, when it has had the time to learn ours
type finder struct {
	router netip.Addr // with its zone
	conn   *ndp.Conn
	iface  *net.Interface
	stop   chan struct{}
	done   sync.WaitGroup
}

const (
	// solicitEvery is the time between two solicitations until the router is
	// found, and advertiseEvery that between our advertisements afterwards.
	solicitEvery   = 500 * time.Millisecond
	advertiseEvery = 10 * time.Second
	// acquaintance is the time from our first advertisement to the connection. FRR prepares a session of its own when
	// it learns our address, and a connection in the midst of that comes up only to be closed again (seen with 8.4.4).
	acquaintance = 100 * time.Millisecond
)

// find waits until a router shows up behind the interface.
func (t *Transport) find(ctx context.Context, name string) (*finder, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("this node has no interface %s", name)
	}
	conn, self, err := ndp.Listen(iface, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("interface %s has no usable IPv6 link-local address: %w", name, err)
	}
	f := &finder{conn: conn, iface: iface, stop: make(chan struct{})}
	if err := f.search(ctx, self); err != nil {
		_ = conn.Close() // the first error counts
		return nil, err
	}
	f.done.Go(f.advertise)
	return f, nil
}

func (f *finder) search(ctx context.Context, self netip.Addr) error {
	if err := f.conn.JoinGroup(netip.MustParseAddr("ff02::1")); err != nil {
		return fmt.Errorf("listen for routers on %s: %w", f.iface.Name, err)
	}
	first := time.Now()
	for ctx.Err() == nil {
		if err := f.call(); err != nil {
			return err
		}
		until := time.Now().Add(solicitEvery)
		if d, ok := ctx.Deadline(); ok && d.Before(until) {
			until = d
		}
		if f.listen(until, self) {
			return pause(ctx, time.Until(first.Add(acquaintance)))
		}
	}
	return fmt.Errorf("no router was heard on %s: does it send Router Advertisements there?", f.iface.Name)
}

// pause returns early, and with an error, when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call asks for routers, and shows this node.
func (f *finder) call() error {
	source := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: f.iface.HardwareAddr}}
	routers, nodes := netip.MustParseAddr("ff02::2"), netip.MustParseAddr("ff02::1")
	if err := f.conn.WriteTo(&ndp.RouterSolicitation{Options: source}, nil, routers); err != nil {
		return fmt.Errorf("ask for routers on %s: %w", f.iface.Name, err)
	}
	if err := f.conn.WriteTo(&ndp.RouterAdvertisement{Options: source}, nil, nodes); err != nil {
		return fmt.Errorf("show this node on %s: %w", f.iface.Name, err)
	}
	return nil
}

// listen reports whether a router was heard in time.
func (f *finder) listen(until time.Time, self netip.Addr) bool {
	if err := f.conn.SetReadDeadline(until); err != nil {
		return false
	}
	for {
		msg, _, from, err := f.conn.ReadFrom()
		if err != nil {
			if timeout(err) {
				return false
			}
			if time.Now().After(until) {
				return false
			}
			continue // a malformed packet
		}
		from = from.WithZone("")
		if _, ok := msg.(*ndp.RouterAdvertisement); ok && from != self.WithZone("") && from.IsLinkLocalUnicast() {
			f.router = from.WithZone(f.iface.Name)
			return true
		}
	}
}

// advertise shows this node as long as the session lasts.
func (f *finder) advertise() {
	ticker := time.NewTicker(advertiseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
			// One that is lost, while the link is down for example, is followed by another.
			_ = f.call()
		}
	}
}

// close ends it; a nil finder has nothing to end.
func (f *finder) close() {
	if f == nil {
		return
	}
	close(f.stop)
	f.done.Wait()
	_ = f.conn.Close() // nothing is to be saved
}
