// SPDX-License-Identifier: Apache-2.0

// Package healthport asks kube-proxy of this node which Services it serves.
//
// A Service with externalTrafficPolicy Local has a health check node port. What
// does kube-proxy's work on a node answers there by HTTP: 200 if it forwards to
// endpoints on the node, 503 if it has none. kube-proxy does so after it has
// made its rules, so this is when traffic may come.
//
// A port is asked until it has said 200, or nobody wants to know any more; then
// nothing is left to do, and nothing wakes up.
package healthport

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// Config sets up a Driver.
type Config struct {
	// First and Longest are the pauses between two questions: each is twice the
	// one before. Default 10 and 160 ms.
	First, Longest time.Duration
	// Timeout of one question. Default 500 ms.
	Timeout time.Duration
	// AtOnce is how many are asked at the same time. Default 8.
	AtOnce int
}

func (c Config) withDefaults() Config {
	c.First = cmp.Or(c.First, 10*time.Millisecond)
	c.Longest = cmp.Or(c.Longest, 160*time.Millisecond)
	c.Timeout = cmp.Or(c.Timeout, 500*time.Millisecond)
	c.AtOnce = cmp.Or(c.AtOnce, 8)
	return c
}

// Driver asks. Its methods may be used concurrently.
type Driver struct {
	cfg     Config
	client  *http.Client
	wake    chan struct{}
	changed chan struct{}

	mu    sync.Mutex // guards the rest
	hosts []netip.Addr
	ports map[uint16]*asked
}

// asked is what is known of a port.
type asked struct {
	health bgp.Health
	next   time.Time     // to ask
	pause  time.Duration // before that
}

// New returns a Driver that asks nobody until Run.
func New(cfg Config) *Driver {
	cfg = cfg.withDefaults()
	return &Driver{
		cfg: cfg,
		client: &http.Client{
			Timeout:   cfg.Timeout,
			Transport: &http.Transport{DisableKeepAlives: true}, // each port is a server of its own, asked once or twice; no proxy
			// It would lead away from the node.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// Set gives the addresses of this node, in the order in which they are tried,
// and the ports to ask. It returns at once. What is known of a port is kept as
// long as it is wanted.
func (d *Driver) Set(hosts []netip.Addr, ports []uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.ports
	d.hosts, d.ports = hosts, make(map[uint16]*asked, len(ports))
	fresh := false
	for _, port := range ports {
		d.ports[port] = before[port]
		if before[port] == nil {
			d.ports[port] = &asked{}
			fresh = true
		}
	}
	if fresh {
		signal(d.wake)
	}
}

// Health says what the last answer at a port was.
func (d *Driver) Health(port uint16) bgp.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.ports[port]; a != nil {
		return a.health
	}
	return bgp.HealthUnknown
}

// Changed receives a value after an answer was another one than before. It has one reader.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Run asks until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	for {
		d.ask(ctx)
		var timer <-chan time.Time
		if next := d.next(); !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer:
		}
	}
}

// next is when to ask next; zero: nobody.
func (d *Driver) next() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	var next time.Time
	for _, a := range d.ports {
		if a.health != bgp.HealthServing && (next.IsZero() || a.next.Before(next)) {
			next = a.next
		}
	}
	return next
}

// ask asks at the ports where it is time to.
func (d *Driver) ask(ctx context.Context) {
	d.mu.Lock()
	hosts, due, now := d.hosts, map[uint16]*asked{}, time.Now()
	for port, a := range d.ports {
		if a.health != bgp.HealthServing && !now.Before(a.next) {
			due[port] = a
		}
	}
	d.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(d.cfg.AtOnce)
	for port, a := range due {
		g.Go(func() error {
			d.note(a, d.askOne(ctx, hosts, port))
			return nil
		})
	}
	_ = g.Wait() // none of them fails
}

// askOne takes the first answer. Which of the node's addresses kube-proxy listens
// at depends on its --nodeport-addresses.
func (d *Driver) askOne(ctx context.Context, hosts []netip.Addr, port uint16) bgp.Health {
	for _, host := range hosts {
		url := "http://" + net.JoinHostPort(host.String(), strconv.Itoa(int(port))) + "/healthz"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			continue
		}
		resp, err := d.client.Do(req)
		if err != nil {
			continue
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 1<<12) // what it says is in its status
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return bgp.HealthServing
		}
		return bgp.HealthNotServing
	}
	return bgp.HealthUnknown
}

// note takes an answer; if nobody wants it any more, nobody sees it.
func (d *Driver) note(a *asked, h bgp.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a.pause = min(max(2*a.pause, d.cfg.First), d.cfg.Longest)
	a.next = time.Now().Add(a.pause)
	if a.health != h {
		a.health = h
		signal(d.changed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
