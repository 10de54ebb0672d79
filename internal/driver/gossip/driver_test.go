// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/driver/gossip"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// member is a running driver, and all that it told.
type member struct {
	*gossip.Driver
	name lb.NodeName
	stop func()

	mu     sync.Mutex
	events []gossip.Event
	news   chan struct{}
}

type option func(*gossip.Config)

// testLog writes to the test's output until the test ends: memberlist may log
// once more after that.
type testLog struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func newTestLog(t *testing.T) *testLog {
	l := &testLog{out: t.Output()}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.out = io.Discard
	})
	return l
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func run(t *testing.T, name lb.NodeName, options ...option) *member {
	t.Helper()
	cfg := gossip.Config{
		NodeName: name,
		BindAddr: netip.MustParseAddr("127.0.0.1"),
		Label:    t.Name(),
		Secrets:  [][]byte{[]byte("secret of the group")},
		Logger:   slog.New(slog.NewTextHandler(newTestLog(t), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, o := range options {
		o(&cfg)
	}
	d, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{Driver: d, name: name, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for e := range d.Events() {
			m.mu.Lock()
			m.events = append(m.events, e)
			m.mu.Unlock()
			select {
			case m.news <- struct{}{}:
			default:
			}
		}
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run %s: %v", name, err)
		}
		<-collected
	})
	t.Cleanup(m.stop)
	d.Set(gossip.Wanted{State: []byte("state of " + name)})
	m.until(t, "listening", func() bool { return d.State().Addr.IsValid() })
	return m
}

// until waits until ok, or fails the test.
func (m *member) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-m.news:
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%s: waited in vain for: %s; state %+v", m.name, what, m.State())
		}
	}
}

func (m *member) has(is func(gossip.Event) bool) func() bool {
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.ContainsFunc(m.events, is)
	}
}

func (m *member) count(is func(gossip.Event) bool) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, e := range m.events {
		if is(e) {
			n++
		}
	}
	return n
}

func (m *member) want(peers ...*member) {
	w := gossip.Wanted{State: []byte("state of " + m.name)}
	for _, p := range peers {
		w.Peers = append(w.Peers, p.State().Addr)
	}
	m.Set(w)
}

func (m *member) sees(others ...*member) func() bool {
	return func() bool {
		members := m.State().Members
		for _, o := range others {
			if !slices.Contains(members, gossip.Member{Node: o.name, Addr: o.State().Addr}) {
				return false
			}
		}
		return len(members) == len(others)
	}
}

func up(name lb.NodeName) func(gossip.Event) bool {
	return func(e gossip.Event) bool { return e.Kind == gossip.MemberUp && e.Node == name }
}

func downC(left bool) func(gossip.Event) bool {
	return func(e gossip.Event) bool {
		return e.Kind == gossip.MemberDown && e.Node == "c" && e.Left == left
	}
}

func message(text string) func(gossip.Event) bool {
	return func(e gossip.Event) bool { return e.Kind == gossip.Message && string(e.Data) == text }
}

func state(text string) func(gossip.Event) bool {
	return func(e gossip.Event) bool { return e.Kind == gossip.FullState && string(e.Data) == text }
}

// trio starts three members that know each other.
func trio(t *testing.T) (a, b, c *member) {
	t.Helper()
	a, b, c = run(t, "a"), run(t, "b"), run(t, "c")
	a.want(b, c)
	b.want(a, c)
	c.want(a, b)
	a.until(t, "b and c", a.sees(b, c))
	b.until(t, "a and c", b.sees(a, c))
	c.until(t, "a and b", c.sees(a, b))
	return a, b, c
}

// TestGroup follows a group of three through joining, news, and leaving.
func TestGroup(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	for _, m := range []*member{a, b, c} {
		for _, o := range []*member{a, b, c} {
			if m != o {
				m.until(t, "up of "+string(o.name), m.has(up(o.name)))
				m.until(t, "state of "+string(o.name), m.has(state("state of "+string(o.name))))
			}
		}
		if !m.State().Joined {
			t.Errorf("%s does not say that it has joined", m.name)
		}
	}

	start := time.Now()
	a.Send([]byte("hello"))
	long := strings.Repeat("long ", 1000)
	a.Send([]byte(long))
	for _, m := range []*member{b, c} {
		m.until(t, "hello", m.has(message("hello")))
		m.until(t, "a message longer than a packet", m.has(message(long)))
	}
	t.Logf("two messages took %v", time.Since(start).Round(time.Millisecond))

	c.stop()
	a.until(t, "c having left", a.has(downC(true)))
	b.until(t, "c having left", b.has(downC(true)))

	// Gossip repeats messages; each is reported once all the same.
	for _, m := range []*member{b, c} {
		if n := m.count(message("hello")); n != 1 {
			t.Errorf("%s got the message %d times", m.name, n)
		}
	}
	if n := a.count(message("hello")); n != 0 {
		t.Errorf("a got its own message")
	}
}

