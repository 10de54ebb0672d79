// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Defaults of LoopOptions.
const (
	DefaultInterval   = 40 * time.Millisecond
	DefaultRepair     = 10 * time.Minute
	DefaultRetryFirst = 200 * time.Millisecond
	DefaultRetryMax   = 30 * time.Second
)

// MaxRest is the longest rest of LoopOptions.Rest.
const MaxRest = 500 * time.Millisecond

// LoopOptions configures a Loop. Only Sync is required.
type LoopOptions struct {
	// Sync reads, plans and writes. It is never called twice at once. A nil
	// error with a positive duration asks for another call that much later,
	// an error for a retry with growing delay.
	Sync func(ctx context.Context) (again time.Duration, err error)
	// Interval is the shortest time between the starts of two calls, if Burst
	// is 1, which is the default. After a while without calls, up to Burst of
	// them may follow each other at once: who changes one thing now and then
	// need not wait because of a call before; many changes still become few
	// calls, one in an Interval.
	Interval time.Duration
	Burst    int
	// Rest bounds the share of the time that calls take: after one, none begins
	// for that many times as long as it took, MaxRest at most, also if the
	// Interval is over. So the work of many events leaves others their time, however much
	// a call has to do. The first event after a rest is served at once.
	Rest int
	// Settle is how long to wait after an event before the call that it leads
	// to, so that what follows closely is part of it. 0: not at all.
	Settle time.Duration
	// Repair is the longest time without a call; each wait is 0 to 10 % shorter,
	// so that replicas and nodes spread out.
	Repair time.Duration
	// RetryFirst and RetryMax bound the delay after an error.
	RetryFirst, RetryMax time.Duration
	// Logger gets one line when an error appears, changes, or is gone.
	Logger *slog.Logger
}

// Loop is a queue with one key: it calls Sync at once for the first event (or
// when that has settled), then at most once per Interval (but see Burst), so that a burst of
// events becomes a few calls. An event during a call leads to one more call.
type Loop struct {
	opts LoopOptions
	wake chan struct{} // capacity 1: a second event before the call adds nothing
	rand *rand.Rand

	failures int
	lastErr  string
	// owed is when the calls made so far would be over at one per Interval.
	owed time.Time
}

// NewLoop returns a Loop; nothing runs before Run.
func NewLoop(o LoopOptions) *Loop {
	if o.Sync == nil {
		panic("kube: loop without Sync")
	}
	o.Interval = orDefault(o.Interval, DefaultInterval)
	o.Burst = max(o.Burst, 1)
	o.Repair = orDefault(o.Repair, DefaultRepair)
	o.RetryFirst = orDefault(o.RetryFirst, DefaultRetryFirst)
	o.RetryMax = orDefault(o.RetryMax, DefaultRetryMax)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Loop{
		opts: o,
		wake: make(chan struct{}, 1),
		rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Poke says that something changed. It never blocks and may be called from
// any goroutine, also before Run.
func (l *Loop) Poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run calls Sync until ctx is done. The first call is immediate.
func (l *Loop) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		started := time.Now()
		again := l.call(ctx)
		if !sleep(ctx, time.Until(l.next(started, time.Now()))) {
			break
		}
		timer := time.NewTimer(again - time.Since(started))
		select {
		case <-ctx.Done():
		case <-l.wake:
			sleep(ctx, l.opts.Settle)
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// next returns when the call after one that began and ended then may begin.
func (l *Loop) next(started, ended time.Time) time.Time {
	if l.owed.Before(started) {
		l.owed = started
	}
	l.owed = l.owed.Add(l.opts.Interval)
	next := l.owed.Add(-time.Duration(l.opts.Burst-1) * l.opts.Interval)
	rested := ended.Add(min(time.Duration(l.opts.Rest)*ended.Sub(started), MaxRest))
	if rested.After(next) {
		return rested
	}
	return next
}

// call runs Sync once and returns how long to wait, from the start of the
// call, for the next one if no event comes.
func (l *Loop) call(ctx context.Context) time.Duration {
	// An event that is already waiting is covered by this call, because the
	// caches are read after this point.
	select {
	case <-l.wake:
	default:
	}
	again, err := l.opts.Sync(ctx)
	if err != nil && ctx.Err() != nil {
		return 0 // shutting down; the error is only that
	}
	l.report(err)
	if err == nil {
		l.failures = 0
		if again > 0 {
			return again
		}
		return l.opts.Repair - time.Duration(l.rand.Int64N(int64(l.opts.Repair)/10+1))
	}
	delay := min(l.opts.RetryFirst<<min(l.failures, 20), l.opts.RetryMax)
	l.failures++
	if errors.As(err, new(*NotSyncedError)) {
		// Nothing was sent to the server, so looking again costs nothing.
		delay = min(delay, time.Second)
	}
	return delay + time.Duration(l.rand.Int64N(int64(delay)/10+1))
}

func (l *Loop) report(err error) {
	switch {
	case err == nil && l.lastErr != "":
		l.lastErr = ""
		l.opts.Logger.Info("recovered")
	case startingUp(err):
		l.opts.Logger.Debug("not ready yet", "error", err)
	case err != nil && err.Error() != l.lastErr:
		l.lastErr = err.Error()
		l.opts.Logger.Warn("nothing more is done until this is solved; trying again", "error", err)
	}
}

// startingUp reports whether err only says that lists are on their way.
func startingUp(err error) bool {
	var ns *NotSyncedError
	return errors.As(err, &ns) && len(ns.Missing) == 0
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
