// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Result is one measured value.
type Result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Target is the largest value that is good enough.
type Target struct {
	Name string
	Max  float64
}

// Targets returns what the project has promised, in the order of the table.
func Targets() []Target {
	return []Target{
		{"alloc_burst_ratio_1000", 1.10},
		{"controller_rss_mb_1000", 60},
		{"speaker_rss_mb_1000", 50},
		{"arp_reply_ratio_p50", 2.0},
		{"arp_reply_ratio_p99", 2.5},
		{"arp_offload_ratio_p50", 1.5},
		{"arp_offload_ratio_p99", 2.0},
		{"idle_writes_per_minute", 0},
		{"plan_ipam_10k_ms", 50},
		{"plan_announce_10k_ms", 50},
		{"pool_fill_65k_ms", 200},
		{"alloc_10k_ratio", 1.10},
		{"writes_per_service", 1},
		{"controller_rss_mb_10k", 150},
		{"leader_takeover_ms", 17_000}, // the Lease, 15 s, and two more
		{"leader_takeover_over_lease_ms", 2000},
		{"alloc_latency_p99_over_api_ms", 50},
		{"l2_cable_cut_p50_ms", 500},
		{"l2_cable_cut_p99_ms", 1000},
		{"l2_freeze_p50_ms", 600},
		{"l2_kill_p50_ms", 500},
		{"l2_two_owner_ms_max", 100},
		{"l2_two_owner_healing_ms_max", 1000},
		{"l2_handover_failed_connections", 0},
		{"l2_false_moves_under_load", 0},
		{"api_requests_per_failover", 0},
		{"bgp_dead_node_p50_ms", 400},
		{"bgp_dead_node_max_ms", 600},
		{"bgp_announce_p99_ms", 150},
		{"bgp_burst_ratio_500", 1.10},
		{"bgp_full_table_10k_ms", 5000},
		{"bgp_drain_failed_connections", 0},
		{"bgp_upgrade_failed_connections", 0},
		{"bgp_session_resets_under_churn", 0},
		{"speaker_cpu_percent_idle", 1},
		{"speaker_cpu_percent_arp_storm", 5},
	}
}

// verdict says how a result compares with its target; missed is true if it does not reach it.
func verdict(r Result, targets []Target) (text string, missed bool) {
	for _, t := range targets {
		if t.Name != r.Name {
			continue
		}
		if r.Value > t.Max {
			return fmt.Sprintf("at most %s\tMISSED", number(t.Max)), true
		}
		return fmt.Sprintf("at most %s\tok", number(t.Max)), false
	}
	return "\t", false
}

// Table writes the results for people, and returns how many miss their target.
func Table(w io.Writer, results []Result, targets []Target) (missed int, err error) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tVALUE\tUNIT\tTARGET\t")
	for _, r := range results {
		text, miss := verdict(r, targets)
		if miss {
			missed++
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.Name, number(r.Value), r.Unit, text)
	}
	return missed, tw.Flush()
}

// number writes a value with as many digits as anybody wants to read.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v == float64(int64(v)):
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 3, 64), "0"), ".")
	}
}

// WriteJSON writes one line per result.
func WriteJSON(w io.Writer, results []Result) error {
	enc := json.NewEncoder(w)
	for _, r := range results {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}
