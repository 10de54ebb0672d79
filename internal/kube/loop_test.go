// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/kube"
)

// recorder is a Sync that writes down when it was called, from the start of
// the test.
type recorder struct {
	start time.Time
	calls []time.Duration
	takes time.Duration
	again time.Duration
	err   error
}

func (r *recorder) sync(context.Context) (time.Duration, error) {
	r.calls = append(r.calls, time.Since(r.start))
	time.Sleep(r.takes)
	return r.again, r.err
}

// run runs a Loop during the given time. It must be called in a bubble.
func run(t *testing.T, r *recorder, o kube.LoopOptions, d time.Duration, script func(*kube.Loop)) []time.Duration {
	t.Helper()
	r.start = time.Now()
	o.Sync = r.sync
	l := kube.NewLoop(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	go script(l)
	time.Sleep(d)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	return r.calls
}

const ms = time.Millisecond

func TestLoopSettles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := run(t, &recorder{}, kube.LoopOptions{Interval: 40 * ms, Settle: 500 * ms}, 3*time.Second, func(l *kube.Loop) {
			for _, after := range []time.Duration{1000 * ms, 100 * ms, 399 * ms, 501 * ms} { // at 1000, 1100, 1499 and 2000
				time.Sleep(after)
				l.Poke()
			}
		})
		want := []time.Duration{0, 1500 * ms, 2500 * ms}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestLoopFirstEventAtOnceThenBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := run(t, &recorder{}, kube.LoopOptions{Interval: 40 * ms}, 1500*ms, func(l *kube.Loop) {
			time.Sleep(time.Second)
			for range 100 { // one event every ms
				l.Poke()
				time.Sleep(ms)
			}
		})
		want := []time.Duration{0, 1000 * ms, 1040 * ms, 1080 * ms, 1120 * ms}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestLoopBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := kube.LoopOptions{Interval: 40 * ms, Burst: 3}
		got := run(t, &recorder{takes: 5 * ms}, o, 1500*ms, func(l *kube.Loop) {
			time.Sleep(time.Second)
			for range 110 { // one event every ms
				l.Poke()
				time.Sleep(ms)
			}
			time.Sleep(60 * ms) // in which one more may be made
			for range 8 {
				l.Poke()
				time.Sleep(ms)
			}
		})
		want := []time.Duration{0, 1000 * ms, 1005 * ms, 1010 * ms, 1040 * ms, 1080 * ms, 1120 * ms, 1170 * ms, 1200 * ms}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

// TestLoopRests: calls that take long leave time to others, and the first event after a rest waits for nothing.
func TestLoopRests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		takes time.Duration
		want  []time.Duration
	}{
		{5 * ms, []time.Duration{0, 1000 * ms, 1040 * ms, 1080 * ms, 1120 * ms, 1160 * ms, 1200 * ms, 1400 * ms}}, // the interval is longer
		{20 * ms, []time.Duration{0, 1000 * ms, 1080 * ms, 1160 * ms, 1240 * ms, 1400 * ms}},
		{300 * ms, []time.Duration{0, 1000 * ms, 1800 * ms}}, // kube.MaxRest
	} {
		synctest.Test(t, func(t *testing.T) {
			o := kube.LoopOptions{Interval: 40 * ms, Rest: 3}
			got := run(t, &recorder{takes: tt.takes}, o, 2*time.Second, func(l *kube.Loop) {
				time.Sleep(time.Second)
				for range 170 { // one event every ms
					l.Poke()
					time.Sleep(ms)
				}
				time.Sleep(230 * ms)
				l.Poke()
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("a call takes %v (-want +got):\n%s", tt.takes, diff)
			}
		})
	}
}

func TestLoopEventDuringCallLeadsToOneMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := run(t, &recorder{takes: 200 * ms}, kube.LoopOptions{Interval: 40 * ms}, time.Second, func(l *kube.Loop) {
			time.Sleep(50 * ms)
			l.Poke()
			l.Poke()
		})
		if diff := cmp.Diff([]time.Duration{0, 200 * ms}, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestLoopRepairs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := run(t, &recorder{}, kube.LoopOptions{Repair: 10 * time.Minute}, 35*time.Minute, func(*kube.Loop) {})
		if len(got) != 4 {
			t.Fatalf("%d calls in 35 minutes, want 4: %v", len(got), got)
		}
		for i := 1; i < len(got); i++ {
			if d := got[i] - got[i-1]; d < 9*time.Minute || d > 10*time.Minute {
				t.Errorf("call %d came after %v, want 9 to 10 minutes", i, d)
			}
		}
	})
}

func TestLoopAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := run(t, &recorder{again: time.Second}, kube.LoopOptions{}, 2500*ms, func(*kube.Loop) {})
		if diff := cmp.Diff([]time.Duration{0, time.Second, 2 * time.Second}, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestLoopBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := kube.LoopOptions{RetryFirst: time.Second, RetryMax: 8 * time.Second}
		got := run(t, &recorder{err: errors.New("no")}, o, 36*time.Second, func(*kube.Loop) {})
		want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second, 8 * time.Second}
		if len(got) != len(want)+1 {
			t.Fatalf("%d calls, want %d: %v", len(got), len(want)+1, got)
		}
		for i, w := range want {
			d := got[i+1] - got[i]
			if d < w || d > w+w/10 {
				t.Errorf("retry %d after %v, want %v and up to 10%% more", i+1, d, w)
			}
		}
	})
}

func TestLoopEventDoesNotWaitForBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := kube.LoopOptions{RetryFirst: time.Minute}
		got := run(t, &recorder{err: errors.New("no")}, o, time.Second, func(l *kube.Loop) {
			time.Sleep(500 * ms)
			l.Poke()
		})
		if diff := cmp.Diff([]time.Duration{0, 500 * ms}, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestLoopLooksOftenWhileCachesAreNotSynced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{err: &kube.NotSyncedError{Missing: []string{"IPAddressPool.metallb.io"}}}
		got := run(t, r, kube.LoopOptions{RetryFirst: time.Second}, time.Minute, func(*kube.Loop) {})
		if len(got) < 50 {
			t.Errorf("%d calls in a minute, want about one a second", len(got))
		}
	})
}

// TestLoopServesSingleEvents: events that come one by one, 20 a second, wait for nothing but a call that is being made; in between, some
// calls ask for another one, for counters.
func TestLoopServesSingleEvents(t *testing.T) {
	t.Parallel()
	waits := func(burst int) (longest time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex // guards asked
			var asked []time.Time
			calls := 0
			o := kube.LoopOptions{Interval: 40 * ms, Burst: burst, Sync: func(context.Context) (time.Duration, error) {
				mu.Lock()
				for _, at := range asked {
					longest = max(longest, time.Since(at))
				}
				asked = nil
				mu.Unlock()
				time.Sleep(15 * ms)
				if calls++; calls%20 == 0 {
					return 45 * ms, nil
				}
				return 0, nil
			}}
			l := kube.NewLoop(o)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			for range 600 {
				time.Sleep(50 * ms)
				mu.Lock()
				asked = append(asked, time.Now())
				mu.Unlock()
				l.Poke()
			}
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return longest
	}
	if with, without := waits(4), waits(1); with > 15*ms || without <= 15*ms {
		t.Errorf("the longest wait is %v, at one call in an interval %v; want at most 15ms, and more", with, without)
	}
}
