// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestLongestGap(t *testing.T) {
	t.Parallel()
	at := func(ms ...int) (ts []time.Time) {
		for _, m := range ms {
			ts = append(ts, time.Unix(0, 0).Add(time.Duration(m)*time.Millisecond))
		}
		return ts
	}
	for name, tc := range map[string]struct {
		answers []time.Time
		want    time.Duration
	}{
		"no answer":            {nil, 0},
		"one answer":           {at(7), 0},
		"steady":               {at(0, 5, 10, 15), 5 * time.Millisecond},
		"one gap":              {at(0, 5, 905, 910), 900 * time.Millisecond},
		"the longest of two":   {at(0, 300, 310, 700), 390 * time.Millisecond},
		"answers out of order": {at(905, 0, 910, 5), 900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := LongestGap(tc.answers).Duration(); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	values := []int{50, 15, 40, 20, 35}
	for p, want := range map[float64]int{0: 15, 5: 15, 30: 20, 40: 20, 50: 35, 99: 50, 100: 50} {
		if got := Percentile(values, p); got != want {
			t.Errorf("percentile %v of %v is %d, want %d", p, values, got, want)
		}
	}
	if got := Percentile([]int(nil), 50); got != 0 {
		t.Errorf("percentile of nothing is %d, want 0", got)
	}
}

func here(fn func() error) error { return fn() }

func TestTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := l.Addr().(*net.TCPAddr).AddrPort()
	s := Start(t.Context(), NewTCP(target, time.Millisecond, here))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.WaitAnswers(ctx, 20); err != nil {
		t.Fatal(err)
	}

	// Nobody listens for a while: that is the longest gap.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, _, refused := s.Counts(); refused < 300; _, _, refused = s.Counts() {
		if ctx.Err() != nil {
			t.Fatal("connections are not refused after the listener is gone")
		}
		time.Sleep(time.Millisecond)
	}
	if l, err = net.Listen("tcp", target.String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.WaitAnswers(ctx, 20); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	tried, accepted, refused := s.Counts()
	// 300 refused connections, one a millisecond at most.
	if g := s.Longest().Duration(); g < 250*time.Millisecond {
		t.Errorf("longest gap %v is shorter than the time without a listener (%d tried, %d accepted, %d refused)",
			g, tried, accepted, refused)
	}
}

// TestTCPCut: a connection that is accepted and reset at once was accepted, whenever the prober looks.
func TestTCPCut(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	s := Start(t.Context(), NewTCP(l.Addr().(*net.TCPAddr).AddrPort(), time.Millisecond, here))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for s.Cut() < 3 {
		if err := s.WaitAnswers(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, refused := s.Counts(); s.Failed() != 0 || refused != 0 {
		t.Errorf("%d failed, %d were refused, want none", s.Failed(), refused)
	}
}

func TestTCPNeverAnswered(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := Start(t.Context(), NewTCP(netip.MustParseAddrPort("127.0.0.1:1"), time.Millisecond, here))
	if err := s.WaitAnswers(ctx, 1); err == nil {
		t.Error("want an error when nothing is accepted")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
