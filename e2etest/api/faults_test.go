// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// network is a bad way to the API server. Some requests that change something
// get no answer, although they are carried out, at once or much later; some
// get an error of the server.
type network struct {
	target *url.URL
	http   http.Transport
	late   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	dice   *rand.Rand
	counts map[string]int
}

// badNetwork returns how to reach the same API server in a bad way.
func badNetwork(t *testing.T, to *rest.Config, seed uint64) (*rest.Config, *network) {
	t.Helper()
	target, err := url.Parse(to.Host)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{
		target: target, dice: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{},
		http: http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, //nolint:gosec // its certificate is made at start
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &n.http,
		FlushInterval: -1, // watches
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	server := httptest.NewUnstartedServer(n.handler(proxy))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		n.late.Wait()
		n.http.CloseIdleConnections()
	})
	config := rest.CopyConfig(to)
	config.Host = server.URL
	return config, n
}

func (n *network) roll() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dice.IntN(100)
}

func (n *network) count(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[what]++
}

func (n *network) handler(proxy http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		matters := strings.HasSuffix(r.URL.Path, "/status") || strings.Contains(r.URL.Path, "/configmaps")
		if (r.Method != http.MethodPatch && r.Method != http.MethodPut) || !matters {
			proxy.ServeHTTP(w, r)
			return
		}
		switch x := n.roll(); {
		case x < 4:
			n.count("answers lost")
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case x < 7:
			n.count("requests late")
			n.later(r, time.Duration(n.roll()*40)*time.Millisecond)
			panic(http.ErrAbortHandler)
		case x < 9:
			n.count("requests lost")
			panic(http.ErrAbortHandler)
		case x < 11:
			n.count("errors")
			http.Error(w, "etcdserver: request timed out", http.StatusInternalServerError)
		default:
			proxy.ServeHTTP(w, r)
		}
	}
}

// later carries out a request when nobody waits for it any more.
func (n *network) later(r *http.Request, delay time.Duration) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	again := r.Clone(context.WithoutCancel(r.Context()))
	again.URL.Scheme, again.URL.Host, again.RequestURI = n.target.Scheme, n.target.Host, ""
	again.Body = io.NopCloser(bytes.NewReader(body))
	n.late.Go(func() {
		time.Sleep(delay)
		if resp, err := n.http.RoundTrip(again); err == nil {
			_ = resp.Body.Close()
		}
	})
}
