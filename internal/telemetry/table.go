// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Row is one series of a Table.
type Row struct {
	Labels []string // values, in the order of the table's label names
	Value  float64
}

// Table is a gauge whose series are replaced all at once: what is gone from
// the state is gone from the metric, and a scrape never sees half of a change.
type Table struct {
	desc *prometheus.Desc
	rows atomic.Pointer[[]Row]
}

func newTable(name, help string, labels ...string) *Table {
	return &Table{desc: prometheus.NewDesc(name, help, labels, nil)}
}

// Set replaces every series. The rows must differ in their labels, and must
// not be changed afterwards.
func (t *Table) Set(rows []Row) { t.rows.Store(&rows) }

// Rows returns the series, sorted by labels; for tests.
func (t *Table) Rows() []Row {
	p := t.rows.Load()
	if p == nil {
		return nil
	}
	rows := slices.Clone(*p)
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(strings.Join(a.Labels, "\x00"), strings.Join(b.Labels, "\x00"))
	})
	return rows
}

// Describe implements prometheus.Collector.
func (t *Table) Describe(ch chan<- *prometheus.Desc) { ch <- t.desc }

// Collect implements prometheus.Collector.
func (t *Table) Collect(ch chan<- prometheus.Metric) {
	p := t.rows.Load()
	if p == nil {
		return
	}
	for _, r := range *p {
		ch <- prometheus.MustNewConstMetric(t.desc, prometheus.GaugeValue, r.Value, r.Labels...)
	}
}
