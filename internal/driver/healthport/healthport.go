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
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
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
	ports map[uint16]bgp.Health
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
	d.hosts, d.ports = hosts, make(map[uint16]bgp.Health, len(ports))
	fresh := false
	for _, port := range ports {
		health, known := before[port]
		d.ports[port] = health
		fresh = fresh || !known
	}
	if fresh {
		signal(d.wake)
	}
}

// Health says what the last answer at a port was.
func (d *Driver) Health(port uint16) bgp.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ports[port]
}

// Changed receives a value after an answer was another one than before. It has one reader.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Run asks until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	pause := d.cfg.First
	for {
		hosts, ports := d.open()
		var timer <-chan time.Time
		if len(ports) > 0 {
			d.ask(ctx, hosts, ports)
			timer = time.After(pause)
			pause = min(2*pause, d.cfg.Longest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
			pause = d.cfg.First
		case <-timer:
		}
	}
}

// open lists what has not been answered well.
func (d *Driver) open() ([]netip.Addr, []uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ports []uint16
	for _, port := range slices.Sorted(maps.Keys(d.ports)) {
		if d.ports[port] != bgp.HealthServing {
			ports = append(ports, port)
		}
	}
	return d.hosts, ports
}

func (d *Driver) ask(ctx context.Context, hosts []netip.Addr, ports []uint16) {
	var g errgroup.Group
	g.SetLimit(d.cfg.AtOnce)
	for _, port := range ports {
		g.Go(func() error {
			d.note(port, d.askOne(ctx, hosts, port))
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

func (d *Driver) note(port uint16, h bgp.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if was, wanted := d.ports[port]; wanted && was != h {
		d.ports[port] = h
		signal(d.changed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
