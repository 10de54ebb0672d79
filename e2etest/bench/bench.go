// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options say what to measure.
type Options struct {
	// Run selects measurements by name; nil is all.
	Run *regexp.Regexp
	// Nodes of the labs; default 3.
	Nodes int
	// Services to create in the burst; the names of the measurements say 1000, which is the default.
	Services int
	// Many is how many Services the scale is measured with; the names of the measurements say 10k, which is the default.
	Many int
	// Cuts is how often a cable is cut; a speaker is frozen and killed half as often. Default 20.
	Cuts int
	// Load is how long all cores are kept busy to see whether an address moves; default ten minutes.
	Load time.Duration
	// Idle is how long a settled cluster is watched; default one minute.
	Idle time.Duration
	// Manifests and Images install another implementation of the same API instead of the chart, into Namespace.
	Manifests []string
	Images    map[string]string
	Namespace string
	// Root is the top of the source tree.
	Root string
	// Progress receives what is being done.
	Progress io.Writer
}

// group is what is measured together, in one lab.
type group struct {
	title string
	names []string
	// ours means that it measures this repository's own code, and says nothing about another implementation.
	ours bool
	run  func(context.Context, Options) ([]Result, error)
}

func groups() []group {
	return []group{
		{
			title: "plans",
			names: []string{"plan_ipam_10k_ms", "plan_announce_10k_ms", "pool_fill_65k_ms"},
			ours:  true,
			run:   plans,
		},
		{
			title: "1,000 Services",
			names: []string{"alloc_burst_ratio_1000", "controller_rss_mb_1000", "speaker_rss_mb_1000", "idle_writes_per_minute"},
			run:   thousand,
		},
		{
			title: "10,000 Services",
			names: []string{"alloc_10k_create_seconds", "alloc_10k_seconds", "alloc_10k_ratio", "writes_per_service",
				"controller_rss_mb_10k", "leader_takeover_ms", "leader_takeover_over_lease_ms",
				"alloc_latency_p50_ms", "alloc_latency_p99_ms", "api_write_p99_ms", "alloc_latency_p99_over_api_ms"},
			run: tenThousand,
		},
		{
			title: "10,000 addresses at one node",
			names: []string{"arp_reply_ratio_p50", "arp_reply_ratio_p99", "arp_awake_ratio_p50", "arp_awake_ratio_p99",
				"arp_offload_ratio_p50", "arp_offload_ratio_p99", "speaker_rss_mb_10k", "bgp_full_table_10k_ms", "speaker_rss_mb_bgp_10k"},
			run: tenThousandAddresses,
		},
		{
			title: "1,000 addresses at one node",
			names: []string{"l2_cable_cut_p50_ms", "l2_cable_cut_p99_ms", "l2_cable_cut_client_p50_ms",
				"l2_freeze_p50_ms", "l2_freeze_p99_ms", "l2_freeze_client_p50_ms", "l2_kill_p50_ms", "l2_kill_p99_ms", "l2_kill_client_p50_ms",
				"l2_two_owner_ms_max", "l2_two_owner_healing_ms_max", "api_requests_per_failover", "l2_handover_failed_connections",
				"speaker_cpu_percent_idle", "speaker_cpu_percent_arp_storm", "l2_false_moves_under_load", "l2_load_machine_stall_ms_max"},
			run: failovers,
		},
		{
			title: "BGP with FRR",
			names: []string{"bgp_dead_node_p50_ms", "bgp_dead_node_max_ms", "bgp_announce_p50_ms", "bgp_announce_p99_ms", "bgp_burst_ratio_500",
				"bgp_drain_failed_connections", "bgp_upgrade_failed_connections", "bgp_session_resets_under_churn"},
			run: bgp,
		},
	}
}

func (o Options) withDefaults() Options {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Services == 0 {
		o.Services = 1000
	}
	if o.Many == 0 {
		o.Many = many
	}
	if o.Cuts == 0 {
		o.Cuts = 20
	}
	if o.Load == 0 {
		o.Load = 10 * time.Minute
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	if o.Namespace == "" {
		o.Namespace = "metallb-system"
	}
	return o
}

func (o Options) wants(g group) bool {
	if g.ours && len(o.Manifests) > 0 {
		return false
	}
	return o.wantsAny(g.names...)
}

func (o Options) wantsAny(names ...string) bool {
	return o.Run == nil || slices.ContainsFunc(names, o.Run.MatchString)
}

func (o Options) say(format string, args ...any) {
	fmt.Fprintf(o.Progress, format+"\n", args...)
}

// Validate refuses options that would measure nothing.
func (o Options) Validate() error {
	var names []string
	for _, g := range groups() {
		if o.wants(g) {
			return nil
		}
		if !g.ours || len(o.Manifests) == 0 {
			names = append(names, g.names...)
		}
	}
	return fmt.Errorf("%q matches no value; there are: %s", o.Run, strings.Join(names, ", "))
}

// Run measures, and returns what it has even if something failed.
func Run(ctx context.Context, o Options) ([]Result, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	var all []Result
	for _, g := range groups() {
		if !o.wants(g) {
			continue
		}
		o.say("--- %s", g.title)
		if busy := machineBusy(ctx); busy > quietMachine {
			o.say("NOISY: other programs keep %.1f of %d cores busy; times and ratios of times say little", busy, runtime.NumCPU())
		}
		rs, err := g.run(ctx, o)
		for _, r := range rs {
			if o.Run == nil || o.Run.MatchString(r.Name) {
				all = append(all, r)
			}
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", g.title, err)
		}
	}
	return all, nil
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