// TestRejoin lets a member come back under its name with another address.
func TestRejoin(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	c.stop()
	a.until(t, "c having left", a.has(downC(true)))
	again := run(t, "c")
	again.want(a, b)
	a.until(t, "the new c", a.sees(b, again))
	b.until(t, "the new c", b.sees(a, again))
	again.Send([]byte("back"))
	a.until(t, "back", a.has(message("back")))
}

// TestPeerComesLater keeps trying a wanted peer that does not run yet.
func TestPeerComesLater(t *testing.T) {
	t.Parallel()
	a := run(t, "a")
	late := run(t, "b")
	addr := late.State().Addr
	late.stop()
	a.Set(gossip.Wanted{Peers: []netip.AddrPort{addr}, State: []byte("state of a")})
	a.until(t, "an error that names the peer", func() bool { return strings.Contains(a.State().Error, addr.String()) })
	b := run(t, "b", func(c *gossip.Config) { c.BindPort = addr.Port() })
	a.until(t, "b", a.sees(b))
	b.until(t, "the state of a", b.has(state("state of a")))
	if e := a.State().Error; e != "" {
		a.until(t, "no error any more", func() bool { return a.State().Error == "" })
	}
}

// TestResync trades states on demand.
func TestResync(t *testing.T) {
	t.Parallel()
	a, b, _ := trio(t)
	b.Set(gossip.Wanted{Peers: []netip.AddrPort{a.State().Addr}, State: []byte("newer state of b")})
	a.Resync()
	a.until(t, "the newer state", a.has(state("newer state of b")))
}

// TestStrangers keeps out who has another secret or another label.
func TestStrangers(t *testing.T) {
	t.Parallel()
	a, b := run(t, "a"), run(t, "b")
	a.want(b)
	a.until(t, "b", a.sees(b))
	wrongKey := run(t, "x", func(c *gossip.Config) { c.Secrets = [][]byte{[]byte("guessed")} })
	wrongLabel := run(t, "y", func(c *gossip.Config) { c.Label = "another cluster" })
	for _, m := range []*member{wrongKey, wrongLabel} {
		m.want(a, b)
		m.until(t, "an error", func() bool { return strings.Contains(m.State().Error, "cannot join") })
		m.Send([]byte("let me in"))
		if s := m.State(); len(s.Members) != 0 || s.Joined {
			t.Errorf("%s is in: %+v", m.name, s)
		}
	}
	if !a.sees(b)() || !b.sees(a)() || a.has(message("let me in"))() {
		t.Errorf("strangers are in: %+v", a.State())
	}
}

// TestNewSecret lets members with a new secret talk to those that still use the
// old one, as long as both know both.
func TestNewSecret(t *testing.T) {
	t.Parallel()
	older, newer := []byte("older"), []byte("newer")
	a := run(t, "a", func(c *gossip.Config) { c.Secrets = [][]byte{older, newer} })
	b := run(t, "b", func(c *gossip.Config) { c.Secrets = [][]byte{newer, older} })
	a.want(b)
	a.until(t, "b", a.sees(b))
	b.Send([]byte("with the newer one"))
	a.until(t, "the message", a.has(message("with the newer one")))
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := gossip.Config{NodeName: "a", Secrets: [][]byte{[]byte("s")}, Logger: slog.New(slog.DiscardHandler)}
	tests := []struct {
		name   string
		change func(*gossip.Config)
		want   string
	}{
		{"good", func(*gossip.Config) {}, ""},
		{"no name", func(c *gossip.Config) { c.NodeName = "" }, "node name is empty"},
		{"no logger", func(c *gossip.Config) { c.Logger = nil }, "logger is missing"},
		{"no secret", func(c *gossip.Config) { c.Secrets = nil }, "refuse to run without a secret"},
		{"an empty secret", func(c *gossip.Config) { c.Secrets = [][]byte{{}} }, "a secret is empty"},
		{"plaintext on purpose", func(c *gossip.Config) { c.Secrets, c.Plaintext = nil, true }, ""},
		{"long label", func(c *gossip.Config) { c.Label = strings.Repeat("l", 256) }, "longer than 255"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			_, err := gossip.New(cfg)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("New: %q, want %q", got, tt.want)
			}
		})
	}
}

// TestPortTaken reports a port that is in use.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	a := run(t, "a")
	d, err := gossip.New(gossip.Config{
		NodeName: "b", BindAddr: a.State().Addr.Addr(), BindPort: a.State().Addr.Port(), Plaintext: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Run(t.Context())
	if want := fmt.Sprint("start gossip on 127.0.0.1 port ", a.State().Addr.Port()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v, want %q in it", err, want)
	}
}
