// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/probe"
)

// manyRouter is FRR as it is, in the network of the 10,000 addresses.
const manyRouter = `router bgp 64600
 bgp router-id 10.60.0.200
 no bgp ebgp-requires-policy
 neighbor 10.60.0.11 remote-as 64512
`

const manyByBGP = `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: %[1]s}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 10.60.0.200}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: load, namespace: %[1]s}
`

// fullTableRuns is how often a speaker is started with all addresses; the median counts.
const fullTableRuns = 3

// fullTable has the node announce all addresses with BGP and with nothing else, then kills its speaker: from the start of the next one
// until the router has all of them again. The speaker's memory is measured after that, at rest.
func fullTable(ctx context.Context, o Options, c *cluster) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*manyLimit)
	defer cancel()
	if _, _, err := c.Kubectl(ctx, nil, "delete", "l2advertisement", "load", "-n", o.Namespace, "--ignore-not-found"); err != nil {
		return nil, err
	}
	if err := c.apply(ctx, fmt.Sprintf(manyByBGP, o.Namespace)); err != nil {
		return nil, err
	}
	o.say("wait until the router has %d routes, and the speaker has reported them", o.Many)
	if _, err := c.routerHas(ctx, o.Many, 0); err != nil {
		return nil, err
	}
	for range 2 { // a few writes for each Service take a while
		err := c.atRest(ctx)
		if err == nil {
			break
		}
		o.say("it does not come to rest: %v", err)
	}
	var times []float64
	for i := range fullTableRuns {
		took, err := c.startSpeaker(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		o.say("speaker started %d: the router has all routes after %.0f ms", i+1, milliseconds(took))
		times = append(times, milliseconds(took))
	}
	slices.Sort(times)
	rs := []Result{{"bgp_full_table_10k_ms", probe.Percentile(times, 50), "ms"}}
	if err := c.atRest(ctx); err != nil {
		o.say("it does not come to rest: %v", err)
	}
	mb, err := resident(ctx, c.Lab, programs(o)["speaker"])
	if err != nil {
		return rs, err
	}
	return append(rs, Result{"speaker_rss_mb_bgp_10k", mb, "MB"}), nil
}

// startSpeaker kills the speaker, which the node starts again, and returns how long the new one took until the router had all routes.
func (c *cluster) startSpeaker(ctx context.Context, o Options) (time.Duration, error) {
	program := programs(o)["speaker"]
	old, err := instances(ctx, c.Lab, program)
	if err != nil {
		return 0, err
	}
	sessions, err := c.session(ctx)
	if err != nil {
		return 0, err
	}
	if err := old[0].signal(unix.SIGKILL); err != nil {
		return 0, err
	}
	var begun time.Time
	err = waitEvery(ctx, 20*time.Millisecond, readyLimit, func(ctx context.Context) error {
		now, err := instances(ctx, c.Lab, program)
		if err != nil || now[0].pid == old[0].pid {
			return orNotYet(err)
		}
		begun, err = startOf(readProc(now[0].pid, "stat"))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the next speaker: %w", err)
	}
	end, err := c.routerHas(ctx, o.Many, sessions.Established)
	return end.Sub(begun), err
}

// routerSession is what the router says of its session with the node.
type routerSession struct {
	Established int `json:"connectionsEstablished"`
	Families    map[string]struct {
		Accepted int `json:"acceptedPrefixCounter"`
	} `json:"addressFamilyInfo"`
}

func (c *cluster) session(ctx context.Context) (routerSession, error) {
	out, err := c.Exec(ctx, bgpRouter, "vtysh", "-N", bgpRouter, "-c", "show bgp neighbors 10.60.0.11 json")
	if err != nil {
		return routerSession{}, err
	}
	all := map[string]routerSession{}
	if err := json.Unmarshal(out, &all); err != nil {
		return routerSession{}, fmt.Errorf("read what the router says: %w", err)
	}
	return all["10.60.0.11"], nil
}

// routerHas waits until the router has n prefixes from the node, in a session after the one of that number, and returns when it had.
func (c *cluster) routerHas(ctx context.Context, n, after int) (time.Time, error) {
	var at time.Time
	err := waitEvery(ctx, 50*time.Millisecond, manyLimit, func(ctx context.Context) error {
		s, err := c.session(ctx)
		at = time.Now()
		if have := s.Families["ipv4Unicast"].Accepted; err == nil && (have < n || s.Established <= after) {
			err = fmt.Errorf("the router has %d prefixes in session %d", have, s.Established)
		}
		return err
	})
	return at, err
}

// startOf is when a process was started, from /proc/PID/stat: so many ticks after the machine was.
func startOf(stat string) (time.Time, error) {
	const startTime = 19
	fields := statFields([]byte(stat))
	if len(fields) <= startTime {
		return time.Time{}, fmt.Errorf("no start time in %q", stat)
	}
	ticks, err := strconv.Atoi(strings.TrimSpace(fields[startTime]))
	if err != nil {
		return time.Time{}, err
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(time.Duration(ticks)*clockTick - time.Duration(up.Nano())), nil
}
