// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/heraldlb/herald/internal/core/lb"
)

// PlanView is what /debug/plan shows: the last snapshot and what was made of
// it.
type PlanView struct {
	At       time.Time
	Snapshot *lb.Snapshot
	Plan     any
	// Problems are those of configuration objects.
	Problems any `json:",omitempty"`
	// State is whatever else explains what the program does, such as who owns
	// which address.
	State any `json:",omitempty"`
}

// PlanPage holds the last PlanView. The zero value is ready for use.
type PlanPage struct {
	// HostOnly answers only to clients on the same host: for a program on the
	// host's network, where everybody could ask.
	HostOnly bool

	last atomic.Pointer[func() PlanView]
}

// Set replaces the view. The function is called when somebody looks, from
// another goroutine; what it returns must not change afterwards.
func (p *PlanPage) Set(view func() PlanView) { p.last.Store(&view) }

// ServeHTTP implements http.Handler.
func (p *PlanPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.HostOnly && !fromThisHost(r) {
		http.Error(w, "only for clients on this node", http.StatusForbidden)
		return
	}
	last := p.last.Load()
	if last == nil {
		http.Error(w, "there is no plan yet", http.StatusServiceUnavailable)
		return
	}
	view := (*last)()
	view.Snapshot = redact(view.Snapshot)
	b, err := json.MarshalIndent(view, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the reader went away.
	_, _ = w.Write(append(b, '\n'))
}

// fromThisHost reports whether the client is on this host: it comes from the
// loopback address, or from the very address that it called.
func fromThisHost(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	if from.Addr().Unmap().IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == from.Addr().Unmap()
}

// redact returns s without passwords.
func redact(s *lb.Snapshot) *lb.Snapshot {
	if s == nil {
		return nil
	}
	out := *s
	out.Peers = slices.Clone(s.Peers)
	for i := range out.Peers {
		if out.Peers[i].Password != "" {
			out.Peers[i].Password = "(not shown)"
		}
	}
	return &out
}

// Pages returns the handler of the metrics port: /metrics and /debug/plan.
func Pages(r *prometheus.Registry, plan *PlanPage) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/plan", plan)
	return mux
}

// Profiles returns the handler of net/http/pprof, for an address of its own:
// profiles show more than everyone on the network should see.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// Serve answers HTTP on the address until ctx is done.
func Serve(ctx context.Context, address string, h http.Handler) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", address, err)
	}
	return nil
}
